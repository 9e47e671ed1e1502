//! Content under a key: seal, open, and the commitment that names one sealing.
//!
//! ```text
//! blob    = header(8) ‖ [instance key id(8)] ‖ salt(24) ‖ commitment(32) ‖ chunks
//! context = header(8) ‖ [instance key id] ‖ the kind's tuple
//! ```
//!
//! The key's type decides which contexts it seals: a [`DataKey`] takes [`Context`], [`InstanceKeys`] take
//! [`InstanceContext`], and a vault key or a Cloud KEK seals no content at all.

use std::fmt;

use crate::chunked::{self, COMMITMENT_LEN, ChunkedError, SALT_LEN};
use crate::context::{HEADER_LEN, Kind, Tuple, read_header};
use crate::instance_key::{InstanceKeyId, InstanceKeys};
use crate::key::{DataKey, Plaintext, Secret32};
use crate::place::ItemPlace;
use crate::random::{Random, RandomFailed};

/// Seals `plaintext` for one place. Every call draws a new salt, so two seals of the same content share nothing.
///
/// The blob is `80 + len + 16 · ⌊len / 16384⌋` bytes, and 8 more under an instance key.
pub fn seal<K: ContentKey>(
    key: &K,
    context: &K::Context,
    plaintext: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, RandomFailed> {
    key.seal_content(context, plaintext, random)
}

/// Opens a blob in the place that it was sealed for; anywhere else, or changed in any bit, it fails.
pub fn open<K: ContentKey>(key: &K, context: &K::Context, blob: &[u8]) -> Result<Plaintext, OpenError> {
    key.open_content(context, blob)
}

/// The commitment of a blob, read from its bytes without a key.
///
/// It names one sealing: it follows from key, place and salt, and each sealing has a salt of its own. Whoever opens the
/// blob checks it. So an authentic list of commitments says which blobs belong together.
pub fn commitment(blob: &[u8]) -> Result<Commitment, OpenError> {
    let too_short = || OpenError::TooShort { found: blob.len() };
    let (kind, rest) = read_header(blob)?;
    let key_id_len = if kind.names_instance_key() { KEY_ID_LEN } else { 0 };
    let rest = rest.get(key_id_len + SALT_LEN..).ok_or_else(too_short)?;
    rest.first_chunk::<COMMITMENT_LEN>().copied().map(Commitment).ok_or_else(too_short)
}

/// The instance key under which a blob lies, read from its bytes without a key; None for what lies under another key.
pub fn instance_key_of(blob: &[u8]) -> Result<Option<InstanceKeyId>, OpenError> {
    let (kind, rest) = read_header(blob)?;
    if !kind.names_instance_key() {
        return Ok(None);
    }
    let id = rest.first_chunk().ok_or(OpenError::TooShort { found: blob.len() })?;
    Ok(Some(InstanceKeyId(*id)))
}

/// The place of content under a data key. Also its kind: the same place has one context a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// What lists and search need of a revision.
    Overview(ItemPlace),
    /// The rest of a revision.
    Details(ItemPlace),
    /// One attachment; `place.revision` is the revision that it came with.
    Attachment { place: ItemPlace, attachment: [u8; 16] },
}

/// The place of content under the instance key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceContext {
    /// A provider's client secret or certificate key.
    ProviderCredential { workspace: [u8; 16], provider: [u8; 16], credential: [u8; 16] },
    /// A member's TOTP secret.
    MemberCredential { workspace: [u8; 16], member: [u8; 16] },
    /// A webhook's or SMTP server's credential; without a workspace it is the whole server's.
    NoticeCredential { workspace: Option<[u8; 16]>, channel: [u8; 16] },
    /// A part of a backup, counted from zero.
    Backup { backup: [u8; 16], part: u64 },
}

/// A key that seals content of some kinds: [`DataKey`] and [`InstanceKeys`]. No others can be added.
pub trait ContentKey: sealed::ContentKey {}
impl ContentKey for DataKey {}
impl ContentKey for InstanceKeys {}

/// Names one sealing of one blob; see [`commitment`]. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commitment(pub [u8; 32]);

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitment({self})")
    }
}

