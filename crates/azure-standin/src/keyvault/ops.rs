//! What is done with a key: wrap, unwrap, encrypt, decrypt, sign, verify.

use serde_json::json;

use super::errors;
use crate::World;
use crate::http::{Answer, Reply, Request, b64url, unb64url};
use crate::material::Unsigned;
use crate::state::KeyVersion;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Encrypt,
    Decrypt,
    WrapKey,
    UnwrapKey,
    Sign,
    Verify,
}

impl Op {
    /// From the last segment of the path, in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "encrypt" => Self::Encrypt,
            "decrypt" => Self::Decrypt,
            "wrapkey" => Self::WrapKey,
            "unwrapkey" => Self::UnwrapKey,
            "sign" => Self::Sign,
            "verify" => Self::Verify,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::WrapKey => "wrapkey",
            Self::UnwrapKey => "unwrapkey",
            _ => self.permission(),
        }
    }

    /// As `key_ops`, access policies and error texts spell it.
    pub fn permission(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::WrapKey => "wrapKey",
            Self::UnwrapKey => "unwrapKey",
            Self::Sign => "sign",
            Self::Verify => "verify",
        }
    }

    /// As data actions spell it.
    pub fn action(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt/action",
            Self::Decrypt => "decrypt/action",
            Self::WrapKey => "wrap/action",
            Self::UnwrapKey => "unwrap/action",
            Self::Sign => "sign/action",
            Self::Verify => "verify/action",
        }
    }
}

pub(super) fn perform(world: &World, request: &Request, op: Op, kid: &str, version: &KeyVersion) -> Answer {
    check_life(version, op, world.now())?;
    let body = request.json().ok_or_else(errors::incorrect_parameter)?;
    let alg = body["alg"].as_str().unwrap_or_default();
    let bytes = |field: &str| {
        body[field].as_str().and_then(unb64url).filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
            errors::bad_parameter(&format!(
                "Content of '{field}' is not base64url.\r\nProperty '{field}' is required.\r\n"
            ))
        })
    };
    let unsigned = |field: &str, length: usize, why: Unsigned| match why {
        Unsigned::UnknownAlgorithm => errors::incorrect_parameter(),
        Unsigned::Incompatible => errors::incompatible(kid, version, alg),
        Unsigned::WrongLength(right) => errors::bad_parameter(&format!(
            "Invalid length of '{field}': {length} bytes. {alg} requires {right} bytes, encoded with base64url."
        )),
    };
    let value = match op {
        Op::Encrypt | Op::WrapKey => {
            version.material.encrypt(alg, &bytes("value")?).ok_or_else(errors::incorrect_parameter)?
        }
        Op::Decrypt | Op::UnwrapKey => {
            let sealed = bytes("value")?;
            if !matches!(alg, "RSA-OAEP" | "RSA-OAEP-256" | "RSA1_5") {
                return Err(errors::incorrect_parameter());
            }
            let foreign = || errors::bad_parameter("Unable to decrypt specified value with this key.");
            version.material.decrypt(alg, &sealed).ok_or_else(foreign)?
        }
        Op::Sign => {
            let hash = bytes("value")?;
            version.material.sign_digest(alg, &hash).map_err(|why| unsigned("value", hash.len(), why))?
        }
        Op::Verify => {
            let hash = bytes("digest")?;
            let verified = version.material.verify_digest(alg, &hash, &bytes("value")?);
            let verified = verified.map_err(|why| unsigned("digest", hash.len(), why))?;
            return Ok(Reply::json(200, &json!({"value": verified})));
        }
    };
    Ok(Reply::json(200, &json!({"kid": kid, "value": b64url(&value)})))
}

/// A disabled key does nothing. Outside of its dates a key still undoes what it once did.
fn check_life(version: &KeyVersion, op: Op, now: i64) -> Result<(), Reply> {
    if !version.enabled {
        return Err(errors::key_disabled(op.permission()));
    }
    if matches!(op, Op::Encrypt | Op::WrapKey | Op::Sign) {
        let expired = version.exp.is_some_and(|exp| exp <= now);
        if expired || version.nbf.is_some_and(|nbf| now < nbf) {
            return Err(errors::outside_dates(op.permission(), expired));
        }
    }
    if !version.ops.iter().any(|allowed| allowed.eq_ignore_ascii_case(op.permission())) {
        return Err(errors::operation_forbidden(op.permission()));
    }
    Ok(())
}
