//! The 8 header bytes, the register of kinds, and the tuple encoding. `docs/format.md` is the authority; this file follows it.

use crate::instance_key::InstanceKeyId;
use crate::seal::OpenError;

pub(crate) const HEADER_LEN: usize = 8;

const MAGIC: [u8; 4] = *b"SRME";
const FORMAT: u8 = 1;
/// C2SP chunked-encryption, AEAD_AES_256_GCM, HKDF-Expand-SHA-512.
const SUITE: u8 = 1;
const FLAGS: u8 = 0;

/// What a blob is, as its header says. The numbers are stored for ever: never reused, never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    Overview = 0x01,
    Details = 0x02,
    Attachment = 0x03,
    DataKeyWrap = 0x10,
    VaultKeyWrap = 0x11,
    CloudKekWrap = 0x20,
    ProviderCredential = 0x21,
    MemberCredential = 0x22,
    NoticeCredential = 0x23,
    LogKey = 0x24,
    Backup = 0x30,
    /// Reserved: registered, never written, never opened.
    Recipient = 0x40,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Overview,
        Self::Details,
        Self::Attachment,
        Self::DataKeyWrap,
        Self::VaultKeyWrap,
        Self::CloudKekWrap,
        Self::ProviderCredential,
        Self::MemberCredential,
        Self::NoticeCredential,
        Self::LogKey,
        Self::Backup,
        Self::Recipient,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether blobs of this kind carry the id of the instance key after the header.
    pub(crate) fn names_instance_key(self) -> bool {
        match self {
            Self::CloudKekWrap
            | Self::ProviderCredential
            | Self::MemberCredential
            | Self::NoticeCredential
            | Self::LogKey
            | Self::Backup => true,
            Self::Overview
            | Self::Details
            | Self::Attachment
            | Self::DataKeyWrap
            | Self::VaultKeyWrap
            | Self::Recipient => false,
        }
    }

    pub(crate) fn header(self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = MAGIC;
        [a, b, c, d, FORMAT, SUITE, self as u8, FLAGS]
    }
}

/// The kind that the header of `blob` names, and what follows the header. Every unknown value fails.
pub(crate) fn read_header(blob: &[u8]) -> Result<(Kind, &[u8]), OpenError> {
    let (header, rest) = blob.split_first_chunk::<HEADER_LEN>().ok_or(OpenError::TooShort { found: blob.len() })?;
    let [a, b, c, d, format, suite, kind, flags] = *header;
    if [a, b, c, d] != MAGIC {
        return Err(OpenError::BadMagic);
    }
    if format != FORMAT {
        return Err(OpenError::UnknownFormat(format));
    }
    if suite != SUITE {
        return Err(OpenError::UnknownSuite(suite));
    }
    let kind = Kind::from_number(kind).ok_or(OpenError::UnknownKind(kind))?;
    if flags != FLAGS {
        return Err(OpenError::UnknownFlags(flags));
    }
    Ok((kind, rest))
}

/// A tuple under construction: fields one after the other, each with its presence and its length.
///
/// `absent = 00`, `present = 01 ‖ length(4, big-endian) ‖ bytes`; so absent ≠ empty, and no two tuples encode alike.
pub(crate) struct Tuple(Vec<u8>);

impl Tuple {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(160))
    }

    /// The context of a seal: the header, the instance key's id if there is one, then the kind's own fields.
    pub(crate) fn context(kind: Kind, instance_key: Option<InstanceKeyId>) -> Self {
        let mut tuple = Self::new();
        tuple.0.extend_from_slice(&kind.header());
        match instance_key {
            Some(id) => tuple.bytes(&id.0),
            None => tuple,
        }
    }

    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        let len = u32::try_from(value.len()).expect("a field is a column of a row, and no database holds 4 GiB in one");
        self.0.push(1);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn optional(mut self, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.bytes(value),
            None => {
                self.0.push(0);
                self
            }
        }
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }
}