/// Why a blob did not open, or a wrapped key did not unwrap. One variant a fault; nothing of the content is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the sealed value is too short to be one ({found} bytes): it was cut off, or is something else")]
    TooShort { found: usize },
    #[error("this is no sealed value of Strongroom: it does not begin with SRME")]
    BadMagic,
    #[error("the sealed value has format {0}, which this build does not know; a newer build wrote it")]
    UnknownFormat(u8),
    #[error("the sealed value has suite {0}, which this build does not know; a newer build wrote it")]
    UnknownSuite(u8),
    #[error("the sealed value has kind {0:#04x}, which this build does not know; a newer build wrote it")]
    UnknownKind(u8),
    #[error("the sealed value has flags {0:#04x}, which this build does not know; a newer build wrote it")]
    UnknownFlags(u8),
    #[error("the sealed value is of kind {found:?} where {expected:?} belongs: it was moved from another slot")]
    WrongKind { expected: Kind, found: Kind },
    #[error("the sealed value needs instance key {0}, which is not loaded; add it to the instance key file")]
    UnknownInstanceKey(InstanceKeyId),
    #[error(
        "the sealed value was made with another key or for another place: it was moved, or the ids of its row were changed"
    )]
    CommitmentMismatch,
    #[error("the sealed value is truncated: its last chunk is missing or cut; restore it from a backup")]
    Truncated,
    #[error("chunk {chunk} of the sealed value is damaged or was changed; restore it from a backup")]
    ChunkAuthentication { chunk: u64 },
    #[error("the wrapped key is authentic but not 32 bytes long; another program made it")]
    WrongKeyLength,
}

/// The purpose of the instance subkey that seals.
const SEAL_PURPOSE: &str = "seal";
const KEY_ID_LEN: usize = 8;

