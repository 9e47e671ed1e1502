//! The second factor: TOTP (RFC 6238: SHA-1, six digits, 30 seconds, one step to either side) and recovery codes. A
//! code is taken once: the step that matched is stored, and none up to it is taken again.

use jiff::Timestamp;
use strongroom_envelope::{
    InstanceContext, InstanceKeys, Mac, Random, TokenKind, open, seal, token_mac, token_macs_all_keys,
};
use totp_rs::{Builder, Totp};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Member, Origin, Record, SELECT, signin};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Actor, Event, Target},
    error::{Error, Result},
    id::{EventId, MemberId},
    instance_key::{Means, Page, key_of_seal},
    secret_text::SecretText,
    store::{Param, Tx},
};

/// RFC 4226, section 4: 160 bits.
const SECRET: usize = 20;
const RECOVERY_CODES: usize = 10;
/// 80 bits as four groups of four, without letters that look like digits.
const RECOVERY_LETTERS: usize = 16;
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// What an authenticator app needs. Shown until it is confirmed.
pub struct CodeSetup {
    /// Base32, for typing it in.
    pub secret: SecretText,
    /// `otpauth://totp/…`, for a QR code.
    pub uri: SecretText,
}

impl App {
    /// Makes a secret for the caller's authenticator app. It counts once a code of it is confirmed; a second call
    /// replaces it.
    pub async fn begin_code(&self, caller: &Caller) -> Result<CodeSetup> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        signin::in_person(caller)?;
        self.require_fresh(caller)?;
        let member = self.own_record(caller).await?.member;
        if member.has_code {
            return Err(already());
        }
        let mut secret = Zeroizing::new([0u8; SECRET]);
        self.random.fill(secret.as_mut()).map_err(|_| Error::random())?;
        let sealed = seal(self.keys.as_ref(), &place(&member), secret.as_ref(), self.random.as_ref());
        let sealed = sealed.map_err(|_| Error::random())?;
        let setup = CodeSetup::of(secret.as_ref(), &member.email)?;
        self.store
            .write(move |tx| {
                let sql = "UPDATE members SET sealed_totp = $2 WHERE id = $1 AND totp_confirmed = 0";
                match tx.execute(sql, &[member.id.0.into(), Param::Bytes(&sealed)])? {
                    0 => Err(already()),
                    _ => Ok(()),
                }
            })
            .await?;
        Ok(setup)
    }

    /// Turns the second factor on with a code of it. Returns the recovery codes, which are shown this once.
    pub async fn confirm_code(&self, caller: &Caller, code: SecretText, origin: &Origin) -> Result<Vec<SecretText>> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        signin::in_person(caller)?;
        let mut record = self.own_record(caller).await?;
        if record.member.has_code {
            return Err(already());
        }
        let attempt = self.guard.take_code(&record.member.email, origin.address, self.clock.since_boot())?;
        let now = self.clock.now();
        let step = matching_step(&self.keys, &record, &code, now)?.ok_or_else(signin::code_wrong)?;
        self.guard.give_back(attempt);
        record.member.has_code = true;
        record.member.revision += 1;
        let event = self.member_event(caller.actor(), "member.code", &record)?;
        let (codes, macs) = recovery_codes(&self.keys, record.member.id, self.random.as_ref())?;
        self.store
            .write(move |tx| {
                record.update(tx, now)?;
                let sql = "UPDATE members SET totp_last_step = $2 WHERE id = $1";
                tx.execute(sql, &[record.member.id.0.into(), step.into()])?;
                replace_recovery_codes(tx, record.member.id, &macs)?;
                tx.record(&event)
            })
            .await?;
        Ok(codes)
    }

    /// Ten new recovery codes in place of the old ones.
    pub async fn renew_recovery_codes(&self, caller: &Caller) -> Result<Vec<SecretText>> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        signin::in_person(caller)?;
        self.require_fresh(caller)?;
        let record = self.own_record(caller).await?;
        if !record.member.has_code {
            return Err(none_yet());
        }
        let event = self.member_event(caller.actor(), "member.code", &record)?;
        let (codes, macs) = recovery_codes(&self.keys, record.member.id, self.random.as_ref())?;
        self.store
            .write(move |tx| {
                replace_recovery_codes(tx, record.member.id, &macs)?;
                tx.record(&event)
            })
            .await?;
        Ok(codes)
    }

    /// How many recovery codes the caller has left; none means that the second factor is off or all are used.
    pub async fn recovery_codes_left(&self, caller: &Caller) -> Result<u64> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        let member = caller.member;
        let sql = "SELECT COUNT(*) FROM recovery_codes WHERE member_id = $1 AND used_at IS NULL";
        self.store.read(move |tx| tx.count(sql, &[member.0.into()])).await
    }

    /// Turns the second factor off. Where the workspace requires one, the caller gets no further without a new one.
    pub async fn disable_code(&self, caller: &Caller) -> Result<()> {
        self.authorize_here(caller, Action::ManageSelf).await?;
        signin::in_person(caller)?;
        self.require_fresh(caller)?;
        let mut record = self.own_record(caller).await?;
        if !record.member.has_code {
            return Err(none_yet());
        }
        record.member.has_code = false;
        record.sealed_code = None;
        record.member.revision += 1;
        let event = self.member_event(caller.actor(), "member.code", &record)?;
        let now = self.clock.now();
        self.store
            .write(move |tx| {
                record.update(tx, now)?;
                replace_recovery_codes(tx, record.member.id, &[])?;
                tx.record(&event)
            })
            .await
    }

    async fn own_record(&self, caller: &Caller) -> Result<Record> {
        let member = caller.member;
        self.store.read(move |tx| Record::living(tx, member)).await
    }
}

