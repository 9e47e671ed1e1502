//! Passwords: Argon2id at the parameters of OWASP's Password Storage Cheat Sheet, off the async threads and bounded in
//! number by the guard, because each takes 19 MiB and tens of milliseconds.

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use strongroom_envelope::Random;

use super::guard::Guard;
use crate::{
    error::{Error, Result},
    secret_text::SecretText,
};

/// KiB of memory, passes, lanes.
const COST: (u32, u32, u32) = (19_456, 2, 1);

/// Somebody's hash whom nobody knows: an unknown e-mail address costs as long as a wrong password.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$hoFhccWnY32lwojkHydy8g$32owDO35eTbUnh3AVTWn2Ig5ApeoOTOrRQa2OZpA10I";

/// Longer input is no password of ours; it is not hashed, only a hash of nothing is.
const LONGEST: usize = 1024;

/// The hash to store, in the PHC string format.
pub(super) async fn hash(guard: &Guard, random: &dyn Random, password: SecretText) -> Result<String> {
    let mut salt = [0u8; 16];
    random.fill(&mut salt).map_err(|_| Error::random())?;
    guard.hashing(move || hash_now(&password, &salt)).await?
}

/// Whether `password` is the one behind `stored`. Without a stored hash it is not, and takes the same time.
pub(super) async fn verify(guard: &Guard, password: SecretText, stored: Option<String>) -> Result<bool> {
    guard.hashing(move || verify_now(&password, stored.as_deref())).await?
}

fn hash_now(password: &SecretText, salt: &[u8]) -> Result<String> {
    let hash: PasswordHash =
        argon2()?.hash_password_with_salt(password.expose().as_bytes(), salt).map_err(|_| failed())?;
    Ok(hash.to_string())
}

/// The same, where nobody else waits.
pub(crate) fn is_password(password: &SecretText, stored: Option<&str>) -> Result<bool> {
    verify_now(password, stored)
}

fn verify_now(password: &SecretText, stored: Option<&str>) -> Result<bool> {
    let fits = password.expose().len() <= LONGEST;
    let password = if fits { password.expose().as_bytes() } else { &[] };
    let hash = PasswordHash::new(stored.unwrap_or(NOBODY))
        .map_err(|_| Error::integrity("member.password_unreadable", "a stored password hash cannot be read"))?;
    let matches = argon2()?.verify_password(password, &hash).is_ok();
    Ok(matches && fits && stored.is_some())
}

fn argon2() -> Result<Argon2<'static>> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None).map_err(|_| failed())?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn failed() -> Error {
    Error::Setup {
        what: "a password could not be hashed".into(),
        fix: "Check that the server has 64 MB of free memory.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_its_own_hash_only() {
        let hash = hash_now(&SecretText::from("correct horse"), &[1; 16]).expect("memory");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify_now(&SecretText::from("correct horse"), Some(&hash)).expect("readable"));
        assert!(!verify_now(&SecretText::from("correct house"), Some(&hash)).expect("readable"));
    }

    #[test]
    fn nobody_has_no_password_but_the_same_cost() {
        let cost = |hash: &str| hash.rsplitn(3, '$').last().map(str::to_owned);
        let hash = hash_now(&SecretText::from("correct horse"), &[1; 16]).expect("memory");
        assert_eq!(cost(NOBODY), cost(&hash));
        assert!(!verify_now(&SecretText::from("nobody's password"), None).expect("readable"));
    }
}
