//! The certificate authority: one root, and a leaf certificate for each host at the moment someone asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::clock::{Clock, SystemClock};

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("the stand-in's certificate authority is unusable: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS refuses the stand-in's certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The name of the authority that clients of the stand-in trust.
pub(crate) const NAME: &str = "azure-standin test CA, not Microsoft";

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    key_pem: String,
    provider: Arc<CryptoProvider>,
    hosts: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl Ca {
    /// A new root, valid for ten years. Certificates are judged by the clients' real clocks, so they use the real time.
    /// `name` is what its certificates name as their issuer.
    pub fn generate(name: &str) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let mut params = root_params(name);
        set_validity(&mut params, 3650);
        let cert_pem = params.self_signed(&key)?.pem();
        Self::from_pem(name, &cert_pem, &key.serialize_pem())
    }

    /// The root that [`Ca::generate`] made under that name.
    pub fn from_pem(name: &str, cert_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        Ok(Self {
            issuer: Issuer::new(root_params(name), KeyPair::from_pem(key_pem)?),
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            hosts: Mutex::default(),
        })
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The TLS settings under which this process answers as `host`.
    pub fn server_config(&self, host: &str) -> Result<Arc<ServerConfig>, CaError> {
        if let Some(config) = crate::lock(&self.hosts).get(host) {
            return Ok(config.clone());
        }
        let (leaf, private) = self.leaf(host)?;
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf], private)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let config = Arc::new(config);
        crate::lock(&self.hosts).insert(host.to_owned(), config.clone());
        Ok(config)
    }

    fn leaf(&self, host: &str) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, 365);
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok((leaf.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }
}

/// What a leaf takes over from its root: name and key usages.
fn root_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn set_validity(params: &mut CertificateParams, days: i64) {
    let day = |at: Timestamp, offset: i64| {
        let date = TimeZone::UTC.to_datetime(at).date().saturating_add(offset.days());
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let now = SystemClock.now();
    params.not_before = day(now, -1);
    params.not_after = day(now, days);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_names_its_authority_as_issuer() {
        let (leaf, _) = Ca::generate("Example Corp").unwrap().leaf("v.vault.azure.net").unwrap();
        assert!(leaf.windows(12).any(|part| part == b"Example Corp"));
    }
}
