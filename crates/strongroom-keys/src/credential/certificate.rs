//! A client certificate with its private key: read from PEM, each mistake that people make named, and the assertion
//! that signs in with it (Microsoft's "certificate credentials", RFC 7523).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::json;
use uuid::Uuid;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use zeroize::Zeroizing;

use crate::input::{Field, InputError, error};

/// A private key, its certificate and a chain take a few kilobytes.
const LONGEST: usize = 64 * 1024;
/// rsaEncryption (RFC 8017).
const RSA: &str = "1.2.840.113549.1.1.1";
/// How long an assertion may be used, in seconds.
const ASSERTION_LIFE: i64 = 600;

/// An RSA key and the certificate that belongs to it. The key is wiped on drop by the library that holds it; it does
/// not print, clone or serialise.
pub struct ClientCertificate {
    key: RsaKeyPair,
    /// DER.
    certificate: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl ClientCertificate {
    /// Takes PEM text with one RSA private key (PKCS#8 or PKCS#1, not encrypted) and its certificate, in any order.
    /// Certificates of a chain may stand beside them. Dates are not looked at: see [`ClientCertificate::valid_at`].
    pub fn parse(pem: &str) -> Result<ClientCertificate, InputError> {
        refuse_other_forms(pem)?;
        let (key, certificates) = sections(pem)?;
        let key = key.read()?;
        let mut readable = certificates.iter().filter_map(|der| Some((der, Certificate::from_der(der).ok()?)));
        let of_key = readable.find(|(_, certificate)| {
            let holder = &certificate.tbs_certificate.subject_public_key_info;
            holder.subject_public_key.raw_bytes() == key.public_key().as_ref()
        });
        let Some((der, certificate)) = of_key else { return Err(no_match(&certificates)) };
        let validity = certificate.tbs_certificate.validity;
        let second = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_secs()).ok().and_then(|second| Timestamp::from_second(second).ok())
        };
        let (Some(not_before), Some(not_after)) = (second(validity.not_before), second(validity.not_after)) else {
            return Err(refused("certificate_unreadable", "The certificate's dates cannot be read.", MAKE_ANEW));
        };
        Ok(ClientCertificate { certificate: der.clone(), key, not_before, not_after })
    }

    /// Refuses a certificate whose dates do not hold `now`. One that is stored is not asked: there Microsoft Entra says.
    pub fn valid_at(&self, now: Timestamp) -> Result<(), InputError> {
        if self.not_after <= now {
            let cause = format!("The certificate expired {}.", self.not_after);
            return Err(refused("expired", cause, MAKE_ANEW));
        }
        if now < self.not_before {
            let cause = format!("The certificate is valid from {} only.", self.not_before);
            return Err(refused("not_yet_valid", cause, "Wait until then, or check this server's clock."));
        }
        Ok(())
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// As Azure shows it beside a registered certificate: the SHA-1 of its DER form, in upper-case hexadecimal.
    pub fn thumbprint(&self) -> String {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.certificate);
        hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// The certificate alone, in DER form: what is registered on an application. Not secret.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// A client assertion, good for ten minutes: a JWT of algorithm PS256 whose header names the certificate by
    /// `x5t#S256`. `audience` is the token endpoint, `id` makes it unique.
    pub(crate) fn assertion(&self, client_id: &str, audience: &str, now: Timestamp, id: Uuid) -> Zeroizing<String> {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.certificate));
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint});
        let second = now.as_second();
        let claims = json!({
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": id.to_string(),
            "iat": second,
            "nbf": second,
            "exp": second + ASSERTION_LIFE,
        });
        let encoded = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let mut assertion = Zeroizing::new(format!("{}.{}", encoded(header), encoded(claims)));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), assertion.as_bytes(), &mut signature)
            .expect("an RSA key of at least 2048 bits signs by PSS with SHA-256");
        assertion.push('.');
        assertion.push_str(&URL_SAFE_NO_PAD.encode(&signature));
        assertion
    }
}

/// What is missing is in another file, or has to be made again.
const BOTH: &str =
    "Give one PEM text with both: the private key (BEGIN PRIVATE KEY) and its certificate (BEGIN CERTIFICATE).";
const MAKE_ANEW: &str =
    "Make an RSA key of 2048 bits or more with a certificate, and register the certificate on the application.";

/// A private key as it lies in the PEM text.
enum PrivateKey {
    Pkcs8(Zeroizing<Vec<u8>>),
    Pkcs1(Zeroizing<Vec<u8>>),
}

