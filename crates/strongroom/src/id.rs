//! Identifiers: UUIDv7 (RFC 9562), each noun its own type, so that a vault's id never stands where an item's belongs.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_envelope::Random;
use uuid::Uuid;

use crate::error::{Error, Result};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id that sorts by `now`. Fails only when the random source does.
            pub fn generate(now: Timestamp, random: &dyn Random) -> Result<Self> {
                uuid_v7(now, random).map(Self)
            }

            /// The 16 bytes that contexts, MACs and rows carry.
            pub fn bytes(&self) -> [u8; 16] {
                *self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    WorkspaceId,
    MemberId,
    VaultId,
    ProviderId,
    ItemId,
    DataKeyId,
    SessionId,
    TokenId,
    ExportId,
    LinkId,
    JobId,
    NoticeId,
    WebhookId,
    BackupId,
    EventId,
    /// One unwrapped vault key in this process's memory.
    LeaseId,
    /// One machine's identity, kept beside its instance key.
    NodeId,
    /// One writer of one start of the server: the owner of one chain of audit events.
    BootId,
    /// One name of the instance's Merkle log; a restore begins another.
    OriginId,
}

fn uuid_v7(now: Timestamp, random: &dyn Random) -> Result<Uuid> {
    let mut tail = [0u8; 10];
    random.fill(&mut tail).map_err(|_| Error::random())?;
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ok(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
}
