//! Access tokens: RS256 JSON web tokens with the v1 claims that Key Vault, ARM and Graph read.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::{b64url, new_id, unb64url};
use crate::material::Material;

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

/// A token for the service principal `oid`. `None` only if the signing key cannot sign.
pub(crate) fn issue(key: &Material, now: i64, audience: &str, tenant: &str, appid: &str, oid: &str) -> Option<String> {
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": KEY_ID, "kid": KEY_ID});
    let issuer = format!("https://sts.windows.net/{tenant}/");
    let claims = json!({
        "aud": audience, "iss": issuer, "idp": issuer, "tid": tenant, "appid": appid, "oid": oid, "sub": oid,
        "iat": now, "nbf": now, "exp": now + LIFETIME,
        "appidacr": "1", "idtyp": "app", "ver": "1.0", "aio": new_id(), "uti": new_id(),
    });
    let signed = format!("{}.{}", b64url(header.to_string().as_bytes()), b64url(claims.to_string().as_bytes()));
    let signature = key.sign(signed.as_bytes())?;
    Some(format!("{signed}.{}", b64url(&signature)))
}

/// The claims of a token that this key signed and that is valid now. Audience and issuer are the caller's to judge.
pub(crate) fn verify(key: &Material, now: i64, token: &str) -> Result<Claims, Distrust> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Distrust::Signature)?;
    let signature = unb64url(signature).ok_or(Distrust::Signature)?;
    if !key.verify(signed.as_bytes(), &signature) {
        return Err(Distrust::Signature);
    }
    let payload = signed.split_once('.').and_then(|(_, payload)| unb64url(payload)).ok_or(Distrust::Signature)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Distrust::Signature)?;
    if claims.exp <= now {
        return Err(Distrust::Expired(claims.exp));
    }
    if claims.nbf > now + 300 {
        return Err(Distrust::NotYetValid);
    }
    Ok(claims)
}