impl PrivateKey {
    fn read(&self) -> Result<RsaKeyPair, InputError> {
        let read = match self {
            PrivateKey::Pkcs8(der) => RsaKeyPair::from_pkcs8(der),
            PrivateKey::Pkcs1(der) => RsaKeyPair::from_der(der),
        };
        read.map_err(|rejected| match rejected.to_string().as_str() {
            "WrongAlgorithm" => not_rsa(),
            "TooSmall" => refused("key_too_small", "The private key is RSA of less than 2048 bits.", MAKE_ANEW),
            _ => refused("key_unreadable", "The private key cannot be read.", BOTH),
        })
    }
}

/// Names what people paste instead of PEM.
fn refuse_other_forms(pem: &str) -> Result<(), InputError> {
    let bare = pem.trim();
    if bare.is_empty() {
        return Err(refused("empty", "The client certificate is missing.", BOTH));
    }
    if bare.len() > LONGEST {
        return Err(refused("too_long", "The client certificate is longer than 64 KiB.", BOTH));
    }
    if bare.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || bare.contains("Proc-Type: 4,ENCRYPTED") {
        let fix =
            "Remove the passphrase: openssl pkey -in FILE -out key.pem. Strongroom seals the key when it stores it.";
        return Err(refused("encrypted_key", "The private key is encrypted with a passphrase.", fix));
    }
    if bare.contains("-----BEGIN ") {
        return Ok(());
    }
    let compact: Zeroizing<String> = Zeroizing::new(bare.split_whitespace().collect());
    let der = STANDARD.decode(compact.as_bytes()).map(Zeroizing::new);
    if der.is_ok_and(|der| is_pfx(&der)) {
        let fix = "Turn it into PEM: openssl pkcs12 -in FILE.pfx -nodes -out certificate.pem.";
        return Err(refused("pfx", "This is a PFX (PKCS#12) file, not PEM.", fix));
    }
    Err(refused("not_pem", "The client certificate is not PEM: it has no line that begins with -----BEGIN.", BOTH))
}

/// A sequence whose first element is the number 3 (RFC 7292); a certificate or key in DER form begins otherwise.
fn is_pfx(der: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = der else { return false };
    let skipped = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
    rest.get(skipped..).is_some_and(|inner| inner.starts_with(&[2, 1, 3]))
}

