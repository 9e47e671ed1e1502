//! What proves an application: a secret, an assertion signed with a registered certificate, or a token of an issuer
//! that it trusts (workload identity federation).
//! Source: learn.microsoft.com/entra/identity-platform/certificate-credentials and
//! learn.microsoft.com/entra/workload-id/workload-identity-federation.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};
use x509_cert::der::Decode;

use super::{Form, HOST, iso, refuse};
use crate::World;
use crate::http::{Reply, unb64url};
use crate::jwt::{self, How, Parts};
use crate::state::{Application, Certificate, FederatedCredential, State, Tenant};

/// The issuer of federated tokens that the stand-in plays, unless another is asked for.
const ISSUER: &str = "https://oidc.azure-standin.example";

const AUDIENCE: &str = "api://AzureADTokenExchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far clocks may differ.
const SKEW: i64 = 300;
const FEDERATION: &str = "https://docs.microsoft.com/en-us/azure/active-directory/develop/workload-identity-federation";

/// How the caller of the token endpoint proved that it is `application`.
pub(super) fn check(
    world: &World,
    state: &State,
    tenant: &Tenant,
    application: &Application,
    form: &Form,
) -> Result<How, Reply> {
    if let Some(secret) = form.field("client_secret") {
        return check_secret(world, application, form.now(world), secret);
    }
    let Some(assertion) = form.field("client_assertion") else {
        let message =
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.";
        return Err(refuse(world, 401, "invalid_client", 7_000_216, message));
    };
    if form.need(world, "client_assertion_type")? != JWT_BEARER {
        let message = "The provided 'client_assertion_type' is not supported.";
        return Err(refuse(world, 400, "invalid_request", 900_144, message));
    }
    let Some(parts) = jwt::split(assertion) else {
        return Err(refuse(world, 400, "invalid_request", 50_027, "JWT token is invalid or malformed."));
    };
    let now = form.now(world);
    if parts.text("iss").starts_with("https://") {
        check_federated(world, state, now, application, &parts)?;
    } else {
        check_certificate(world, now, tenant, application, &parts)?;
    }
    Ok(How::Assertion)
}

fn check_secret(world: &World, application: &Application, now: i64, secret: &str) -> Result<How, Reply> {
    let app = &application.app_id;
    let refuse = |code: u32, message: &str| refuse(world, 401, "invalid_client", code, message);
    let Some(known) = application.secrets.iter().find(|known| known.matches(secret)) else {
        return Err(refuse(
            7_000_215,
            &format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret \
                 value, not the client secret ID, for a secret added to app '{app}'."
            ),
        ));
    };
    if now < known.starts || known.ends <= now {
        return Err(refuse(
            7_000_222,
            &format!(
                "The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new \
                 keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for \
                 added security: https://aka.ms/certCreds."
            ),
        ));
    }
    Ok(How::Secret)
}

/// The application's own statement: issuer and subject are its id, the audience is the tenant's token endpoint.
fn check_certificate(
    world: &World,
    now: i64,
    tenant: &Tenant,
    application: &Application,
    parts: &Parts,
) -> Result<(), Reply> {
    let refused = |code: u32, message: &str| refuse(world, 401, "invalid_client", code, message);
    // With padding or without.
    let named = ["x5t#S256", "x5t"].map(|name| unb64url(parts.header[name].as_str()?));
    let known = application.certificates.iter().find(|known| {
        let prints = [thumbprint(known, &SHA256), thumbprint(known, &SHA1_FOR_LEGACY_USE_ONLY)];
        named.iter().zip(prints).any(|(named, print)| *named == Some(print))
    });
    let not_registered = |reason: &str| {
        refused(
            700_027,
            &format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. \
                 [Reason - {reason}, Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see \
                 configured keys for app Id '{0}'. Review the documentation at \
                 https://docs.microsoft.com/en-us/graph/deployments to determine the corresponding service endpoint \
                 and https://docs.microsoft.com/en-us/graph/api/application-get?view=graph-rest-1.0&tabs=http to \
                 build a query request URL, such as 'https://graph.microsoft.com/beta/applications/{0}'].",
                application.app_id
            ),
        )
    };
    let Some(known) = known else {
        let print = named.iter().flatten().next().map(|print| hex(print));
        let client = print.map_or_else(String::new, |print| format!(", Thumbprint of key used by client: '{print}'"));
        return Err(not_registered(&format!("The key was not found.{client}")));
    };
    if signed_by(known, parts).is_none() {
        return Err(not_registered("The key used is invalid."));
    }
    if now < known.starts || known.ends <= now {
        let found = format!("Found key 'Start={}, End={}'", iso(known.starts), iso(known.ends));
        return Err(not_registered(&format!("The key used is expired., {found}")));
    }
    if [parts.text("iss"), parts.text("sub")].iter().any(|id| !id.eq_ignore_ascii_case(&application.app_id)) {
        let message = "Client assertion application identifier doesn't match 'client_id' parameter. Review the \
                       documentation at https://docs.microsoft.com/azure/active-directory/develop/\
                       active-directory-certificate-credentials .";
        return Err(refused(700_021, message));
    }
    let audience = parts.text("aud");
    let ours = [&tenant.id, &tenant.domain].iter().any(|name| audience.starts_with(&format!("https://{HOST}/{name}/")));
    if !ours {
        let message = "Client assertion audience claim does not match Realm issuer. Review the documentation at \
                       https://docs.microsoft.com/azure/active-directory/develop/\
                       active-directory-certificate-credentials .";
        return Err(refused(700_023, message));
    }
    check_times(world, now, parts)
}

