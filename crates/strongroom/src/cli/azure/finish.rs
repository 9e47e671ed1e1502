//! After Azure: the service principal proves that it can use the key, and the vault is made in Strongroom, or everything
//! that is needed for it is printed.

use std::{io::Write, path::Path};

use jiff::Timestamp;
use serde_json::{Value, json};
use strongroom_keys::{
    AzureInput, CredentialInput,
    azure::{AzureConfig, AzureKeys},
    check::{CheckLine, CheckStatus},
};

use super::{
    Setup,
    report::{self, Report},
    sign_in::Reach,
    wishes::{AtHand, CredentialKind},
};
use crate::{
    azure_setup::{Line, Quoted, prove},
    cli::{
        console::{Console, Format, printable},
        failure::{Exit, Failure},
        vault::{WARNED, shown_warnings},
    },
    client::{Client, ClientError},
    http::api::types::{AcceptWarnings, AzureKey, CreateVault, Strategy, Vault},
    secret_text::SecretText,
};

/// Everything that step 5 takes.
pub(super) struct Finish<'a> {
    pub setup: &'a Setup,
    pub console: &'a Console,
    pub report: &'a Report<'a>,
    pub lines: &'a [Line],
    pub client_id: String,
    pub tenant_id: String,
    pub vault_url: String,
    pub at_hand: AtHand,
    /// Made in this run.
    pub new_credential: bool,
}