impl CodeSetup {
    fn of(secret: &[u8], email: &str) -> Result<Self> {
        // The label is "issuer:account": a colon in it would end the issuer.
        let totp = builder(secret).with_account_name(email.replace(':', "")).with_issuer(Some("Strongroom")).build();
        let totp = totp.map_err(|_| unreadable())?;
        let uri = SecretText::from(totp.to_url().map_err(|_| unreadable())?);
        Ok(Self { secret: totp.secret().to_base32().into(), uri })
    }
}

/// Takes `code` if it is the member's and was not taken before; says what it was.
pub(super) fn spend(
    tx: &mut Tx<'_>,
    keys: &InstanceKeys,
    record: &Record,
    code: &SecretText,
    now: Timestamp,
) -> Result<Option<&'static str>> {
    let member = record.member.id;
    if let Some(step) = matching_step(keys, record, code, now)? {
        let sql = "UPDATE members SET totp_last_step = $2 WHERE id = $1 AND totp_last_step < $2";
        return Ok((tx.execute(sql, &[member.0.into(), step.into()])? == 1).then_some("code"));
    }
    let message = recovery_message(member, code.expose());
    for mac in token_macs_all_keys(keys, TokenKind::RecoveryCode, &message) {
        let sql = "UPDATE recovery_codes SET used_at = $3 WHERE member_id = $1 AND code_mac = $2 AND used_at IS NULL";
        if tx.execute(sql, &[member.0.into(), Param::Bytes(&mac.to_bytes()), now.into()])? == 1 {
            return Ok(Some("recovery_code"));
        }
    }
    Ok(None)
}

/// The 30-second step that `code` belongs to, if it is one of those around `now`.
fn matching_step(keys: &InstanceKeys, record: &Record, code: &SecretText, now: Timestamp) -> Result<Option<u64>> {
    let sealed = record.sealed_code.as_deref().ok_or_else(none_yet)?;
    let secret = open(keys, &place(&record.member), sealed).map_err(|_| unreadable())?;
    let totp: Totp = builder(&secret).build().map_err(|_| unreadable())?;
    let digits: String = code.expose().chars().filter(|letter| !letter.is_whitespace()).take(7).collect();
    let digits = Zeroizing::new(digits);
    Ok(totp.check(&digits, u64::try_from(now.as_second()).unwrap_or(0)))
}

