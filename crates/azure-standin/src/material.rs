//! Private keys as Key Vault holds them: RSA (wrap, encrypt, sign) and EC P-256 (to look at, not to use).

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, RsaParameters,
};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::b64url;

/// A handle on a private key with what is needed to use it. Serialises as PKCS#8 in base64, as the state file keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Material(Arc<Held>);

struct Held {
    pkcs8: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Rsa { sign: RsaKeyPair, decrypt: OaepPrivateDecryptingKey, encrypt: OaepPublicEncryptingKey },
    Ec(EcdsaKeyPair),
}

/// These bytes are not a key of a kind that is known here, or were not made by it.
#[derive(Debug, thiserror::Error)]
#[error("unusable key")]
pub(crate) struct Unusable;

impl Material {
    /// A new RSA key of 2048, 3072 or 4096 bits. Slow: for the blocking pool.
    pub fn generate_rsa(bits: usize) -> Result<Self, Unusable> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            _ => return Err(Unusable),
        };
        let key = PrivateDecryptingKey::generate(size).map_err(|_| Unusable)?;
        Self::from_pkcs8(AsDer::as_der(&key).map_err(|_| Unusable)?.as_ref())
    }

    /// A new EC key on P-256.
    pub fn generate_ec() -> Result<Self, Unusable> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Unusable)?;
        Self::from_pkcs8(key.to_pkcs8v1().map_err(|_| Unusable)?.as_ref())
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Unusable> {
        let kind = if let Ok(private) = PrivateDecryptingKey::from_pkcs8(pkcs8) {
            Kind::Rsa {
                sign: RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| Unusable)?,
                encrypt: OaepPublicEncryptingKey::new(private.public_key()).map_err(|_| Unusable)?,
                decrypt: OaepPrivateDecryptingKey::new(private).map_err(|_| Unusable)?,
            }
        } else {
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8);
            Kind::Ec(key.map_err(|_| Unusable)?)
        };
        Ok(Self(Arc::new(Held { pkcs8: pkcs8.to_vec(), kind })))
    }

    /// Bits of the RSA modulus; 0 for an EC key.
    pub fn rsa_bits(&self) -> usize {
        match &self.0.kind {
            Kind::Rsa { decrypt, .. } => decrypt.key_size_bits(),
            Kind::Ec(_) => 0,
        }
    }

    /// The public members of the JSON web key (RFC 7517), without `kty`.
    pub fn public_jwk(&self) -> Value {
        match &self.0.kind {
            Kind::Rsa { sign, .. } => {
                let public = sign.public_key();
                json!({
                    "n": b64url(public.modulus().big_endian_without_leading_zero()),
                    "e": b64url(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Kind::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"crv": "P-256", "x": b64url(&point[1..33]), "y": b64url(&point[33..65])})
            }
        }
    }

    /// RSA-OAEP or RSA-OAEP-256 with the public half. `None`: algorithm unknown, or `plain` too long.
    pub fn encrypt(&self, alg: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { encrypt, .. } = &self.0.kind else { return None };
        let mut out = vec![0; encrypt.ciphertext_size()];
        Some(encrypt.encrypt(oaep(alg)?, plain, &mut out, None).ok()?.to_vec())
    }

    /// The reverse of [`Material::encrypt`]. `None`: algorithm unknown, or not encrypted under this key.
    pub fn decrypt(&self, alg: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { decrypt, .. } = &self.0.kind else { return None };
        let mut out = vec![0; decrypt.min_output_size()];
        Some(decrypt.decrypt(oaep(alg)?, sealed, &mut out, None).ok()?.to_vec())
    }

    /// RS256 or PS256 over a SHA-256 digest that the caller computed.
    pub fn sign_digest(&self, alg: &str, sha256: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { sign, .. } = &self.0.kind else { return None };
        let encoding: &'static dyn RsaEncoding = match alg {
            "RS256" => &RSA_PKCS1_SHA256,
            "PS256" => &RSA_PSS_SHA256,
            _ => return None,
        };
        let digest = digest::Digest::import_less_safe(sha256, &digest::SHA256).ok()?;
        let mut out = vec![0; sign.public_modulus_len()];
        sign.sign_digest(encoding, &digest, &mut out).ok()?;
        Some(out)
    }

    pub fn verify_digest(&self, alg: &str, sha256: &[u8], signature: &[u8]) -> Option<bool> {
        let Kind::Rsa { sign, .. } = &self.0.kind else { return None };
        let parameters: &'static RsaParameters = match alg {
            "RS256" => &RSA_PKCS1_2048_8192_SHA256,
            "PS256" => &RSA_PSS_2048_8192_SHA256,
            _ => return None,
        };
        let digest = digest::Digest::import_less_safe(sha256, &digest::SHA256).ok()?;
        let key = aws_lc_rs::signature::ParsedPublicKey::new(parameters, sign.public_key().as_ref()).ok()?;
        Some(key.verify_digest_sig(&digest, signature).is_ok())
    }

    /// RS256 over a whole message, for tokens.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { sign, .. } = &self.0.kind else { return None };
        let mut out = vec![0; sign.public_modulus_len()];
        sign.sign(&RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut out).ok()?;
        Some(out)
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let digest = digest::digest(&digest::SHA256, message);
        self.verify_digest("RS256", digest.as_ref(), signature) == Some(true)
    }
}

impl TryFrom<String> for Material {
    type Error = Unusable;

    fn try_from(text: String) -> Result<Self, Unusable> {
        Self::from_pkcs8(&STANDARD.decode(text).map_err(|_| Unusable)?)
    }
}

impl From<Material> for String {
    fn from(key: Material) -> Self {
        STANDARD.encode(&key.0.pkcs8)
    }
}

/// RSA keys made beforehand, because making one of 4096 bits takes seconds. Each is handed out once.
#[derive(Default)]
pub struct RsaPool(Vec<Vec<u8>>);

impl RsaPool {
    /// A pool of PKCS#8 DER keys, taken in order.
    pub fn new(pkcs8: Vec<Vec<u8>>) -> Self {
        Self(pkcs8)
    }

    /// The first key of that size. Sizes are told apart by the length of the encoding, which spares parsing them all.
    pub(crate) fn take(&mut self, bits: usize) -> Option<Material> {
        let encoded = match bits {
            2048 => 1100..1300,
            3072 => 1700..1900,
            _ => 2250..2450,
        };
        let at = self.0.iter().position(|der| encoded.contains(&der.len()))?;
        Material::from_pkcs8(&self.0.remove(at)).ok().filter(|key| key.rsa_bits() == bits)
    }
}

/// The keys under `testkeys/`: six of 4096 bits, three of 2048. They are public, hence worthless outside of tests.
pub fn test_keys() -> RsaPool {
    macro_rules! key {
        ($name:literal) => {
            include_bytes!(concat!("../testkeys/", $name, ".p8.der")).to_vec()
        };
    }
    RsaPool(vec![
        key!("rsa4096-1"),
        key!("rsa4096-2"),
        key!("rsa4096-3"),
        key!("rsa4096-4"),
        key!("rsa4096-5"),
        key!("rsa4096-6"),
        key!("rsa2048-1"),
        key!("rsa2048-2"),
        key!("rsa2048-3"),
    ])
}

fn oaep(alg: &str) -> Option<&'static OaepAlgorithm> {
    match alg {
        "RSA-OAEP" => Some(&OAEP_SHA1_MGF1SHA1),
        "RSA-OAEP-256" => Some(&OAEP_SHA256_MGF1SHA256),
        _ => None,
    }
}
