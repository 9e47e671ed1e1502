//! Bearer secrets: sessions, API tokens, one-time links. Whoever holds one is taken for whom it names.
//!
//! ```text
//! secret = prefix ‖ base64url(id of the member it speaks for (16) ‖ end, Unix ms, big-endian (8) ‖ random (32))
//! stored = token_mac(secret), see docs/format.md
//! ```
//!
//! The MAC vouches for the secret's own bytes and for no other column of its row. So what decides is inside: whom it
//! speaks for, until when, and by its prefix what for. A database writer who points his own session's row at another
//! member, makes a join link's row one for a reset, or moves the end of an old one, has gained nothing.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use strongroom_envelope::{InstanceKeys, Mac, Random, TokenKind, token_mac, token_macs_all_keys};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    id::MemberId,
    secret_text::SecretText,
};

/// What a bearer secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearer {
    Session,
    ApiToken,
    Setup,
    Join,
    Reset,
    /// The password was right, the code is awaited.
    Ticket,
}

const MEMBER: usize = 16;
const END: usize = 8;
const BODY: usize = MEMBER + END + 32;

impl Bearer {
    fn prefix(self) -> &'static str {
        match self {
            Self::Session => "srs_",
            Self::ApiToken => "srm_",
            Self::Setup => "srl_setup_",
            Self::Join => "srl_join_",
            Self::Reset => "srl_reset_",
            Self::Ticket => "srl_code_",
        }
    }

    fn kind(self) -> TokenKind {
        match self {
            Self::Session => TokenKind::Session,
            Self::ApiToken => TokenKind::ApiToken,
            Self::Setup | Self::Join | Self::Reset | Self::Ticket => TokenKind::Link,
        }
    }

    /// The word in `links.purpose`.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::ApiToken => "token",
            Self::Setup => "setup",
            Self::Join => "join",
            Self::Reset => "reset",
            Self::Ticket => "code",
        }
    }

    /// A fresh secret for `member` (none: nobody exists yet), good until `expires_at`, and what to store in its place.
    pub(super) fn mint(
        self,
        member: Option<MemberId>,
        expires_at: Timestamp,
        keys: &InstanceKeys,
        random: &dyn Random,
    ) -> Result<(SecretText, [u8; Mac::LEN])> {
        let mut body = Zeroizing::new([0u8; BODY]);
        body[..MEMBER].copy_from_slice(member.map_or(Uuid::nil(), |member| member.0).as_bytes());
        body[MEMBER..MEMBER + END].copy_from_slice(&expires_at.as_millisecond().to_be_bytes());
        random.fill(&mut body[MEMBER + END..]).map_err(|_| Error::random())?;
        let mut text = Zeroizing::new(String::with_capacity(self.prefix().len() + BODY.div_ceil(3) * 4));
        text.push_str(self.prefix());
        BASE64_URL_SAFE_NO_PAD.encode_string(body.as_ref(), &mut text);
        let mac = token_mac(keys, self.kind(), text.as_bytes()).to_bytes();
        Ok((SecretText::from(text), mac))
    }

    /// Whom `text` speaks for and what its row may hold, one candidate a loaded instance key. `None` when it is no
    /// secret of this kind; whether it was ever given out, the row tells.
    pub(super) fn read(self, text: &str, keys: &InstanceKeys) -> Option<Presented> {
        let encoded = text.strip_prefix(self.prefix())?;
        let mut body = Zeroizing::new([0u8; BODY]);
        let length = BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, body.as_mut()).ok()?;
        let (member, rest) = body.get(..length).filter(|body| body.len() == BODY)?.split_first_chunk::<MEMBER>()?;
        let (end, _) = rest.split_first_chunk::<END>()?;
        let expires_at = Timestamp::from_millisecond(i64::from_be_bytes(*end)).ok()?;
        let macs = token_macs_all_keys(keys, self.kind(), text.as_bytes());
        let macs = macs.iter().map(Mac::to_bytes).collect();
        Some(Presented { member: MemberId(Uuid::from_bytes(*member)), expires_at, macs })
    }
}

/// A bearer secret that somebody showed.
pub(super) struct Presented {
    pub(super) member: MemberId,
    /// Whatever its row says, it is good no longer than this.
    pub(super) expires_at: Timestamp,
    pub(super) macs: Vec<[u8; Mac::LEN]>,
}

impl Presented {
    /// What is stored for it under the current instance key.
    pub(super) fn newest(&self) -> [u8; Mac::LEN] {
        // One for each loaded key, the current one's first.
        self.macs[0]
    }
}

#[cfg(test)]
mod tests {
    use strongroom_envelope::{InstanceKey, SystemRandom};

    use super::*;

    #[test]
    fn a_secret_reads_back_as_its_own_kind_only() {
        let random = SystemRandom::new();
        let keys = InstanceKeys::new(InstanceKey::generate(&random).expect("random"), vec![]);
        let member = MemberId(Uuid::from_bytes([7; 16]));
        let end = Timestamp::from_millisecond(1_772_355_600_123).expect("a time");
        let (text, mac) = Bearer::Ticket.mint(Some(member), end, &keys, &random).expect("random");
        let read = Bearer::Ticket.read(text.expose(), &keys).expect("its own kind");
        assert_eq!((read.member, read.expires_at, read.macs), (member, end, vec![mac]));
        for other in [Bearer::Session, Bearer::ApiToken, Bearer::Setup, Bearer::Join, Bearer::Reset] {
            assert!(other.read(text.expose(), &keys).is_none());
        }
    }

    #[test]
    fn a_secret_that_is_cut_or_lengthened_is_none() {
        let random = SystemRandom::new();
        let keys = InstanceKeys::new(InstanceKey::generate(&random).expect("random"), vec![]);
        let (text, _) = Bearer::Session.mint(None, Timestamp::UNIX_EPOCH, &keys, &random).expect("random");
        let text = text.expose();
        assert!(Bearer::Session.read(&text[..text.len() - 4], &keys).is_none());
        assert!(Bearer::Session.read(&format!("{text}AAAA"), &keys).is_none());
        assert!(Bearer::Session.read("srs_", &keys).is_none());
        assert!(Bearer::Session.read("", &keys).is_none());
    }
}