/// Rows of a page of [`renew_codes`].
const FULL: usize = 100;

/// A page of second factors; with `write`, those sealed under an older instance key are sealed under the current one, each
/// with an event that says the new row.
pub(crate) fn renew_codes(tx: &mut Tx<'_>, means: &Means, after: Uuid, write: bool) -> Result<Page> {
    let sql = format!("{SELECT} WHERE m.id > $1 AND m.sealed_totp IS NOT NULL ORDER BY m.id LIMIT {FULL}");
    let records = tx.all(&sql, &[after.into()], Record::read)?;
    let ids: Vec<Uuid> = records.iter().map(|record| record.member.id.0).collect();
    let mut page = Page::of(&ids, FULL);
    for mut record in records {
        let sealed = record.sealed_code.take().unwrap_or_default();
        let place = place(&record.member);
        let opened = key_of_seal(&means.keys, &sealed)
            .and_then(|key| Ok((key, open(means.keys.as_ref(), &place, &sealed).map_err(|_| unreadable())?)));
        match opened {
            Ok((key, secret)) if page.found(means, &[key]) && write => {
                let sealed = seal(means.keys.as_ref(), &place, &secret, means.random.as_ref());
                record.sealed_code = Some(sealed.map_err(|_| Error::random())?);
                record.member.revision += 1;
                put_sealed(tx, means, &record)?;
            }
            Ok(_) => {}
            Err(error) => page.broken(format!("the second factor of member {}: {error}", record.member.id)),
        }
    }
    Ok(page)
}

/// Takes away second factors that are sealed under an instance key that is not loaded, each with an event that says the new
/// row. How many there were.
pub(crate) fn drop_lost_codes(tx: &mut Tx<'_>, means: &Means) -> Result<u64> {
    let sql = format!("{SELECT} WHERE m.sealed_totp IS NOT NULL ORDER BY m.id");
    let mut dropped = 0;
    for mut record in tx.all(&sql, &[], Record::read)? {
        let sealed = record.sealed_code.take().unwrap_or_default();
        if key_of_seal(&means.keys, &sealed).is_ok() {
            continue;
        }
        tx.execute("UPDATE members SET totp_confirmed = 0 WHERE id = $1", &[record.member.id.0.into()])?;
        record.member.has_code = false;
        record.member.revision += 1;
        put_sealed(tx, means, &record)?;
        dropped += 1;
    }
    Ok(dropped)
}

fn put_sealed(tx: &mut Tx<'_>, means: &Means, record: &Record) -> Result<()> {
    let member = &record.member;
    tx.execute(
        "UPDATE members SET sealed_totp = $2, revision = $3 WHERE id = $1",
        &[member.id.0.into(), record.sealed_code.as_deref().into(), member.revision.into()],
    )?;
    tx.record(&Event {
        id: EventId::generate(means.now, means.random.as_ref())?,
        at: means.now,
        workspace: Some(member.workspace),
        actor: Actor::System,
        action: "member.reseal",
        target: Target::Member(member.id),
        detail: record.grant().facts(),
    })
}

fn builder(secret: &[u8]) -> Builder {
    Builder::new().with_secret(secret.to_vec()).with_skew(1)
}

fn place(member: &Member) -> InstanceContext {
    InstanceContext::MemberCredential { workspace: member.workspace.bytes(), member: member.id.bytes() }
}

