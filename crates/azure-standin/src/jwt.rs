//! JSON web tokens: the RS256 tokens that Entra issues, with the v1 claims that Key Vault, ARM and Graph read, and the
//! parts of tokens that others signed.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{b64url, new_id, unb64url};
use crate::material::Material;
use crate::state::User;

/// Names the one signing key, in tokens and in the published key set.
pub(crate) const KEY_ID: &str = "standin-signing-key-1";
pub(crate) const LIFETIME: i64 = 3599;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub aud: String,
    pub iss: String,
    pub tid: String,
    pub appid: String,
    pub oid: String,
    pub nbf: i64,
    pub exp: i64,
}

/// Why a token is not believed.
pub(crate) enum Distrust {
    /// Not a token, or not signed by us.
    Signature,
    Expired(i64),
    NotYetValid,
}

/// For whom an access token is.
pub(crate) enum Subject<'a> {
    App { appid: &'a str, oid: &'a str, how: How },
    User { appid: &'a str, user: &'a User },
}

/// How an application proved itself.
#[derive(Clone, Copy)]
pub(crate) enum How {
    Secret,
    Assertion,
}

/// An access token. `None` only if the signing key cannot sign.
pub(crate) fn issue(key: &Material, now: i64, audience: &str, tenant: &str, subject: &Subject) -> Option<String> {
    let issuer = format!("https://sts.windows.net/{tenant}/");
    let mut claims = json!({
        "aud": audience, "iss": issuer, "idp": issuer, "tid": tenant, "iat": now, "nbf": now, "exp": now + LIFETIME,
        "ver": "1.0", "aio": new_id(), "uti": new_id(),
    });
    let own = match subject {
        Subject::App { appid, oid, how } => json!({
            "appid": appid, "oid": oid, "sub": oid, "idtyp": "app",
            "appidacr": if matches!(how, How::Secret) { "1" } else { "2" },
        }),
        Subject::User { appid, user } => json!({
            "appid": appid, "oid": user.id, "sub": user.id, "idtyp": "user", "appidacr": "0",
            "upn": user.upn, "unique_name": user.upn, "name": user.name, "scp": "user_impersonation",
        }),
    };
    for (name, value) in own.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    sign(key, &claims)
}

pub(crate) fn sign(key: &Material, claims: &Value) -> Option<String> {
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": KEY_ID, "kid": KEY_ID});
    let signed = format!("{}.{}", b64url(header.to_string().as_bytes()), b64url(claims.to_string().as_bytes()));
    let signature = key.sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", b64url(&signature)))
}

/// The claims of a token that this key signed and that is valid now. Audience and issuer are the caller's to judge.
pub(crate) fn verify(key: &Material, now: i64, token: &str) -> Result<Claims, Distrust> {
    let parts = split(token).ok_or(Distrust::Signature)?;
    if !key.verify(parts.signed.as_bytes(), &parts.signature) {
        return Err(Distrust::Signature);
    }
    let claims: Claims = serde_json::from_value(parts.payload).map_err(|_| Distrust::Signature)?;
    if claims.exp <= now {
        return Err(Distrust::Expired(claims.exp));
    }
    if claims.nbf > now + 300 {
        return Err(Distrust::NotYetValid);
    }
    Ok(claims)
}

/// A token taken apart, not yet believed.
pub(crate) struct Parts {
    pub header: Value,
    pub payload: Value,
    /// What the signature is over.
    pub signed: String,
    pub signature: Vec<u8>,
}

impl Parts {
    /// A claim that is text; empty if there is none.
    pub fn text(&self, claim: &str) -> &str {
        self.payload[claim].as_str().unwrap_or_default()
    }
}

pub(crate) fn split(token: &str) -> Option<Parts> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let json = |part: &str| serde_json::from_slice(&unb64url(part)?).ok();
    Some(Parts {
        header: json(header)?,
        payload: json(payload)?,
        signed: signed.to_owned(),
        signature: unb64url(signature)?,
    })
}
