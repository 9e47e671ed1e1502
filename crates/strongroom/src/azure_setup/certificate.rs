//! The certificate that the service principal signs in with: read from a file, or made and kept in one.

use std::{fs, io::ErrorKind, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
use strongroom_keys::ClientCertificate;
use zeroize::Zeroizing;

use super::{
    plan::PublicCertificate,
    way::{Kind, SetupError},
};
use crate::secret_text::SecretText;

const LIFETIME: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);

/// A certificate with its private key, as PEM, and what Entra has to know of it.
pub struct Certificate {
    pub pem: SecretText,
    pub public: PublicCertificate,
    pub not_after: Timestamp,
}

impl Certificate {
    /// Reads the one in `file`; if there is no such file, makes an RSA-3072 key with a self-signed certificate that is
    /// good for two years, and keeps both there with mode 0600.
    pub fn read_or_make(file: &Path, now: Timestamp) -> Result<Self, SetupError> {
        let unusable = |why: String| SetupError::new(Kind::Usage, format!("{} cannot be used: {why}", file.display()));
        let pem = match fs::read_to_string(file) {
            Ok(pem) => Zeroizing::new(pem),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let pem = make(now).map_err(|error| unusable(error.to_string()))?;
                keep(file, &pem).map_err(|error| unusable(error.to_string()))?;
                pem
            }
            Err(error) => return Err(unusable(error.to_string())),
        };
        let parsed = ClientCertificate::parse(&pem).map_err(|error| unusable(error.cause).advise(error.fix))?;
        parsed.valid_at(now).map_err(|error| unusable(error.cause).advise(error.fix))?;
        let public = PublicCertificate {
            thumbprint: parsed.thumbprint(),
            der: STANDARD.encode(parsed.certificate_der()),
            file: file.display().to_string(),
        };
        Ok(Self { pem: SecretText::from(pem), public, not_after: parsed.not_after() })
    }
}

impl PublicCertificate {
    /// One that nobody has made yet, where only its file's name matters.
    pub fn to_be_made(file: &Path) -> Self {
        Self { der: String::new(), thumbprint: String::new(), file: file.display().to_string() }
    }
}

fn keep(file: &Path, pem: &str) -> std::io::Result<()> {
    let mut out = fs::File::options().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(pem.as_bytes())?;
    out.sync_all()
}

fn make(now: Timestamp) -> Result<Zeroizing<String>, rcgen::Error> {
    // The day's first moment: early enough for a server whose clock is behind.
    let midnight = |at: Timestamp| {
        let date = TimeZone::UTC.to_datetime(at).date();
        let part = |number: i8| u8::try_from(number).expect("months and days count from 1");
        date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Strongroom");
    params.not_before = midnight(now);
    params.not_after = midnight(now.checked_add(LIFETIME).unwrap_or(now));
    let certificate = params.self_signed(&key)?;
    let secret = Zeroizing::new(key.serialize_pem());
    let mut pem = Zeroizing::new(String::with_capacity(8192));
    pem.push_str(&secret);
    pem.push_str(&certificate.pem());
    Ok(pem)
}