pub(crate) fn seal_under(
    key: &Secret32,
    context: &Tuple,
    instance_key: Option<InstanceKeyId>,
    plaintext: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, RandomFailed> {
    let mut salt = [0; SALT_LEN];
    random.fill(&mut salt)?;
    let key_id = instance_key.as_ref().map_or(&[][..], |id| &id.0);
    let prefix_len = HEADER_LEN + key_id.len();
    let mut blob = vec![0; prefix_len + chunked::sealed_len(plaintext.len())];
    blob[..HEADER_LEN].copy_from_slice(&context.as_slice()[..HEADER_LEN]);
    blob[HEADER_LEN..prefix_len].copy_from_slice(key_id);
    chunked::seal(key.expose(), &salt, context.as_slice(), plaintext, &mut blob[prefix_len..]);
    Ok(blob)
}

/// Opens `blob` if its header is sound and names the kind that belongs here.
pub(crate) fn open_under(key: &Secret32, kind: Kind, context: &Tuple, blob: &[u8]) -> Result<Plaintext, OpenError> {
    let too_short = OpenError::TooShort { found: blob.len() };
    let key_id_len = if kind.names_instance_key() { KEY_ID_LEN } else { 0 };
    let sealed = body_of(blob, kind)?.get(key_id_len..).ok_or(too_short)?;
    chunked::open(key.expose(), context.as_slice(), sealed).map_err(|fault| match fault {
        ChunkedError::TooShort => too_short,
        ChunkedError::CommitmentMismatch => OpenError::CommitmentMismatch,
        ChunkedError::Truncated => OpenError::Truncated,
        ChunkedError::Chunk(chunk) => OpenError::ChunkAuthentication { chunk },
    })
}

/// Seals under the current instance key. `tuple` gets the id of the key, which the context begins with.
pub(crate) fn seal_under_instance(
    keys: &InstanceKeys,
    tuple: impl FnOnce(InstanceKeyId) -> Tuple,
    plaintext: &[u8],
    random: &dyn Random,
) -> Result<Vec<u8>, RandomFailed> {
    let key = keys.current();
    seal_under(&key.subkey(SEAL_PURPOSE), &tuple(key.id()), Some(key.id()), plaintext, random)
}

/// Opens under the instance key that the blob names.
pub(crate) fn open_under_instance(
    keys: &InstanceKeys,
    kind: Kind,
    tuple: impl FnOnce(InstanceKeyId) -> Tuple,
    blob: &[u8],
) -> Result<Plaintext, OpenError> {
    let id = body_of(blob, kind)?.first_chunk().ok_or(OpenError::TooShort { found: blob.len() })?;
    let id = InstanceKeyId(*id);
    let key = keys.get(id).ok_or(OpenError::UnknownInstanceKey(id))?;
    open_under(&key.subkey(SEAL_PURPOSE), kind, &tuple(id), blob)
}

/// What follows the header of `blob`, if that is sound and of the kind that belongs here.
fn body_of(blob: &[u8], expected: Kind) -> Result<&[u8], OpenError> {
    match read_header(blob)? {
        (found, body) if found == expected => Ok(body),
        (found, _) => Err(OpenError::WrongKind { expected, found }),
    }
}

impl Context {
    fn kind(&self) -> Kind {
        match self {
            Self::Overview(_) => Kind::Overview,
            Self::Details(_) => Kind::Details,
            Self::Attachment { .. } => Kind::Attachment,
        }
    }

    fn tuple(&self) -> Tuple {
        let (place, attachment) = match self {
            Self::Overview(place) | Self::Details(place) => (place, None),
            Self::Attachment { place, attachment } => (place, Some(attachment)),
        };
        let tuple = Tuple::context(self.kind(), None)
            .bytes(&place.workspace)
            .bytes(&place.vault)
            .bytes(&place.item)
            .bytes(&place.data_key)
            .u64(place.revision);
        match attachment {
            Some(attachment) => tuple.bytes(attachment),
            None => tuple,
        }
    }
}

impl InstanceContext {
    fn kind(&self) -> Kind {
        match self {
            Self::ProviderCredential { .. } => Kind::ProviderCredential,
            Self::MemberCredential { .. } => Kind::MemberCredential,
            Self::NoticeCredential { .. } => Kind::NoticeCredential,
            Self::Backup { .. } => Kind::Backup,
        }
    }

    fn tuple(&self, instance_key: InstanceKeyId) -> Tuple {
        let tuple = Tuple::context(self.kind(), Some(instance_key));
        match self {
            Self::ProviderCredential { workspace, provider, credential } => {
                tuple.bytes(workspace).bytes(provider).bytes(credential)
            }
            Self::MemberCredential { workspace, member } => tuple.bytes(workspace).bytes(member),
            Self::NoticeCredential { workspace, channel } => {
                tuple.optional(workspace.as_ref().map(|id| &id[..])).bytes(channel)
            }
            Self::Backup { backup, part } => tuple.bytes(backup).u64(*part),
        }
    }
}

mod sealed {
    use super::*;

    pub trait ContentKey {
        /// The places whose content this key seals.
        type Context;

        fn seal_content(
            &self,
            context: &Self::Context,
            plaintext: &[u8],
            random: &dyn Random,
        ) -> Result<Vec<u8>, RandomFailed>;

        fn open_content(&self, context: &Self::Context, blob: &[u8]) -> Result<Plaintext, OpenError>;
    }

    impl ContentKey for DataKey {
        type Context = Context;

        fn seal_content(
            &self,
            context: &Context,
            plaintext: &[u8],
            random: &dyn Random,
        ) -> Result<Vec<u8>, RandomFailed> {
            seal_under(&self.0, &context.tuple(), None, plaintext, random)
        }

        fn open_content(&self, context: &Context, blob: &[u8]) -> Result<Plaintext, OpenError> {
            open_under(&self.0, context.kind(), &context.tuple(), blob)
        }
    }

    impl ContentKey for InstanceKeys {
        type Context = InstanceContext;

        fn seal_content(
            &self,
            context: &InstanceContext,
            plaintext: &[u8],
            random: &dyn Random,
        ) -> Result<Vec<u8>, RandomFailed> {
            seal_under_instance(self, |id| context.tuple(id), plaintext, random)
        }

        fn open_content(&self, context: &InstanceContext, blob: &[u8]) -> Result<Plaintext, OpenError> {
            open_under_instance(self, context.kind(), |id| context.tuple(id), blob)
        }
    }
}
