//! The instance key: 32 bytes outside of the database, with an 8-byte id. Several may be loaded, one is current.
//!
//! ```text
//! subkey(purpose) = HKDF-Expand-SHA-512(prk = instance key, info = "strongroom/instance/1/" ‖ purpose), 32 bytes
//! id              = the first 8 bytes of subkey("id")
//! key file        = "srmik1-" ‖ hex(id) ‖ "-" ‖ hex(key), one a line, the current one first
//! ```
//!
//! As the id follows from the key, it is also the checksum of what someone typed from a paper copy.

use std::fmt;

use zeroize::Zeroizing;

use crate::chunked::hkdf_expand;
use crate::key::Secret32;
use crate::random::{Random, RandomFailed};

const INFO: &[u8] = b"strongroom/instance/1/";
const FILE_PREFIX: &str = "srmik1-";

/// Names an instance key. Not secret; every MAC and every seal under an instance key carries it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKeyId(pub [u8; 8]);

impl fmt::Display for InstanceKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InstanceKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceKeyId({self})")
    }
}

/// One instance key. Never used directly: everything is done with a subkey for one purpose.
pub struct InstanceKey {
    id: InstanceKeyId,
    secret: Secret32,
}

impl InstanceKey {
    /// A new key of 32 random bytes.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomFailed> {
        Secret32::generate(random).map(Self::from_secret)
    }

    /// Its public name, which follows from the key.
    pub fn id(&self) -> InstanceKeyId {
        self.id
    }

    /// The line that goes into the key file, newline included. Whoever has it has the key.
    pub fn to_key_file(&self) -> Zeroizing<String> {
        let mut key = Zeroizing::new([0; 64]);
        hex::encode_to_slice(self.secret.expose(), key.as_mut()).expect("64 digits hold 32 bytes");
        let key = std::str::from_utf8(key.as_ref()).expect("hex digits are ASCII");
        // Reserved at once, since growing would leave a copy behind.
        let mut line = Zeroizing::new(String::with_capacity(FILE_PREFIX.len() + 16 + 1 + 64 + 1));
        line.push_str(FILE_PREFIX);
        line.push_str(&self.id.to_string());
        line.push('-');
        line.push_str(key);
        line.push('\n');
        line
    }

    /// Reads a key file that holds one key; see [`InstanceKeys::parse_key_file`].
    pub fn parse_key_file(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = key_lines(text);
        let (first, line) = keys.next().ok_or(KeyFileError::Empty)?;
        match keys.next() {
            None => parse_line(first, line),
            Some((_, line)) => Err(KeyFileError::SecondKey { line }),
        }
    }

    pub(crate) fn subkey(&self, purpose: &str) -> Secret32 {
        derive(&self.secret, purpose)
    }

    fn from_secret(secret: Secret32) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&derive(&secret, "id").expose()[..8]);
        Self { id: InstanceKeyId(id), secret }
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceKey({}, ..)", self.id)
    }
}

/// The instance keys that are loaded: the current one seals and makes MACs, all of them open and verify.
#[derive(Debug)]
pub struct InstanceKeys {
    current: InstanceKey,
    older: Vec<InstanceKey>,
}

impl InstanceKeys {
    /// `older` are the keys that a rotation left in use; one that is given twice counts once.
    pub fn new(current: InstanceKey, older: Vec<InstanceKey>) -> Self {
        let mut keys = Self { current, older: Vec::with_capacity(older.len()) };
        for key in older {
            if keys.get(key.id()).is_none() {
                keys.older.push(key);
            }
        }
        keys
    }

    /// Reads a key file: one key a line, the current one first; empty lines and lines that begin with `#` are skipped.
    pub fn parse_key_file(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = key_lines(text).map(|(text, line)| parse_line(text, line));
        let current = keys.next().ok_or(KeyFileError::Empty)??;
        Ok(Self::new(current, keys.collect::<Result<_, _>>()?))
    }

    /// The one that seals and makes MACs.
    pub fn current(&self) -> &InstanceKey {
        &self.current
    }

    /// The loaded key of this id, current or older.
    pub fn get(&self, id: InstanceKeyId) -> Option<&InstanceKey> {
        self.iter().find(|key| key.id() == id)
    }

    /// All loaded keys, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &InstanceKey> {
        std::iter::once(&self.current).chain(&self.older)
    }
}

/// Why a key file was refused. Lines count from one, columns too; nothing of the key is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    #[error("the instance key file holds no key; a key is one line that begins with srmik1-")]
    Empty,
    #[error("line {line} of the instance key file does not begin with srmik1-; is it the right file?")]
    Prefix { line: usize },
    #[error(
        "line {line} of the instance key file has {found} characters instead of 88; part of the key is missing or doubled"
    )]
    Length { line: usize, found: usize },
    #[error("line {line} of the instance key file has a character in column {column} that does not belong there")]
    Character { line: usize, column: usize },
    #[error(
        "line {line} of the instance key file is mistyped: its id does not follow from its key; compare it with the offline copy"
    )]
    Checksum { line: usize },
    #[error("line {line} of the instance key file holds a second key where one is expected")]
    SecondKey { line: usize },
}

fn derive(secret: &Secret32, purpose: &str) -> Secret32 {
    let mut subkey = Secret32::zeroed();
    hkdf_expand(secret.expose(), &[INFO, purpose.as_bytes()], subkey.as_mut());
    subkey
}

/// The lines that hold keys, with their numbers.
fn key_lines(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.lines().map(str::trim).zip(1..).filter(|(text, _)| !text.is_empty() && !text.starts_with('#'))
}

fn parse_line(text: &str, line: usize) -> Result<InstanceKey, KeyFileError> {
    let digits = text.strip_prefix(FILE_PREFIX).ok_or(KeyFileError::Prefix { line })?.as_bytes();
    if digits.len() != 16 + 1 + 64 {
        return Err(KeyFileError::Length { line, found: text.chars().count() });
    }
    let misplaced = |&(index, byte): &(usize, &u8)| match index {
        16 => *byte != b'-',
        _ => !byte.is_ascii_hexdigit(),
    };
    if let Some((index, _)) = digits.iter().enumerate().find(misplaced) {
        return Err(KeyFileError::Character { line, column: FILE_PREFIX.len() + index + 1 });
    }
    let mut id = [0; 8];
    let mut secret = Secret32::zeroed();
    hex::decode_to_slice(&digits[..16], &mut id).expect("16 hex digits, as checked above");
    hex::decode_to_slice(&digits[17..], secret.as_mut()).expect("64 hex digits, as checked above");
    let key = InstanceKey::from_secret(secret);
    if key.id != InstanceKeyId(id) {
        return Err(KeyFileError::Checksum { line });
    }
    Ok(key)
}
