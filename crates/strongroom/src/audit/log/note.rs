//! Checkpoints as text: a C2SP tlog-checkpoint (c2sp.org/tlog-checkpoint) in a C2SP signed note (c2sp.org/signed-note),
//! so that tools of others read and verify them.
//!
//! ```text
//! strongroom/0198…-…            the origin
//! 1234                          events in the tree
//! base64(root, 32 bytes)
//!
//! — strongroom/0198…-… base64(key id(4) ‖ Ed25519 signature(64) of the lines above the empty one)
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use strongroom_envelope::{LogKey, LogPublicKey, digest};
use tlog_tiles::Hash;

use crate::id::OriginId;

const PREFIX: &str = "strongroom/";
const SIGNATURE_MARK: &str = "\u{2014} ";
/// Ed25519 in signed notes.
const ALGORITHM: u8 = 1;

/// A tree head with its signatures, which nobody has verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// `strongroom/` and the origin's id.
    pub origin: String,
    /// Events in the tree.
    pub size: u64,
    pub root: [u8; 32],
    note: String,
}

/// What the holder of a checkpoint verifies it with, as `name+hash+key`: C2SP's text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    pub name: String,
    pub key: LogPublicKey,
}

/// This text is not a checkpoint in a signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no checkpoint: it should be a signed note with an origin, a size and a root hash")]
pub struct NotACheckpoint;

/// This text is not a public key of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key of a log; it looks like strongroom/ID+HASH+KEY, as `strongroom audit key` prints it")]
pub struct NotAVerifierKey;

/// The name of an origin, as checkpoints say it.
pub fn origin_name(id: OriginId) -> String {
    format!("{PREFIX}{id}")
}

/// The origin that a name is of, if it is one of ours.
pub(super) fn origin_id(name: &str) -> Option<OriginId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

impl Checkpoint {
    /// Signs the head of a tree.
    pub fn sign(origin: OriginId, size: u64, root: [u8; 32], key: &LogKey) -> Self {
        let origin = origin_name(origin);
        let head = tlog_tiles::Checkpoint::new(&origin, size, Hash(root), "").expect("our origins are not empty");
        let text = String::from_utf8(head.to_bytes()).expect("it is made of text");
        let signed = [&key_id(&origin, &key.public())[..], &key.sign(text.as_bytes())].concat();
        let note = format!("{text}\n{SIGNATURE_MARK}{origin} {}\n", BASE64_STANDARD.encode(signed));
        Self { origin, size, root, note }
    }

    /// The whole signed note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Whether `key` signed it under its origin's name.
    pub fn is_signed_by(&self, key: &LogPublicKey) -> bool {
        let Some((text, signatures)) = parts(&self.note) else { return false };
        let id = key_id(&self.origin, key);
        signatures.lines().filter_map(|line| line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')).any(
            |(name, signed)| {
                let signed = BASE64_STANDARD.decode(signed).unwrap_or_default();
                let signature = signed.strip_prefix(&id);
                name == self.origin && signature.is_some_and(|signature| key.verifies(text.as_bytes(), signature))
            },
        )
    }
}

impl FromStr for Checkpoint {
    type Err = NotACheckpoint;

    fn from_str(note: &str) -> Result<Self, NotACheckpoint> {
        let (text, signatures) = parts(note).ok_or(NotACheckpoint)?;
        let marked = |line: &str| line.starts_with(SIGNATURE_MARK);
        if signatures.is_empty() || !signatures.ends_with('\n') || !signatures.lines().all(marked) {
            return Err(NotACheckpoint);
        }
        let head = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).map_err(|_| NotACheckpoint)?;
        Ok(Self { origin: head.origin().to_owned(), size: head.size(), root: head.hash().0, note: note.to_owned() })
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64_STANDARD.encode([&[ALGORITHM][..], &self.key.0].concat());
        write!(f, "{}+{}+{key}", self.name, hex::encode(key_id(&self.name, &self.key)))
    }
}

impl FromStr for VerifierKey {
    type Err = NotAVerifierKey;

    fn from_str(text: &str) -> Result<Self, NotAVerifierKey> {
        // The key is base64, which has `+` among its digits.
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NotAVerifierKey);
        };
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| NotAVerifierKey)?;
        let key = bytes.strip_prefix(&[ALGORITHM]).and_then(|key| key.try_into().ok()).map(LogPublicKey);
        let found = Self { name: name.to_owned(), key: key.ok_or(NotAVerifierKey)? };
        let same = hash == hex::encode(key_id(name, &found.key));
        if same && !name.is_empty() { Ok(found) } else { Err(NotAVerifierKey) }
    }
}

/// What is signed, with its last line feed, and the lines of signatures.
fn parts(note: &str) -> Option<(&str, &str)> {
    let end = note.rfind("\n\n")?;
    Some((&note[..=end], &note[end + 2..]))
}

fn key_id(name: &str, key: &LogPublicKey) -> [u8; 4] {
    let named = digest(&[name.as_bytes(), b"\n", &[ALGORITHM], &key.0].concat());
    [named[0], named[1], named[2], named[3]]
}

#[cfg(test)]
mod tests {
    use signed_note::{Note, StandardVerifier, VerifierList};
    use strongroom_envelope::SystemRandom;
    use uuid::Uuid;

    use super::*;

    fn signed() -> (LogKey, Checkpoint) {
        let key = LogKey::generate(&SystemRandom::new()).expect("the system gives randomness");
        let checkpoint = Checkpoint::sign(OriginId(Uuid::from_u128(7)), 1234, digest(b"root"), &key);
        (key, checkpoint)
    }

    #[test]
    fn a_checkpoint_is_read_back_and_verified() {
        let (key, checkpoint) = signed();
        let read: Checkpoint = checkpoint.note().parse().expect("our own text");
        assert_eq!(read, checkpoint);
        assert_eq!((read.size, read.root), (1234, digest(b"root")));
        assert!(read.is_signed_by(&key.public()));
        assert!(!read.is_signed_by(&signed().0.public()), "another key");
        let altered: Checkpoint =
            checkpoint.note().replace("\n1234\n", "\n1233\n").parse().expect("still a checkpoint");
        assert!(!altered.is_signed_by(&key.public()), "another size");
    }

    #[test]
    fn somebody_elses_program_verifies_it() {
        let (key, checkpoint) = signed();
        let text = VerifierKey { name: checkpoint.origin.clone(), key: key.public() }.to_string();
        assert_eq!(text.parse::<VerifierKey>().expect("our own text").key, key.public());
        let verifier = StandardVerifier::new(&text).expect("a key as C2SP writes it");
        let note = Note::from_bytes(checkpoint.note().as_bytes()).expect("a note as C2SP writes it");
        let (good, unknown) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).expect("a good signature");
        assert_eq!((good.len(), unknown.len()), (1, 0));
        assert_eq!(note.text(), parts(checkpoint.note()).expect("two parts").0.as_bytes());
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let (_, checkpoint) = signed();
        let note = checkpoint.note();
        for text in ["", "\n\n", "strongroom/x\n1\n", &note[..note.len() - 1], &note.replace("1234", "01234")] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text:?}");
        }
        for text in ["", "a+b+c", "strongroom/x+00000000+AQ==", "+00000000+AQ=="] {
            assert!(text.parse::<VerifierKey>().is_err(), "{text:?}");
        }
    }
}
