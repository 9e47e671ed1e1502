//! Rate limits of sign-in, the bounds on password hashing and on checks, and the count of failures that the audit log
//! takes.
//!
//! A try is taken from its buckets before anything is looked up and given back when it was right, so that a hundred
//! guesses at once are a hundred guesses. Right ones have a wide bucket of their own: each writes rows. Per process:
//! several nodes allow as many times as much.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use strongroom_envelope::digest;
use tokio::sync::Semaphore;

use crate::{
    error::{Error, Result},
    id::MemberId,
    vault::Checks,
};

/// Password hashes at once: each takes 19 MiB and a core.
const HASHES: usize = 2;
/// Requests that may wait for their turn to hash.
const WAITING: usize = 64;

/// How many tries at once, and how long until one more.
#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    refill: Duration,
}

/// One network's tries at one account.
const PER_PAIR: Rate = Rate { burst: 10, refill: Duration::from_secs(30) };
/// Everybody's tries at one account: wide, since a stranger who empties it makes the member wait.
const PER_ACCOUNT: Rate = Rate { burst: 100, refill: Duration::from_secs(6) };
/// Tries of a member who is signed in and proves it again; no stranger reaches this one.
const PER_MEMBER: Rate = Rate { burst: 10, refill: Duration::from_secs(30) };
/// Right passwords: each writes a session or token, and an event.
const SUCCESSES: Rate = Rate { burst: 30, refill: Duration::from_secs(10) };
const PER_ADDRESS: Rate = Rate { burst: 50, refill: Duration::from_secs(6) };
/// Guesses at six digits, by somebody who has the password: 288 a day, a chance of one in a thousand.
const PER_CODE: Rate = Rate { burst: 5, refill: Duration::from_secs(300) };
/// Events of failed sign-ins: an address writes 60 an hour, all together 1,200; nobody fills the disk from outside.
const EVENTS_PER_ADDRESS: Rate = Rate { burst: 60, refill: Duration::from_secs(60) };
const EVENTS: Rate = Rate { burst: 1200, refill: Duration::from_secs(3) };
/// Events of what a member asked for and may not do: 60 an hour; the next one counts the others.
const REFUSALS: Rate = Rate { burst: 60, refill: Duration::from_secs(60) };
/// One event an account in this time; what happens in between is counted into the next one.
const EVENT_PAUSE: Duration = Duration::from_secs(60);

/// What sign-in remembers in memory only.
pub struct Guard {
    hashes: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    state: Mutex<State>,
    /// The checks of keys that run now.
    pub(crate) checks: Checks,
}

#[derive(Default)]
struct State {
    buckets: HashMap<Key, Bucket>,
    failures: HashMap<[u8; 32], Failures>,
    /// Failures that no event has told of yet, because the log was capped.
    untold: u64,
    /// The same for what members were refused.
    refusals: HashMap<MemberId, u64>,
    /// Number of buckets at which full ones are dropped.
    sweep_at: usize,
}

/// Whose bucket it is. Accounts by digest: the address may have been typed by a stranger.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Account([u8; 32]),
    Pair([u8; 32], IpAddr),
    Again([u8; 32]),
    Success([u8; 32]),
    Code([u8; 32]),
    Address(IpAddr),
    EventsOf(IpAddr),
    Events,
    Refusals(MemberId),
}

/// A try that was taken: to be given back when it was right.
#[must_use]
pub(super) struct Try(Vec<Key>);

struct Bucket {
    left: u32,
    /// When (since boot) `left` was true.
    at: Duration,
}