impl Finish<'_> {
    /// Prints the values and proves the key; with `strongroom` makes the vault in place of printing. Whatever fails, the
    /// values are printed: a client secret that is not, is lost.
    pub async fn run(&self, reach: &Reach, strongroom: Option<&Client>) -> Result<(), Failure> {
        let Some(client) = strongroom else {
            // Before the proof: that may take ten minutes, and be interrupted.
            self.print(None)?;
            let proven = self.prove(reach).await;
            if proven.is_ok() {
                self.tell_command();
            }
            self.tell_afterwards();
            return proven;
        };
        let proven = self.prove(reach).await;
        let works = proven.is_ok();
        let made = match proven {
            Ok(()) => self.make_vault(client).await,
            Err(failure) => Err(failure),
        };
        self.print(made.as_ref().ok())?;
        if works && made.is_err() {
            self.tell_command();
        }
        self.tell_afterwards();
        made.map(|_| ())
    }

    fn tell_command(&self) {
        if self.console.format == Format::Table {
            self.report.say("\nMake the vault in Strongroom with these, in the web app or so:\n");
            self.report.say(&format!("  {}", self.command()));
        }
    }

    fn tell_afterwards(&self) {
        for afterwards in self.lines.iter().filter_map(|line| line.afterwards.as_deref()) {
            self.report.say(&format!("\n{}", report::printable_lines(afterwards)));
        }
    }

    /// Signs in as the service principal and tries the key, where its credential is known here.
    async fn prove(&self, reach: &Reach) -> Result<(), Failure> {
        self.report.say("\nThe service principal itself");
        let federated_token_file = std::env::var_os("AZURE_FEDERATED_TOKEN_FILE").filter(|file| !file.is_empty());
        let credential = match &self.at_hand {
            AtHand::Secret(secret, _) => CredentialInput::Secret(secret.expose()),
            AtHand::Certificate(pem) => CredentialInput::Certificate(pem.expose()),
            AtHand::WorkloadIdentity if federated_token_file.is_some() => CredentialInput::WorkloadIdentity,
            AtHand::WorkloadIdentity => {
                self.report.say("  not tried  only the server has its tokens; `strongroom vault check` tries it there");
                return Ok(());
            }
            AtHand::Unknown => {
                self.report.say("  not tried  its client secret is not known here (--secret-file, --new-credential)");
                return Ok(());
            }
        };
        let config = AzureConfig {
            cloud: reach.cloud,
            proxy: reach.proxy.clone(),
            ca_pem: reach.ca_pem.clone(),
            federated_token_file: federated_token_file.map(Into::into),
            request_ids: None,
        };
        let azure = AzureKeys::new(&config).map_err(|error| Failure::usage(error.to_string()))?;
        let input = AzureInput {
            client_id: &self.client_id,
            tenant_id: &self.tenant_id,
            credential,
            vault_url: &self.vault_url,
            vault_key_name: &self.setup.things.key,
            credential_expires: None,
        };
        let lines = prove(&azure, &input, self.new_credential, &|event| self.report.event(&event)).await;
        self.tell_proof(&lines)
    }

    fn tell_proof(&self, lines: &[CheckLine]) -> Result<(), Failure> {
        let told = |line: &CheckLine| {
            // The title says what would be right.
            let cause = line.cause.as_deref().unwrap_or(line.title);
            report::printable_lines(&format!("{cause} {}", line.fix.as_deref().unwrap_or_default()))
                .replace('\n', "\n             ")
        };
        if let Some(failed) = lines.iter().find(|line| line.status == CheckStatus::Fail) {
            self.report.say("  failed     everything is made, but it cannot use the key");
            let mut failure = Failure::new(
                Exit::KeyUnavailable,
                failed.reason.unwrap_or(failed.code),
                failed.cause.as_deref().unwrap_or(failed.title),
            );
            failure.fix = Some(match &failed.fix {
                Some(fix) => format!("{fix}\nThen run the same command again"),
                None => "run the same command again".to_owned(),
            });
            failure.azure_request_id = failed.azure_request_id.clone();
            return Err(failure);
        }
        self.report.say("  works      it signs in, and wraps and unwraps with the key");
        for line in lines.iter().filter(|line| line.status == CheckStatus::Warn) {
            self.report.say(&format!("  warning    {}", told(line)));
        }
        Ok(())
    }

    async fn make_vault(&self, client: &Client) -> Result<Vault, Failure> {
        let name = self.setup.vault.vault_name.clone().unwrap_or_default();
        self.report.say(&format!("\n5. The vault \"{}\" in Strongroom", printable(&name)));
        let again = "later: `strongroom vault create` with the values above, or run the same command again";
        let mut request = CreateVault {
            name,
            strategy: Strategy::AzureExternalKeys,
            default: self.setup.vault.default,
            azure: Some(self.azure_key()),
            accept_warnings: AcceptWarnings::All(self.setup.vault.accept_warnings),
        };
        let mut made = client.create_vault(&request).await;
        if let Err(ClientError::Problem(problem)) = &made
            && problem.code == WARNED
        {
            for warning in &problem.errors {
                self.report.say(&printable(&format!("  warning    {}: {}", warning.field, warning.message)));
            }
            if !(self.console.interactive() && self.console.confirm("Make the vault although these warn?")?) {
                return Err(Failure::from(*problem.clone())
                    .fix("mend what it warns of, or say --accept-warnings; then run the same command again"));
            }
            request.accept_warnings = shown_warnings(problem);
            made = client.create_vault(&request).await;
        }
        let vault = made.map_err(|error| Failure::from(error).fix_or(again))?;
        self.report.say(&format!("  made       {}", printable(&vault.name)));
        Ok(vault)
    }

    fn azure_key(&self) -> AzureKey {
        let copy = |text: &SecretText| SecretText::from(text.expose());
        let (mut client_secret, mut client_certificate, mut client_secret_expires) = (None, None, None);
        match &self.at_hand {
            AtHand::Secret(secret, ends) => {
                client_secret = Some(copy(secret));
                client_secret_expires = ends.map(|ends| ends.to_string());
            }
            AtHand::Certificate(pem) => client_certificate = Some(copy(pem)),
            AtHand::WorkloadIdentity | AtHand::Unknown => {}
        }
        AzureKey {
            client_id: self.client_id.clone(),
            tenant_id: self.tenant_id.clone(),
            client_secret,
            client_certificate,
            workload_identity: matches!(self.at_hand, AtHand::WorkloadIdentity),
            client_secret_expires,
            vault_url: self.vault_url.clone(),
            vault_key_name: self.setup.things.key.clone(),
        }
    }

    fn print(&self, vault: Option<&Vault>) -> Result<(), Failure> {
        if self.console.format == Format::Json {
            return self.console.json(&self.document(vault));
        }
        self.report.say("");
        if let Some(vault) = vault {
            return self.console.line(&format!("Created vault {} ({}).", printable(&vault.name), vault.id));
        }
        let credential = match &self.at_hand {
            AtHand::Secret(..) if self.setup.credential.secret_file.is_some() => {
                ("Client Secret", format!("in {}", self.secret_file()))
            }
            AtHand::Secret(secret, _) => ("Client Secret", secret.expose().to_owned()),
            AtHand::Certificate(_) => ("Certificate", format!("in {}", self.setup.credential.certificate.display())),
            AtHand::WorkloadIdentity => ("Credential", "the server's workload identity".to_owned()),
            AtHand::Unknown => ("Client Secret", "as when it was made; Azure does not show it again".to_owned()),
        };
        let rows = [
            ("Client ID", self.client_id.as_str()),
            ("Tenant ID", &self.tenant_id),
            (credential.0, &credential.1),
            ("Vault URL", &self.vault_url),
            ("Vault Key Name", &self.setup.things.key),
        ];
        for (name, value) in rows {
            self.console.line(&format!("{name:<15}  {value}"))?;
        }
        if matches!(self.at_hand, AtHand::Secret(..)) && self.setup.credential.secret_file.is_none() {
            self.report.say("\nThe client secret is shown this once: Azure keeps only its hash.");
        }
        Ok(())
    }

    fn document(&self, vault: Option<&Vault>) -> Value {
        let kind = match self.setup.credential.credential {
            CredentialKind::Secret => "secret",
            CredentialKind::Certificate => "certificate",
            CredentialKind::WorkloadIdentity => "workload_identity",
        };
        let secret_file = self.setup.credential.secret_file.as_ref().map(|_| self.secret_file());
        let shown = match &self.at_hand {
            AtHand::Secret(secret, _) if secret_file.is_none() && vault.is_none() => Some(secret),
            _ => None,
        };
        let certificate = matches!(self.at_hand, AtHand::Certificate(_))
            .then(|| self.setup.credential.certificate.display().to_string());
        let expires = match &self.at_hand {
            AtHand::Secret(_, ends) => ends.as_ref().map(Timestamp::to_string),
            _ => None,
        };
        json!({
            "steps": self.lines,
            "azure": {
                "client_id": self.client_id,
                "tenant_id": self.tenant_id,
                "credential": kind,
                "client_secret": shown,
                "client_secret_file": secret_file,
                "client_secret_expires": expires,
                "client_certificate_file": certificate,
                "vault_url": self.vault_url,
                "vault_key_name": self.setup.things.key,
            },
            "vault": vault,
            "command": vault.is_none().then(|| self.command()),
        })
    }

    /// The exact command that makes the vault.
    fn command(&self) -> String {
        let name = self.setup.vault.vault_name.as_deref().unwrap_or("Azure");
        let credential = match &self.at_hand {
            AtHand::Certificate(_) => {
                format!("--client-certificate {}", Quoted(&self.setup.credential.certificate.display().to_string()))
            }
            AtHand::WorkloadIdentity => "--workload-identity".to_owned(),
            AtHand::Secret(_, ends) => {
                let expires = ends.map(|ends| format!("--client-secret-expires {} ", ends.strftime("%Y-%m-%d")));
                let piped = self.setup.credential.secret_file.is_some();
                let stdin = piped.then(|| format!("--client-secret-stdin < {}", Quoted(&self.secret_file())));
                format!("{}{}", expires.unwrap_or_default(), stdin.unwrap_or_default())
            }
            AtHand::Unknown => String::new(),
        };
        let command = format!(
            "strongroom vault create {} --strategy azure-external-keys --client-id {} --tenant-id {} --vault-url {} \
             --vault-key-name {} {credential}",
            Quoted(name),
            self.client_id,
            self.tenant_id,
            self.vault_url,
            self.setup.things.key
        );
        command.trim_end().to_owned()
    }

    fn secret_file(&self) -> String {
        let file = self.setup.credential.secret_file.as_ref();
        file.map(|file| file.display().to_string()).unwrap_or_default()
    }
}