/// The private key and every certificate (DER) in the text.
fn sections(pem: &str) -> Result<(PrivateKey, Vec<Vec<u8>>), InputError> {
    // What is copied out of a document or a YAML file is often indented.
    let straight: Zeroizing<String> = Zeroizing::new(pem.lines().flat_map(|line| [line.trim(), "\n"]).collect());
    let (mut keys, mut certificates) = (Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(straight.as_bytes()) {
        match section {
            Ok((SectionKind::PrivateKey, der)) => keys.push(PrivateKey::Pkcs8(Zeroizing::new(der))),
            Ok((SectionKind::RsaPrivateKey, der)) => keys.push(PrivateKey::Pkcs1(Zeroizing::new(der))),
            Ok((SectionKind::EcPrivateKey, _)) => return Err(not_rsa()),
            Ok((SectionKind::Certificate, der)) => certificates.push(der),
            Ok(_) => {}
            Err(_) => return Err(refused("damaged", "The PEM text is damaged or was cut off.", BOTH)),
        }
    }
    match (keys.pop(), keys.is_empty(), certificates.is_empty()) {
        (Some(key), true, false) => Ok((key, certificates)),
        (Some(_), false, _) => Err(refused("two_keys", "The PEM text holds more than one private key.", BOTH)),
        (Some(_), true, true) => Err(refused("no_certificate", "The private key came without its certificate.", BOTH)),
        (None, _, false) => Err(refused("no_key", "The certificate came without its private key.", BOTH)),
        (None, _, true) => Err(refused("neither", "The PEM text holds neither a private key nor a certificate.", BOTH)),
    }
}

/// Why none of the certificates belongs to the key.
fn no_match(certificates: &[Vec<u8>]) -> InputError {
    let read: Vec<_> = certificates.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    if read.len() < certificates.len() {
        return refused("certificate_unreadable", "The certificate cannot be read.", BOTH);
    }
    let rsa = |certificate: &Certificate| {
        certificate.tbs_certificate.subject_public_key_info.algorithm.oid.to_string() == RSA
    };
    if read.iter().any(rsa) {
        return refused("mismatch", "The private key and the certificate do not belong together.", BOTH);
    }
    not_rsa()
}

fn not_rsa() -> InputError {
    refused("not_rsa", "The key is not RSA; Microsoft Entra takes RSA certificates only.", MAKE_ANEW)
}

fn refused(code: &'static str, cause: impl Into<String>, fix: &str) -> InputError {
    error(Field::ClientCertificate, code, cause, fix)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
    use serde_json::Value;

    use super::*;

    fn rsa() -> KeyPair {
        KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key")
    }

    /// A self-signed certificate of the years 2024 and 2025.
    fn certificate(key: &KeyPair) -> String {
        let mut parameters = CertificateParams::default();
        parameters.not_before = date_time_ymd(2024, 1, 1);
        parameters.not_after = date_time_ymd(2026, 1, 1);
        parameters.self_signed(key).expect("a certificate").pem()
    }

    fn code(pem: &str) -> &'static str {
        let error = ClientCertificate::parse(pem).map(|_| ()).expect_err("refused");
        assert_eq!(error.field.as_str(), "client_certificate");
        error.code
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn key_and_certificate_may_come_in_any_order_with_a_chain_and_indented() {
        let (key, other) = (rsa(), rsa());
        let (key_pem, own, issuer) = (key.serialize_pem(), certificate(&key), certificate(&other));
        // PKCS#1 is what PKCS#8 wraps, after 26 bytes for a key of 2048 bits.
        let pkcs1 = STANDARD.encode(&key.serialize_der()[26..]);
        let pkcs1 = format!("-----BEGIN RSA PRIVATE KEY-----\n{pkcs1}\n-----END RSA PRIVATE KEY-----\n");
        for pem in [
            format!("{key_pem}{own}"),
            format!("{own}{key_pem}"),
            format!("{issuer}{own}{key_pem}"),
            format!("{own}{issuer}{pkcs1}"),
            format!("Bag Attributes\r\n    friendlyName: strongroom\r\n{key_pem}{own}").replace('\n', "\r\n"),
            format!("{key_pem}{own}").lines().map(|line| format!("    {line}\n")).collect(),
        ] {
            let parsed = ClientCertificate::parse(&pem).unwrap_or_else(|error| panic!("{error}\n{own}"));
            assert_eq!(parsed.not_after(), at("2026-01-01T00:00:00Z"));
            let der = STANDARD.encode(parsed.certificate_der());
            assert_eq!(der, own.lines().filter(|line| !line.starts_with("-----")).collect::<String>());
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let (key, other) = (rsa(), rsa());
        let (key_pem, own) = (key.serialize_pem(), certificate(&key));
        let ec = KeyPair::generate().expect("a key");
        let ec_certificate = CertificateParams::default().self_signed(&ec).expect("a certificate").pem();
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let classic = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let pfx = STANDARD.encode([&[0x30, 0x82, 0x09, 0x00, 0x02, 0x01, 0x03, 0x30][..], &[0; 2300]].concat());
        let der: String = own.lines().filter(|line| !line.starts_with("-----")).collect();
        let cut = own.rsplit_once("-----END").expect("an end").0;
        for (pem, expected) in [
            (String::new(), "empty"),
            (own.clone(), "no_key"),
            (key_pem.clone(), "no_certificate"),
            (format!("{encrypted}{own}"), "encrypted_key"),
            (format!("{classic}{own}"), "encrypted_key"),
            (pfx, "pfx"),
            (der, "not_pem"),
            ("CN=strongroom".to_owned(), "not_pem"),
            (format!("{}{own}", other.serialize_pem()), "mismatch"),
            (format!("{key_pem}{}{own}", other.serialize_pem()), "two_keys"),
            (format!("{}{ec_certificate}", ec.serialize_pem()), "not_rsa"),
            (format!("{key_pem}{ec_certificate}"), "not_rsa"),
            (format!("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n{own}"), "not_rsa"),
            (format!("{SMALL}{own}"), "key_too_small"),
            (format!("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n{own}"), "key_unreadable"),
            (
                format!("{key_pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "certificate_unreadable",
            ),
            (format!("{key_pem}{cut}"), "damaged"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(), "neither"),
            (format!("{key_pem}{own}{}", " ".repeat(10) + &"x".repeat(70_000)), "too_long"),
        ] {
            assert_eq!(code(&pem), expected, "{pem:.60}");
        }
    }

    #[test]
    fn a_certificate_outside_of_its_dates_is_refused_by_name() {
        let key = rsa();
        let parsed = ClientCertificate::parse(&format!("{}{}", key.serialize_pem(), certificate(&key)));
        let parsed = parsed.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.valid_at(at("2023-12-31T23:59:59Z")).expect_err("early").code, "not_yet_valid");
        assert_eq!(parsed.valid_at(at("2024-01-01T00:00:00Z")), Ok(()));
        assert_eq!(parsed.valid_at(at("2025-12-31T23:59:59Z")), Ok(()));
        let late = parsed.valid_at(at("2026-01-01T00:00:00Z")).expect_err("late");
        assert_eq!((late.code, late.cause.as_str()), ("expired", "The certificate expired 2026-01-01T00:00:00Z."));
    }

    #[test]
    fn no_error_repeats_anything_of_the_key() {
        let key = rsa();
        let body: String = key.serialize_pem().lines().filter(|line| !line.starts_with("-----")).collect();
        for pem in [key.serialize_pem(), body.clone(), key.serialize_pem().replace("PRIVATE KEY", "EC PRIVATE KEY")] {
            let error = ClientCertificate::parse(&pem).map(|_| ()).expect_err("refused");
            let told = format!("{error} {error:?}");
            assert!(!body.as_bytes().chunks(16).any(|part| told.as_bytes().windows(16).any(|seen| seen == part)));
        }
    }

    #[test]
    fn an_assertion_is_a_jwt_that_the_certificate_verifies() {
        let key = rsa();
        let own = certificate(&key);
        let parsed = ClientCertificate::parse(&format!("{}{own}", key.serialize_pem()));
        let parsed = parsed.unwrap_or_else(|error| panic!("{error}"));
        let (now, id) = (at("2025-03-01T12:00:00Z"), Uuid::from_u128(7));
        let endpoint = "https://login.microsoftonline.com/t/oauth2/v2.0/token";
        let assertion = parsed.assertion("client", endpoint, now, id);

        let (signed, signature) = assertion.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        let holder = Certificate::from_der(parsed.certificate_der()).expect("a certificate");
        let holder = holder.tbs_certificate.subject_public_key_info.subject_public_key;
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, holder.raw_bytes())
            .verify(signed.as_bytes(), &signature)
            .expect("signed by the certificate's key");

        let part = |text: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
        };
        let (header, claims) = signed.split_once('.').expect("two parts");
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, parsed.certificate_der()));
        assert_eq!(part(header), json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
        let (start, end) = (now.as_second(), now.as_second() + 600);
        assert_eq!(
            part(claims),
            json!({"aud": endpoint, "iss": "client", "sub": "client", "jti": id.to_string(), "iat": start, "nbf": start, "exp": end})
        );
    }

    /// RSA of 1024 bits, made for this test alone.
    const SMALL: &str = "-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQCib1IercTawkrzXF7S+OdUIiKWRRs7B5qY6ojOauUffYTnE2l1