struct Failures {
    told_at: Duration,
    untold: u64,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl Guard {
    pub fn new() -> Self {
        let state = State { sweep_at: 1024, ..State::default() };
        Self {
            hashes: Arc::new(Semaphore::new(HASHES)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            state: Mutex::new(state),
            checks: Checks::default(),
        }
    }

    /// Takes one try at an account's password, `account` being what was typed; `now` is time since boot.
    pub(super) fn take(&self, account: &str, address: IpAddr, now: Duration) -> Result<Try> {
        let (account, network) = (digest(account.as_bytes()), network(address));
        self.state().look(Key::Success(account), now)?;
        self.take_all(vec![Key::Address(network), Key::Pair(account, network), Key::Account(account)], now)
    }

    /// Takes one try of a member who is signed in. What strangers try from anywhere is not counted against it.
    pub(super) fn take_again(&self, account: &str, now: Duration) -> Result<Try> {
        let account = digest(account.as_bytes());
        self.state().look(Key::Success(account), now)?;
        self.take_all(vec![Key::Again(account)], now)
    }

    /// Gives a try back, and takes one right password of the account instead.
    pub(super) fn succeeded(&self, attempt: Try, account: &str, now: Duration) -> Result<()> {
        self.give_back(attempt);
        self.state().take(Key::Success(digest(account.as_bytes())), now)
    }

    /// Takes one try at an account's code.
    pub(super) fn take_code(&self, account: &str, address: IpAddr, now: Duration) -> Result<Try> {
        self.take_all(vec![Key::Address(network(address)), Key::Code(digest(account.as_bytes()))], now)
    }

    /// Gives a try back: it was right.
    pub(super) fn give_back(&self, attempt: Try) {
        let mut state = self.state();
        attempt.0.into_iter().for_each(|key| state.give_back(key));
    }

    /// Counts what a member was refused. When it is time for an event, returns how many refusals it stands for.
    pub(crate) fn refused(&self, member: MemberId, now: Duration) -> Option<u64> {
        let mut state = self.state();
        if state.take(Key::Refusals(member), now).is_err() {
            *state.refusals.entry(member).or_default() += 1;
            return None;
        }
        Some(state.refusals.remove(&member).unwrap_or(0) + 1)
    }

    /// Counts a failed sign-in. When it is time for an event, returns how many failures that event stands for.
    pub(super) fn failed(&self, account: &str, address: IpAddr, now: Duration) -> Option<u64> {
        let account = digest(account.as_bytes());
        let mut state = self.state();
        if state.failures.len() >= 1024 {
            state.fold(now);
        }
        if let Some(failures) = state.failures.get_mut(&account)
            && now < failures.told_at + EVENT_PAUSE
        {
            failures.untold += 1;
            return None;
        }
        let before = state.failures.remove(&account).map_or(0, |failures| failures.untold);
        let of_address = Key::EventsOf(network(address));
        if state.take(of_address, now).is_err() || state.take(Key::Events, now).is_err() {
            state.untold += before + 1;
            return None;
        }
        let untold = std::mem::take(&mut state.untold);
        state.failures.insert(account, Failures { told_at: now, untold: 0 });
        Some(untold + before + 1)
    }

    /// Failures that were counted and told by no event, for the next one. They count no more afterwards.
    pub(super) fn untold(&self, now: Duration) -> u64 {
        let mut state = self.state();
        state.fold(now);
        std::mem::take(&mut state.untold)
    }

    /// Runs `work` on the blocking pool when it is its turn. It goes on, and keeps its turn, when nobody waits any more.
    pub(crate) async fn hashing<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Error::TooMany(2))?;
        let turn = Arc::clone(&self.hashes).acquire_owned().await.expect("the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        task.await.map_err(|_| Error::integrity("member.task", "a password hash ended in a panic"))
    }

    /// Takes from all of `keys` or from none.
    fn take_all(&self, keys: Vec<Key>, now: Duration) -> Result<Try> {
        let mut state = self.state();
        for (taken, key) in keys.iter().enumerate() {
            if let Err(refusal) = state.take(*key, now) {
                keys[..taken].iter().for_each(|key| state.give_back(*key));
                return Err(refusal);
            }
        }
        Ok(Try(keys))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl State {
    fn take(&mut self, key: Key, now: Duration) -> Result<()> {
        self.look(key, now)?.left -= 1;
        Ok(())
    }

    /// The bucket, if there is something in it.
    fn look(&mut self, key: Key, now: Duration) -> Result<&mut Bucket> {
        self.sweep(now);
        let rate = key.rate();
        let bucket = self.buckets.entry(key).or_insert(Bucket { left: rate.burst, at: now });
        bucket.refill(rate, now);
        if bucket.left == 0 {
            let wait = (bucket.at + rate.refill).saturating_sub(now);
            return Err(Error::TooMany(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        Ok(bucket)
    }

    fn give_back(&mut self, key: Key) {
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.left = (bucket.left + 1).min(key.rate().burst);
        }
    }

    /// Forgets accounts whose minute is over; what no event told of them goes to the common count.
    fn fold(&mut self, now: Duration) {
        let Self { failures, untold, .. } = self;
        failures.retain(|_, failures| {
            let over = now >= failures.told_at + EVENT_PAUSE;
            *untold += if over { failures.untold } else { 0 };
            !over
        });
    }

    /// Drops full buckets, each time that the number of buckets has doubled.
    fn sweep(&mut self, now: Duration) {
        if self.buckets.len() < self.sweep_at {
            return;
        }
        self.buckets.retain(|key, bucket| {
            let rate = key.rate();
            bucket.refill(rate, now);
            bucket.left < rate.burst
        });
        self.sweep_at = (self.buckets.len() * 2).max(1024);
    }
}

impl Key {
    fn rate(self) -> Rate {
        match self {
            Self::Account(_) => PER_ACCOUNT,
            Self::Pair(..) => PER_PAIR,
            Self::Again(_) => PER_MEMBER,
            Self::Success(_) => SUCCESSES,
            Self::Code(_) => PER_CODE,
            Self::Address(_) => PER_ADDRESS,
            Self::EventsOf(_) => EVENTS_PER_ADDRESS,
            Self::Events => EVENTS,
            Self::Refusals(_) => REFUSALS,
        }
    }
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: Duration) {
        let passed = now.saturating_sub(self.at).as_millis() / rate.refill.as_millis();
        let more = u32::try_from(passed).unwrap_or(u32::MAX);
        if more >= rate.burst - self.left {
            (self.left, self.at) = (rate.burst, now);
        } else {
            self.left += more;
            self.at += rate.refill * more;
        }
    }
}

/// Whom to hold liable for an address: in IPv6 whoever has one address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const SECOND: Duration = Duration::from_secs(1);

    fn elsewhere(n: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, n])
    }

    #[test]
    fn the_eleventh_try_from_one_network_at_an_account_waits() {
        let (guard, now) = (Guard::new(), SECOND);
        for _ in 0..10 {
            let _ = guard.take("ada@example.com", HERE, now).expect("within the burst");
        }
        let refusal = guard.take("ada@example.com", HERE, now).err().expect("the bucket is empty");
        assert!(matches!(refusal, Error::TooMany(30)), "{refusal:?}");
        let _ = guard.take("bob@example.com", HERE, now).expect("another account");
        let _ = guard.take("ada@example.com", elsewhere(1), now).expect("another network");
        let _ = guard.take("ada@example.com", HERE, now + SECOND * 30).expect("one has come back");
        assert!(guard.take("ada@example.com", HERE, now + SECOND * 31).is_err());
    }

    #[test]
    fn many_networks_together_make_an_account_wait_but_nobody_who_is_signed_in() {
        let guard = Guard::new();
        for n in 0..100 {
            let _ = guard.take("ada@example.com", elsewhere(n), SECOND).expect("within the burst");
        }
        assert!(matches!(guard.take("ada@example.com", HERE, SECOND), Err(Error::TooMany(6))));
        for _ in 0..10 {
            let _ = guard.take_again("ada@example.com", SECOND).expect("a bucket of its own");
        }
        assert!(matches!(guard.take_again("ada@example.com", SECOND), Err(Error::TooMany(30))));
    }

    #[test]
    fn an_address_that_tries_many_accounts_waits() {
        let guard = Guard::new();
        for n in 0..50 {
            let _ = guard.take(&format!("{n}@example.com"), HERE, SECOND).expect("within the burst");
        }
        assert!(matches!(guard.take("ada@example.com", HERE, SECOND), Err(Error::TooMany(6))));
        let _ = guard.take("ada@example.com", elsewhere(1), SECOND).expect("another address");
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_bucket() {
        let guard = Guard::new();
        for n in 0..50 {
            let address: IpAddr = format!("2001:db8:1:2::{n:x}").parse().expect("an address");
            let _ = guard.take(&format!("{n}@example.com"), address, SECOND).expect("within the burst");
        }
        let neighbour = "2001:db8:1:2:ffff::1".parse().expect("an address");
        assert!(guard.take("ada@example.com", neighbour, SECOND).is_err());
    }

    #[test]
    fn who_is_right_thirty_times_at_once_waits_and_nobody_else_does() {
        let guard = Guard::new();
        for _ in 0..30 {
            let attempt = guard.take("ada@example.com", HERE, SECOND).expect("given back each time");
            guard.succeeded(attempt, "ada@example.com", SECOND).expect("within the burst");
        }
        assert!(matches!(guard.take("ada@example.com", elsewhere(1), SECOND), Err(Error::TooMany(10))));
        assert!(matches!(guard.take_again("ada@example.com", SECOND), Err(Error::TooMany(10))));
        let _ = guard.take("bob@example.com", HERE, SECOND).expect("another account");
        let _ = guard.take("ada@example.com", HERE, SECOND * 11).expect("one has come back");
    }

    #[test]
    fn a_member_has_sixty_events_of_refusals_and_the_next_counts_the_rest() {
        let (guard, member) = (Guard::new(), MemberId(uuid::Uuid::nil()));
        let told = (0..100).filter_map(|_| guard.refused(member, SECOND)).collect::<Vec<_>>();
        assert_eq!(told, [1; 60]);
        assert_eq!(guard.refused(MemberId(uuid::Uuid::max()), SECOND), Some(1), "another member");
        assert_eq!(guard.refused(member, SECOND * 61), Some(41));
        assert_eq!(guard.refused(member, SECOND * 62), None);
    }

    #[test]
    fn an_account_has_one_event_a_minute_and_it_counts_the_others() {
        let guard = Guard::new();
        assert_eq!(guard.failed("ada@example.com", HERE, SECOND), Some(1));
        for n in 2..10 {
            assert_eq!(guard.failed("ada@example.com", HERE, SECOND * n), None);
        }
        assert_eq!(guard.failed("ada@example.com", HERE, SECOND * 61), Some(9));
        assert_eq!(guard.failed("ada@example.com", HERE, SECOND * 62), None);
        assert_eq!(guard.untold(SECOND * 63), 0, "its minute is not over");
        assert_eq!(guard.untold(SECOND * 121), 1);
        assert_eq!(guard.untold(SECOND * 122), 0, "told once");
    }

    #[test]
    fn one_address_writes_sixty_events_and_the_rest_is_counted() {
        let guard = Guard::new();
        let told = (0..100).filter_map(|n| guard.failed(&format!("{n}@example.com"), HERE, SECOND)).count();
        assert_eq!(told, 60);
        assert_eq!(guard.failed("ada@example.com", elsewhere(1), SECOND), Some(41));
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let guard = Guard::new();
        for n in 0..5000u32 {
            let address = IpAddr::from(n.to_be_bytes());
            // Each comes an hour after the other, so that all before are full again.
            let _ = guard.take(&n.to_string(), address, SECOND * 3600 * n).expect("within the burst");
        }
        assert!(guard.state().buckets.len() <= 1030);
    }
}