/// A token of somebody else, which a federated identity credential of the application must match word for word.
/// That 70021 is said where audience and subject are both wrong is a guess, and so is 50013 for a forged signature.
fn check_federated(
    world: &World,
    state: &State,
    now: i64,
    application: &Application,
    parts: &Parts,
) -> Result<(), Reply> {
    let refused = |code: u32, message: &str| refuse(world, 401, "invalid_client", code, message);
    let (issuer, subject, audience) = (parts.text("iss"), parts.text("sub"), parts.text("aud"));
    if application.federated.is_empty() {
        let message = format!(
            "The client '{}'({}) has no configured federated identity credentials.",
            application.app_id, application.name
        );
        return Err(refused(70_025, &message));
    }
    let unmatched = |code: u32, what: &str, found: &str| {
        let message = format!(
            "No matching federated identity record found for presented assertion {what} '{found}'. Please check your \
             federated identity credential Subject, Audience and Issuer against the presented assertion. {FEDERATION}"
        );
        refused(code, &message)
    };
    let trusted: Vec<&FederatedCredential> =
        application.federated.iter().filter(|known| known.issuer == issuer).collect();
    let heard = |known: &FederatedCredential| known.audiences.iter().any(|known| known == audience);
    if trusted.is_empty() {
        return Err(unmatched(700_211, "issuer", issuer));
    }
    let exact = trusted.iter().any(|known| known.subject == subject);
    let alike = trusted.iter().any(|known| known.subject.eq_ignore_ascii_case(subject));
    if !trusted.iter().any(|known| known.subject == subject && heard(known)) {
        return Err(match (exact, trusted.iter().any(|known| heard(known))) {
            (true, _) => unmatched(700_212, "audience", audience),
            (false, true) if alike => refused(
                7_002_138,
                &format!(
                    "No matching federated identity record found for presented assertion subject '{subject}'. The \
                     subject matches with case-insensitive comparison, but not with case-sensitive comparison. Check \
                     your federated identity credential Subject, Audience and Issuer against the presented assertion. \
                     See documentation at: https://learn.microsoft.com/entra/workload-id/workload-identity-federation."
                ),
            ),
            (false, true) => unmatched(700_213, "subject", subject),
            (false, false) => refused(
                70_021,
                &format!(
                    "No matching federated identity record found for presented assertion. Assertion Issuer: \
                     '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'. {FEDERATION}"
                ),
            ),
        });
    }
    if !state.signing_key.verify(parts.signed.as_bytes(), &parts.signature) {
        return Err(refused(50_013, "Assertion failed signature validation. [Reason - The key was not found.]"));
    }
    check_times(world, now, parts)
}

fn check_times(world: &World, now: i64, parts: &Parts) -> Result<(), Reply> {
    // MSAL for Python sends fractions of a second.
    let time = |name: &str| parts.payload[name].as_f64().map_or(0, |second| second as i64);
    let (from, until) = (time("nbf"), time("exp"));
    if from <= now + SKEW && now < until + SKEW {
        return Ok(());
    }
    let message = format!(
        "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry time \
         of assertion {}. Review the documentation at https://docs.microsoft.com/azure/active-directory/develop/\
         active-directory-certificate-credentials .",
        iso(now),
        iso(from),
        iso(until)
    );
    Err(refuse(world, 401, "invalid_client", 700_024, &message))
}

/// RS256 or PS256 with the key of that certificate.
fn signed_by(known: &Certificate, parts: &Parts) -> Option<()> {
    let parameters: &'static RsaParameters = match parts.header["alg"].as_str()? {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        _ => return None,
    };
    let certificate = x509_cert::Certificate::from_der(&known.der).ok()?;
    let key = certificate.tbs_certificate.subject_public_key_info.subject_public_key;
    UnparsedPublicKey::new(parameters, key.raw_bytes()).verify(parts.signed.as_bytes(), &parts.signature).ok()
}

pub(crate) fn thumbprint(certificate: &Certificate, algorithm: &'static digest::Algorithm) -> Vec<u8> {
    digest::digest(algorithm, &certificate.der).as_ref().to_vec()
}

/// What the issuer that the stand-in plays is asked for; everything but the subject has a default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcToken {
    pub subject: String,
    #[serde(default = "OidcToken::issuer")]
    pub issuer: String,
    #[serde(default = "OidcToken::audience")]
    pub audience: String,
    /// Seconds from now; negative for a token that has expired.
    #[serde(default = "OidcToken::hour")]
    pub expires_in: i64,
}

impl OidcToken {
    pub fn of(subject: &str) -> Self {
        let (issuer, audience) = (Self::issuer(), Self::audience());
        Self { subject: subject.to_owned(), issuer, audience, expires_in: Self::hour() }
    }

    fn issuer() -> String {
        ISSUER.to_owned()
    }

    fn audience() -> String {
        AUDIENCE.to_owned()
    }

    fn hour() -> i64 {
        3600
    }

    /// The signed token. `None` only if the signing key cannot sign.
    pub fn sign(&self, world: &World) -> Option<String> {
        let exp = world.now() + self.expires_in;
        let claims: Value = json!({
            "iss": self.issuer, "sub": self.subject, "aud": self.audience, "iat": exp - 3600, "nbf": exp - 3600, "exp": exp,
        });
        world.read(|state| jwt::sign(&state.signing_key, &claims))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
