//! Time as an argument: the system's clock, and one that tests turn by hand.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

/// What the product knows of time. Leases use both readings and end at whichever comes first.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump.
    fn now(&self) -> Timestamp;
    /// Time since boot, suspend included: never jumps back (`CLOCK_BOOTTIME`, clock_gettime(2)).
    fn since_boot(&self) -> Duration;
    /// Ends after `pause` on this clock.
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's own clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(pause))
    }
}

/// A clock that stands still until it is told to move. For tests and drills.
#[derive(Clone)]
pub struct ManualClock {
    time: Arc<Mutex<(Timestamp, Duration)>>,
    moved: watch::Sender<Duration>,
}

impl ManualClock {
    /// Stands at `start`, an hour after boot.
    pub fn at(start: Timestamp) -> Self {
        let boot = Duration::from_secs(3600);
        Self { time: Arc::new(Mutex::new((start, boot))), moved: watch::Sender::new(boot) }
    }

    /// Moves both readings forward and wakes whoever slept until then.
    pub fn advance(&self, by: Duration) {
        let boot = {
            let mut time = self.time.lock().expect("no holder panics");
            time.0 += jiff::SignedDuration::try_from(by).expect("a test's pause fits");
            time.1 += by;
            time.1
        };
        self.moved.send_replace(boot);
    }

    /// Sets the wall clock alone, as an administrator or NTP would.
    pub fn jump_to(&self, now: Timestamp) {
        self.time.lock().expect("no holder panics").0 = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.time.lock().expect("no holder panics").0
    }

    fn since_boot(&self) -> Duration {
        self.time.lock().expect("no holder panics").1
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        let until = self.since_boot() + pause;
        let mut moved = self.moved.subscribe();
        Box::pin(async move {
            // An error means that the clock is gone, and with it the test.
            let _ = moved.wait_for(|now| *now >= until).await;
        })
    }
}
