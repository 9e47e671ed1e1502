//! Private keys as Key Vault holds them: RSA of 2048 to 4096 bits and EC on four curves, and what each algorithm of
//! RFC 7518 does with them.

use std::sync::Arc;

use aws_lc_rs::digest::{self, Digest, SHA256, SHA384, SHA512};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    KeyPairComponents, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey,
    PublicKeyComponents,
};
use aws_lc_rs::signature as sig;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, ParsedPublicKey, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{b64url, unb64url};

/// A handle on a private key with what is needed to use it. Serialises as PKCS#8 in base64, as the state file keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Material(Arc<Held>);

struct Held {
    pkcs8: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Rsa { sign: RsaKeyPair, private: PrivateDecryptingKey },
    Ec(&'static Curve, EcdsaKeyPair),
}

/// A curve with the one algorithm that signs on it.
struct Curve {
    name: &'static str,
    alg: &'static str,
    hash: &'static digest::Algorithm,
    /// Bytes of a coordinate.
    size: usize,
    signing: &'static sig::EcdsaSigningAlgorithm,
    verification: &'static sig::EcdsaVerificationAlgorithm,
}

static CURVES: [Curve; 4] = [
    Curve {
        name: "P-256",
        alg: "ES256",
        hash: &SHA256,
        size: 32,
        signing: &sig::ECDSA_P256_SHA256_FIXED_SIGNING,
        verification: &sig::ECDSA_P256_SHA256_FIXED,
    },
    Curve {
        name: "P-384",
        alg: "ES384",
        hash: &SHA384,
        size: 48,
        signing: &sig::ECDSA_P384_SHA384_FIXED_SIGNING,
        verification: &sig::ECDSA_P384_SHA384_FIXED,
    },
    Curve {
        name: "P-521",
        alg: "ES512",
        hash: &SHA512,
        size: 66,
        signing: &sig::ECDSA_P521_SHA512_FIXED_SIGNING,
        verification: &sig::ECDSA_P521_SHA512_FIXED,
    },
    Curve {
        name: "P-256K",
        alg: "ES256K",
        hash: &SHA256,
        size: 32,
        signing: &sig::ECDSA_P256K1_SHA256_FIXED_SIGNING,
        verification: &sig::ECDSA_P256K1_SHA256_FIXED,
    },
];

/// How RSA signs.
struct RsaScheme {
    alg: &'static str,
    hash: &'static digest::Algorithm,
    signing: &'static dyn sig::RsaEncoding,
    verification: &'static sig::RsaParameters,
}

#[rustfmt::skip]
static RSA_SCHEMES: [RsaScheme; 6] = [
    RsaScheme { alg: "RS256", hash: &SHA256, signing: &sig::RSA_PKCS1_SHA256, verification: &sig::RSA_PKCS1_2048_8192_SHA256 },
    RsaScheme { alg: "RS384", hash: &SHA384, signing: &sig::RSA_PKCS1_SHA384, verification: &sig::RSA_PKCS1_2048_8192_SHA384 },
    RsaScheme { alg: "RS512", hash: &SHA512, signing: &sig::RSA_PKCS1_SHA512, verification: &sig::RSA_PKCS1_2048_8192_SHA512 },
    RsaScheme { alg: "PS256", hash: &SHA256, signing: &sig::RSA_PSS_SHA256, verification: &sig::RSA_PSS_2048_8192_SHA256 },
    RsaScheme { alg: "PS384", hash: &SHA384, signing: &sig::RSA_PSS_SHA384, verification: &sig::RSA_PSS_2048_8192_SHA384 },
    RsaScheme { alg: "PS512", hash: &SHA512, signing: &sig::RSA_PSS_SHA512, verification: &sig::RSA_PSS_2048_8192_SHA512 },
];

/// These bytes are not a key of a kind that is known here, or were not made by it.
#[derive(Debug, thiserror::Error)]
#[error("unusable key")]
pub(crate) struct Unusable;

/// Why nothing was signed or verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsigned {
    UnknownAlgorithm,
    /// The algorithm is for another type of key, or another curve.
    Incompatible,
    /// The digest is not as long as the algorithm's, which has so many bytes.
    WrongLength(usize),
}

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

    /// A new EC key on P-256, P-384, P-521 or P-256K.
    pub fn generate_ec(curve: &str) -> Result<Self, Unusable> {
        let key = EcdsaKeyPair::generate(find_curve(curve)?.signing).map_err(|_| Unusable)?;
        Self::from_pkcs8(key.to_pkcs8v1().map_err(|_| Unusable)?.as_ref())
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, Unusable> {
        let on = |curve: &'static Curve| Some(Kind::Ec(curve, EcdsaKeyPair::from_pkcs8(curve.signing, pkcs8).ok()?));
        let kind = match PrivateDecryptingKey::from_pkcs8(pkcs8) {
            Ok(private) => Kind::Rsa { sign: RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| Unusable)?, private },
            Err(_) => CURVES.iter().find_map(on).ok_or(Unusable)?,
        };
        Ok(Self(Arc::new(Held { pkcs8: pkcs8.to_vec(), kind })))
    }

    /// A private key as a JSON web key (RFC 7518, section 6).
    pub fn from_jwk(jwk: &Value) -> Result<Self, Unusable> {
        let member = |name: &str| jwk[name].as_str().and_then(unb64url).ok_or(Unusable);
        if let Some(curve) = jwk["crv"].as_str() {
            let point = [vec![4], member("x")?, member("y")?].concat();
            let curve = find_curve(curve)?.signing;
            let key = EcdsaKeyPair::from_private_key_and_public_key(curve, &member("d")?, &point);
            let pkcs8 = key.map_err(|_| Unusable)?.to_pkcs8v1().map_err(|_| Unusable)?;
            return Self::from_pkcs8(pkcs8.as_ref());
        }
        let unsigned = |name: &str| Ok(member(name)?.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
        let key = RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n: unsigned("n")?, e: unsigned("e")? },
            d: member("d")?,
            p: member("p")?,
            q: member("q")?,
            dP: member("dp")?,
            dQ: member("dq")?,
            qInv: member("qi")?,
        });
        let material = Self::from_pkcs8(key.map_err(|_| Unusable)?.as_der().map_err(|_| Unusable)?.as_ref())?;
        if matches!(material.rsa_bits(), 2048 | 3072 | 4096) { Ok(material) } else { Err(Unusable) }
    }

    /// Bits of the RSA modulus; 0 for an EC key.
    pub fn rsa_bits(&self) -> usize {
        match &self.0.kind {
            Kind::Rsa { private, .. } => private.key_size_bits(),
            Kind::Ec(..) => 0,
        }
    }

    /// The name of an EC key's curve.
    pub fn curve(&self) -> Option<&'static str> {
        match &self.0.kind {
            Kind::Rsa { .. } => None,
            Kind::Ec(curve, _) => Some(curve.name),
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
            Kind::Ec(curve, key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(curve.size);
                json!({"crv": curve.name, "x": b64url(x), "y": b64url(y)})
            }
        }
    }

    /// RSA-OAEP, RSA-OAEP-256 or RSA1_5 with the public half. `None`: not for this key, or `plain` too long.
    pub fn encrypt(&self, alg: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { private, .. } = &self.0.kind else { return None };
        let mut out = vec![0; private.key_size_bytes()];
        if alg == "RSA1_5" {
            return Some(
                Pkcs1PublicEncryptingKey::new(private.public_key()).ok()?.encrypt(plain, &mut out).ok()?.to_vec(),
            );
        }
        let key = OaepPublicEncryptingKey::new(private.public_key()).ok()?;
        Some(key.encrypt(oaep(alg)?, plain, &mut out, None).ok()?.to_vec())
    }

    /// The reverse of [`Material::encrypt`]. `None`: not for this key, or not encrypted under it.
    pub fn decrypt(&self, alg: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { private, .. } = &self.0.kind else { return None };
        let mut out = vec![0; private.key_size_bytes()];
        if alg == "RSA1_5" {
            return Some(
                Pkcs1PrivateDecryptingKey::new(private.clone()).ok()?.decrypt(sealed, &mut out).ok()?.to_vec(),
            );
        }
        let key = OaepPrivateDecryptingKey::new(private.clone()).ok()?;
        Some(key.decrypt(oaep(alg)?, sealed, &mut out, None).ok()?.to_vec())
    }

    /// RS, PS and ES algorithms over a digest that the caller computed.
    pub fn sign_digest(&self, alg: &str, hash: &[u8]) -> Result<Vec<u8>, Unsigned> {
        match &self.0.kind {
            Kind::Rsa { sign, .. } => {
                let scheme = find_scheme(alg)?;
                let mut out = vec![0; sign.public_modulus_len()];
                let signed = sign.sign_digest(scheme.signing, &digest_of(hash, scheme.hash)?, &mut out);
                signed.map(|()| out).map_err(|_| Unsigned::Incompatible)
            }
            Kind::Ec(curve, key) => {
                let signed = key.sign_digest(&digest_of(hash, check_curve(curve, alg)?.hash)?);
                signed.map(|signature| signature.as_ref().to_vec()).map_err(|_| Unsigned::Incompatible)
            }
        }
    }

    pub fn verify_digest(&self, alg: &str, hash: &[u8], signature: &[u8]) -> Result<bool, Unsigned> {
        let (key, hash) = match &self.0.kind {
            Kind::Rsa { sign, .. } => {
                let scheme = find_scheme(alg)?;
                (ParsedPublicKey::new(scheme.verification, sign.public_key()), digest_of(hash, scheme.hash)?)
            }
            Kind::Ec(curve, key) => {
                let hash = digest_of(hash, check_curve(curve, alg)?.hash)?;
                (ParsedPublicKey::new(curve.verification, key.public_key()), hash)
            }
        };
        Ok(key.is_ok_and(|key| key.verify_digest_sig(&hash, signature).is_ok()))
    }

    /// RS256 over a whole message, for tokens.
    pub fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let Kind::Rsa { sign, .. } = &self.0.kind else { return None };
        let mut out = vec![0; sign.public_modulus_len()];
        sign.sign(&sig::RSA_PKCS1_SHA256, &rand::SystemRandom::new(), message, &mut out).ok()?;
        Some(out)
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let hash = digest::digest(&SHA256, message);
        self.verify_digest("RS256", hash.as_ref(), signature) == Ok(true)
    }
}