/// Keeps a new client secret, readable by its owner only, and replaces nothing but an empty file. Prints it if that cannot
/// be done: nobody can get it again.
pub(super) fn keep_secret(file: &Path, secret: &SecretText, console: &Console) -> Result<(), Failure> {
    let keep = || -> std::io::Result<()> {
        if !is_free(file) {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        // Made with mode 0600 and renamed, so that nobody sees it open or half written.
        let mut new = new_file_beside(file)?;
        writeln!(new, "{}", secret.expose())?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    let Err(error) = keep() else { return Ok(()) };
    match console.format {
        Format::Json => console.json(&json!({"azure": {"client_secret": secret}}))?,
        Format::Table => console.line(&format!("Client Secret    {}", secret.expose()))?,
    }
    Err(Failure::new(Exit::Other, "io", format!("{} cannot be written: {error}", file.display()))
        .fix("keep the client secret that is printed; all else is made, too"))
}

/// Whether a secret could be kept there: found out before Azure shows one that would be lost.
pub(super) fn may_keep(file: &Path) -> Result<(), Failure> {
    let possible = if file.is_dir() { Err(std::io::ErrorKind::IsADirectory.into()) } else { new_file_beside(file) };
    possible.map(|_| ()).map_err(|error| {
        Failure::usage(format!("{} cannot be written: {error}", file.display())).fix("name another --secret-file")
    })
}

/// Refuses a file with something in it, where a client secret is going to be made: it may be the only copy of an older one,
/// or have nothing to do with this.
pub(super) fn keeps_nothing(file: &Path) -> Result<(), Failure> {
    if is_free(file) {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is there already, and a client secret is going to be made", file.display()))
        .fix("name another --secret-file, or move it away"))
}

fn is_free(file: &Path) -> bool {
    std::fs::metadata(file).map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |found| found.len() == 0)
}

/// A temporary file, with mode 0600, in the folder of `file`.
fn new_file_beside(file: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::NamedTempFile::new_in(directory)
}
