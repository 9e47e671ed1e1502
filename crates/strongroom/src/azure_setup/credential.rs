//! What the service principal signs in with: a client secret, a certificate, or the tokens of another issuer. Graph v1.0:
//! addPassword, keyCredentials, federatedIdentityCredentials.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use strongroom_keys::azure::{Cloud, federated_credential};

use super::{
    client::{Request, Target, text},
    plan::{CredentialPlan, Plan, PublicCertificate},
    run::NewSecret,
    script::Quoted,
    step::{Facts, Found, Part, Step},
    way::SetupError,
};

/// What Azure lists the credential under.
const NAME: &str = "Strongroom";
/// The longest that the Azure portal offers for a client secret.
const LIFETIME: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);

pub(super) struct Credential;

impl Step for Credential {
    fn part(&self) -> Part {
        Part::Right
    }

    fn thing(&self, plan: &Plan) -> String {
        match &plan.credential {
            CredentialPlan::Secret => "client secret of the application".to_owned(),
            CredentialPlan::Certificate(certificate) => {
                format!("certificate of {} on the application", certificate.file)
            }
            CredentialPlan::WorkloadIdentity { subject, .. } => format!("federated credential for {subject}"),
        }
    }

    fn why(&self, plan: &Plan) -> &'static str {
        match plan.credential {
            CredentialPlan::Secret => "Strongroom signs in with it; good for two years",
            CredentialPlan::Certificate(_) => "Strongroom signs in with its private key, which Azure never sees",
            CredentialPlan::WorkloadIdentity { .. } => {
                "Strongroom signs in with its platform's tokens; no secret to keep"
            }
        }
    }

    fn look<'a>(&self, plan: &Plan, facts: &'a Facts) -> Option<Request<'a>> {
        let application = format!("/v1.0/applications/{}", facts.application.as_deref()?);
        Some(match plan.credential {
            CredentialPlan::WorkloadIdentity { .. } => {
                graph("GET", format!("{application}/federatedIdentityCredentials"), None)
            }
            _ => graph("GET", application, None),
        })
    }

    fn read(&self, plan: &Plan, answer: &Value, facts: &mut Facts) -> Result<Found, SetupError> {
        let rows = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(match &plan.credential {
            CredentialPlan::Secret => {
                let live = live_secrets(&rows("passwordCredentials"), facts.now);
                facts.secret_ends = if let [(_, end)] = live[..] { Some(end) } else { None };
                let latest = live.iter().map(|(_, end)| *end).max();
                facts.older_secrets = live.into_iter().map(|(key_id, _)| key_id).collect();
                secret_found(latest, plan.new_credential)
            }
            CredentialPlan::Certificate(certificate) => {
                facts.certificates = rows("keyCredentials");
                let known = facts.certificates.iter().any(|row| is_certificate(row, certificate));
                if known { Found::There(Vec::new()) } else { Found::Missing }
            }
            CredentialPlan::WorkloadIdentity { issuer, subject } => {
                let wanted = federated_credential(plan.cloud, issuer, subject);
                let same = |row: &Value| row["issuer"] == wanted["issuer"] && row["subject"] == wanted["subject"];
                match rows("value").into_iter().find(same) {
                    None => Found::Missing,
                    Some(row) if row["audiences"] == wanted["audiences"] => Found::There(Vec::new()),
                    Some(row) => return Err(wrong_audience(&row, &wanted, facts.client_id())),
                }
            }
        })
    }

    fn make<'a>(&self, plan: &Plan, facts: &'a Facts) -> Request<'a> {
        let application = format!("/v1.0/applications/{}", facts.application());
        match &plan.credential {
            CredentialPlan::Secret => {
                let until = facts.now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX).to_string();
                let body = json!({"passwordCredential": {"displayName": NAME, "endDateTime": until}});
                graph("POST", format!("{application}/addPassword"), Some(body))
            }
            CredentialPlan::Certificate(certificate) => {
                let new = json!({
                    "type": "AsymmetricX509Cert", "usage": "Verify", "key": certificate.der, "displayName": NAME,
                });
                // The list is replaced as a whole, so those that are there go along.
                let all: Vec<Value> = facts.certificates.iter().cloned().chain([new]).collect();
                graph("PATCH", application, Some(json!({"keyCredentials": all})))
            }
            CredentialPlan::WorkloadIdentity { issuer, subject } => {
                let body = federated_credential(plan.cloud, issuer, subject);
                graph("POST", format!("{application}/federatedIdentityCredentials"), Some(body))
            }
        }
    }

    fn made(&self, answer: &Value, facts: &mut Facts) -> Result<(), SetupError> {
        // Only a client secret comes back; the others are what we sent.
        if answer.get("secretText").is_some() {
            facts.secret = Some(NewSecret {
                text: text(answer, "/secretText")?.into(),
                key_id: text(answer, "/keyId").unwrap_or_default(),
                ends: text(answer, "/endDateTime").ok().and_then(|time| time.parse().ok()),
            });
        }
        Ok(())
    }

    fn afterwards(&self, _: &Plan, facts: &Facts) -> Option<String> {
        let client_id = facts.client_id();
        let delete = |key_id: &String| format!("az ad app credential delete --id {client_id} --key-id {key_id}");
        let commands: Vec<String> = facts.older_secrets.iter().map(delete).collect();
        (!commands.is_empty()).then(|| {
            format!("Older client secrets go on working. Remove each that nothing uses:\n{}", commands.join("\n"))
        })
    }

    fn waits_for(&self, error: &SetupError) -> Option<&'static str> {
        error.is_not_found().then_some("the new application to be known everywhere in Entra ID")
    }

    fn advice(&self, _: &Plan, error: &SetupError) -> Option<String> {
        error.is_forbidden().then(|| {
            "your account may not change this application, or a policy of the tenant forbids such credentials: try \
             another --credential, or ask an Application Administrator"
                .to_owned()
        })
    }

    fn script(&self, plan: &Plan) -> String {
        match &plan.credential {
            CredentialPlan::Secret => secret_script(plan.new_credential),
            CredentialPlan::Certificate(certificate) => certificate_script(certificate),
            CredentialPlan::WorkloadIdentity { issuer, subject } => federated_script(plan.cloud, issuer, subject),
        }
    }
}