WuJmo9jEltrzxtfTSyRq2H3+eb0kTr296bJdqaIbzHVQZHIGes32VDc711YNpTxb
F1X+9VCOn3/EXuwFmdL7NHWNqr6luP3g7zlcqrxg+6vqDDkOvA2px7snSwIDAQAB
AoGBAIELUUEgKdDlJCg8TPTsWtMDH1kkY6K8wrwTL0ZVs9sVm9z8Ff7uigiiyFY9
xop+gP3Sp4beoRHm4zWR/LmAjHsKWy0oZjc+LC/7YvnD1StxbFpBTugje1yIl24q
SELprk5AojNGVkff1IWCMVRWG1i6o+ZUMqVBwcC9dt/ppdzZAkEA0maMDnX0CpTY
ZV1fE1JNX36OoEo3wXyMnDcubn0f3fOtrvoXpDRC6ESvVb7oyf4d+/opvzDuGQMp
QlyWygbjVQJBAMWjiYyGw9NwGiDGBtRVa3Gaa21RFjDDcX4jd2uh/pPLww6+VoOG
/Q1M4eKvDFPJVw0P8prx0bnz7Gl+B5iPIB8CQBbR0HbxDBrpsd6sldc+oe2tiEKS
SiHOJGH9Cigpof8sorXLoizJDkiqyml+XzkpOo9NvqFh6TEFSsBL0n7u6FECQBCw
VIcXQiXyi2JFFoKLi/0Vywh6FmObvVOnbwgZr8OPKzNtgySsG2YqHdDkcygIEl+5
/wRycwE+xbHKwJ1zSIUCQQCWs5iZMcsk+h6PG4nU3l8XuXy2ELhT9bmUKJYc84mm
Q+elLC+VwN/D8sjVCEAJUW2qD/7LrznF1du1U0HRbJ57
-----END RSA PRIVATE KEY-----
";
}
