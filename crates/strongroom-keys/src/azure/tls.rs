//! TLS towards Azure: the platform's roots and the operator's own CA, and an error that names who issued a certificate
//! that is not trusted, since that is what an operator behind an inspecting proxy needs to know.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_platform_verifier::Verifier;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::ConfigError;

/// A rustls configuration that trusts the platform's roots and, added to them, the certificates in `ca_pem`.
pub(super) fn client_config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = NamingVerifier::new(extra_roots(ca_pem)?, provider.clone())?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Tls(error.to_string()))?
        // "Dangerous" is any verifier that rustls did not build; this one refuses whatever the platform's refuses.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn extra_roots(ca_pem: Option<&[u8]>) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(pem) = ca_pem else { return Ok(Vec::new()) };
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ConfigError::Ca)?;
    if roots.is_empty() { Err(ConfigError::Ca) } else { Ok(roots) }
}

/// Why a certificate was not accepted, and who issued it.
#[derive(Debug, thiserror::Error)]
#[error("{problem}; it was issued by {issuer}")]
pub(super) struct Untrusted {
    problem: &'static str,
    issuer: String,
}

/// The platform's verifier; where it refuses, the error tells the issuer.
#[derive(Debug)]
struct NamingVerifier(Verifier);

impl NamingVerifier {
    fn new(roots: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<Self, ConfigError> {
        Verifier::new_with_extra_roots(roots, provider)
            .map(NamingVerifier)
            .map_err(|error| ConfigError::Tls(error.to_string()))
    }
}

impl ServerCertVerifier for NamingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(|error| {
            match error {
                rustls::Error::InvalidCertificate(reason) => untrusted(&reason, end_entity, intermediates),
                other => other,
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn untrusted(reason: &CertificateError, end_entity: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> rustls::Error {
    let problem = match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet (is this server's clock right?)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host name"
        }
        CertificateError::Revoked => "the certificate is revoked",
        _ => "no trusted authority vouches for the certificate",
    };
    // The last certificate that was sent is the nearest to the root, which is what the operator has to find.
    let issuer = issuer_of(rest.last().unwrap_or(end_entity));
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Untrusted { problem, issuer }))))
}

/// What of an error of the handshake tells why the certificate was not accepted.
pub(super) fn find_untrusted(error: &rustls::Error) -> Option<&Untrusted> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

/// Who issued a certificate, by the name in it.
pub(super) fn issuer_of(certificate: &CertificateDer<'_>) -> String {
    match Certificate::from_der(certificate) {
        Ok(certificate) => super::answer::words(&certificate.tbs_certificate.issuer.to_string()),
        Err(_) => "nobody whose name can be read".to_owned(),
    }
}