fn find_curve(name: &str) -> Result<&'static Curve, Unusable> {
    CURVES.iter().find(|curve| curve.name == name).ok_or(Unusable)
}

fn oaep(alg: &str) -> Option<&'static OaepAlgorithm> {
    match alg {
        "RSA-OAEP" => Some(&OAEP_SHA1_MGF1SHA1),
        "RSA-OAEP-256" => Some(&OAEP_SHA256_MGF1SHA256),
        _ => None,
    }
}

fn find_scheme(alg: &str) -> Result<&'static RsaScheme, Unsigned> {
    RSA_SCHEMES.iter().find(|scheme| scheme.alg == alg).ok_or_else(|| misfit(alg))
}

fn check_curve(curve: &'static Curve, alg: &str) -> Result<&'static Curve, Unsigned> {
    if curve.alg == alg { Ok(curve) } else { Err(misfit(alg)) }
}

/// Why an algorithm does not go with a key: there is no such algorithm, or it is for others.
fn misfit(alg: &str) -> Unsigned {
    let known = RSA_SCHEMES.iter().map(|scheme| scheme.alg).chain(CURVES.iter().map(|curve| curve.alg));
    if known.into_iter().any(|known| known == alg) { Unsigned::Incompatible } else { Unsigned::UnknownAlgorithm }
}

fn digest_of(hash: &[u8], algorithm: &'static digest::Algorithm) -> Result<Digest, Unsigned> {
    Digest::import_less_safe(hash, algorithm).map_err(|_| Unsigned::WrongLength(algorithm.output_len()))
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
            4096 => 2250..2450,
            _ => return None,
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