/// Fresh codes, and what to store in their place.
fn recovery_codes(
    keys: &InstanceKeys,
    member: MemberId,
    random: &dyn Random,
) -> Result<(Vec<SecretText>, Vec<[u8; Mac::LEN]>)> {
    let mut codes = Vec::with_capacity(RECOVERY_CODES);
    let mut macs = Vec::with_capacity(RECOVERY_CODES);
    for _ in 0..RECOVERY_CODES {
        let mut bits = Zeroizing::new([0u8; RECOVERY_LETTERS]);
        random.fill(bits.as_mut()).map_err(|_| Error::random())?;
        let mut text = Zeroizing::new(String::with_capacity(20));
        for (place, byte) in bits.iter().enumerate() {
            if place > 0 && place % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(LETTERS[usize::from(byte % 32)]));
        }
        macs.push(token_mac(keys, TokenKind::RecoveryCode, &recovery_message(member, &text)).to_bytes());
        codes.push(SecretText::from(text));
    }
    Ok((codes, macs))
}

/// Member ‖ code, as docs/format.md says; typed with or without hyphens, spaces and capitals.
fn recovery_message(member: MemberId, code: &str) -> Zeroizing<Vec<u8>> {
    let mut message = Zeroizing::new(Vec::with_capacity(16 + 4 * 64));
    message.extend_from_slice(&member.bytes());
    let letters = code.bytes().filter(u8::is_ascii_alphanumeric).take(64);
    message.extend(letters.map(|letter| letter.to_ascii_lowercase()));
    message
}

fn replace_recovery_codes(tx: &mut Tx<'_>, member: MemberId, macs: &[[u8; Mac::LEN]]) -> Result<()> {
    tx.execute("DELETE FROM recovery_codes WHERE member_id = $1", &[member.0.into()])?;
    for mac in macs {
        let sql = "INSERT INTO recovery_codes (member_id, code_mac) VALUES ($1, $2)";
        tx.execute(sql, &[member.0.into(), Param::Bytes(mac)])?;
    }
    Ok(())
}

fn already() -> Error {
    Error::conflict(
        "member.code_exists",
        "a second factor is set up already",
        "Turn it off first, then set up the new one.",
    )
}

fn none_yet() -> Error {
    Error::conflict("member.code_missing", "no second factor is set up", "Set it up first.")
}

fn unreadable() -> Error {
    Error::integrity("member.code_unreadable", "a stored second factor does not open; it was changed or moved")
}

#[cfg(test)]
mod tests {
    use strongroom_envelope::{InstanceKey, SystemRandom};

    use super::*;

    #[test]
    fn an_authenticator_app_gets_its_uri() {
        let setup = CodeSetup::of(&[7; SECRET], "ada@example.com").expect("a secret of 160 bits");
        let secret = setup.secret.expose();
        assert_eq!(secret.len(), 32);
        let uri = format!("otpauth://totp/Strongroom:ada%40example.com?secret={secret}&issuer=Strongroom");
        assert_eq!(setup.uri.expose(), uri);
    }

    #[test]
    fn recovery_codes_are_ten_different_ones_of_four_groups() {
        let random = SystemRandom::new();
        let keys = InstanceKeys::new(InstanceKey::generate(&random).expect("random"), vec![]);
        let (codes, macs) = recovery_codes(&keys, MemberId(uuid::Uuid::nil()), &random).expect("random");
        let different: std::collections::HashSet<_> = codes.iter().map(SecretText::expose).collect();
        assert_eq!((different.len(), macs.len()), (10, 10));
        for code in different {
            assert!(code.split('-').all(|group| group.len() == 4), "{code}");
            assert_eq!(code.len(), 19);
        }
    }

    #[test]
    fn a_recovery_code_may_be_typed_in_capitals_and_without_hyphens() {
        let member = MemberId(uuid::Uuid::nil());
        let message = recovery_message(member, "abcd-efgh-jkmn-2345");
        assert_eq!(*recovery_message(member, " ABCD EFGH jkmn2345 "), *message);
        assert_ne!(*recovery_message(member, "abcd-efgh-jkmn-2346"), *message);
    }
}