/// The client secrets that still work, by what Azure lists them under, with their ends.
fn live_secrets(rows: &[Value], now: Timestamp) -> Vec<(String, Timestamp)> {
    let live = rows.iter().filter_map(|row| {
        let end = row["endDateTime"].as_str()?.parse().ok().filter(|end| *end > now)?;
        Some((row["keyId"].as_str()?.to_owned(), end))
    });
    live.collect()
}

fn secret_found(latest: Option<Timestamp>, another: bool) -> Found {
    match latest {
        Some(end) if !another => Found::There(vec![format!(
            "good until {}; Azure does not show it again (--new-credential makes another)",
            end.strftime("%Y-%m-%d")
        )]),
        _ => Found::Missing,
    }
}

/// Entra takes one federated credential for an issuer and a subject, so that none can be made beside it.
fn wrong_audience(row: &Value, wanted: &Value, client_id: &str) -> SetupError {
    let name = row["name"].as_str().unwrap_or_default();
    let message = format!(
        "the federated credential {name} is for that issuer and subject and for the audience {}, where {} is needed; it is \
         left as it is",
        row["audiences"], wanted["audiences"]
    );
    let audiences = json!({"audiences": wanted["audiences"]}).to_string();
    SetupError::answer(message).advise(format!(
        "change it:\naz ad app federated-credential update --id {client_id} --federated-credential-id {} --parameters {}",
        row["id"].as_str().unwrap_or(name),
        Quoted(&audiences)
    ))
}

/// Graph writes the thumbprint in hexadecimal or in base64, and sometimes shows the certificate itself.
fn is_certificate(row: &Value, certificate: &PublicCertificate) -> bool {
    let base64 = hex::decode(&certificate.thumbprint).map(|bytes| STANDARD.encode(bytes)).unwrap_or_default();
    let listed = row["customKeyIdentifier"].as_str().unwrap_or_default();
    listed.eq_ignore_ascii_case(&certificate.thumbprint) || listed == base64 || row["key"] == certificate.der.as_str()
}

fn graph(method: &'static str, path: String, body: Option<Value>) -> Request<'static> {
    Request { target: Target::Graph, method, path, query: vec![], body }
}

fn secret_script(another: bool) -> String {
    let make = "az ad app credential reset --id \"$CLIENT_ID\" --append --display-name Strongroom --years 2 \\\n    \
                --query password --output tsv --only-show-errors";
    if another {
        return format!("CLIENT_SECRET=$({make})\n");
    }
    format!(
        "CLIENT_SECRET='(as when it was made; Azure does not show it again)'\n\
         NOW=$(date -u +%Y-%m-%dT%H:%M:%SZ)\n\
         FOUND=$(az ad app credential list --id \"$CLIENT_ID\" --query \"[?endDateTime>'$NOW'].keyId\" --output tsv)\n\
         if [ -z \"$FOUND\" ]; then\n  \
           CLIENT_SECRET=$({make})\n\
         fi\n"
    )
}

fn certificate_script(certificate: &PublicCertificate) -> String {
    let PublicCertificate { file, .. } = certificate;
    format!(
        "CERTIFICATE={}\n\
         if [ ! -e \"$CERTIFICATE\" ]; then\n  \
           (umask 077 && openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 730 -subj /CN=Strongroom \\\n    \
             -keyout \"$CERTIFICATE.key\" -out \"$CERTIFICATE.crt\" && \\\n    \
             cat \"$CERTIFICATE.key\" \"$CERTIFICATE.crt\" > \"$CERTIFICATE\" && rm \"$CERTIFICATE.key\")\n\
         fi\n\
         openssl x509 -in \"$CERTIFICATE\" -out \"$CERTIFICATE.crt\"\n\
         THUMBPRINT=$(openssl x509 -in \"$CERTIFICATE\" -noout -fingerprint -sha1 | cut -d= -f2 | tr -d :)\n\
         KNOWN=$(az ad app credential list --id \"$CLIENT_ID\" --cert --query '[].customKeyIdentifier' --output tsv)\n\
         if ! printf '%s\\n' \"$KNOWN\" | grep -qix \"$THUMBPRINT\"; then\n  \
           az ad app credential reset --id \"$CLIENT_ID\" --append --cert \"@$CERTIFICATE.crt\" \\\n    \
             --output none --only-show-errors\n\
         fi\n",
        Quoted(file)
    )
}

fn federated_script(cloud: Cloud, issuer: &str, subject: &str) -> String {
    let parameters = federated_credential(cloud, issuer, subject);
    let name = parameters["name"].as_str().unwrap_or_default();
    format!(
        "FOUND=$(az ad app federated-credential list --id \"$CLIENT_ID\" --query \"[?name=='{name}'].id\" --output tsv)\n\
         if [ -z \"$FOUND\" ]; then\n  \
           az ad app federated-credential create --id \"$CLIENT_ID\" --output none \\\n    \
             --parameters {}\n\
         fi\n",
        Quoted(&parameters.to_string())
    )
}
