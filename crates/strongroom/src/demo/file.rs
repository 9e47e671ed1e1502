//! `demo.json`: everything that a person, a script or a test needs to use a running demo. Mode 0600.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    secret_text::SecretText,
};

/// The demo's file. Its secrets are the demo's own, made at random when it was.
#[derive(Serialize, Deserialize)]
pub struct DemoFile {
    pub url: String,
    pub workspace: String,
    pub members: Vec<DemoMember>,
    pub vaults: Vec<DemoVault>,
    pub azure: DemoAzure,
    pub standin: DemoStandin,
}

#[derive(Serialize, Deserialize)]
pub struct DemoMember {
    pub role: String,
    pub email: String,
    pub password: SecretText,
    pub token: SecretText,
}

#[derive(Serialize, Deserialize)]
pub struct DemoVault {
    pub id: String,
    pub name: String,
    pub strategy: String,
}

/// The five values of step 5, and where the key's owner finds them.
#[derive(Serialize, Deserialize)]
pub struct DemoAzure {
    pub client_id: String,
    pub tenant_id: String,
    pub client_secret: SecretText,
    pub vault_url: String,
    pub vault_key_name: String,
}

#[derive(Serialize, Deserialize)]
pub struct DemoStandin {
    pub proxy: String,
    pub control: String,
    pub ca: String,
    pub admin: DemoAdmin,
}

/// The stand-in's built-in administrator.
#[derive(Serialize, Deserialize)]
pub struct DemoAdmin {
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: SecretText,
    pub subscription_id: String,
}

const NAME: &str = "demo.json";

impl DemoFile {
    /// The file of a finished demo.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let text = fs::read_to_string(&path).map_err(|error| Error::Setup {
            what: format!("{} cannot be read: {error}", path.display()).into(),
            fix: "Start the demo first (strongroom demo), or name its folder with --dir.".into(),
        })?;
        serde_json::from_str(&text).map_err(|error| Error::Setup {
            what: format!("{} is not a demo's file: {error}", path.display()).into(),
            fix: "Start over with strongroom demo --fresh.".into(),
        })
    }

    /// Whether a finished demo is there.
    pub fn exists(dir: &Path) -> bool {
        dir.join(NAME).exists()
    }

    /// Written whole or not at all: its presence says that the demo is complete.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(NAME);
        let new = dir.join("demo.json.new");
        let write = || -> std::io::Result<()> {
            let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
            let mut out = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| super::unusable(dir, &error))
    }

    /// What a newcomer reads when the demo is ready. Every command runs as pasted.
    pub fn what_to_try(&self, dir: &Path) -> String {
        let program = program();
        let owner = self.members.first();
        let token = owner.map_or("", |owner| owner.token.expose());
        let mut text = format!("\nReady: {}\n\nSign in as\n", self.url);
        for member in &self.members {
            text += &format!("  {:<12} {:<26} {}\n", member.role, member.email, member.password.expose());
        }
        text += &format!(
            "\nWhat to try, in another terminal\n\
             \n  Read a password on the command line:\
             \n    export STRONGROOM_URL={url} STRONGROOM_TOKEN={token}\
             \n    {program} item list --search mail\
             \n    {program} read strongroom://Azure/Mail/Password\
             \n\
             \n  Switch the key off in Azure, and watch the page go dark within seconds:\
             \n    {disable}\
             \n\
             \n  Switch it on again; everything is back, nothing was lost:\
             \n    {enable}\
             \n\
             \n  What Azure says of the key:\
             \n    {status}\
             \n\
             \n  Measure how fast a withdrawal bites, way by way:\
             \n    {program} vault drill Azure --demo {folder}\
             \n\
             \n  Make a new version of the key in Azure, and take the vault keys to it:\
             \n    {rotate}\
             \n    {program} vault rewrap Azure --wait\
             \n\
             \nEverything lies in {dir}; Ctrl-C ends it, the same command goes on with it, --fresh starts over.\n",
            url = self.url,
            dir = dir.display(),
            folder = shell_word(&dir.display().to_string()),
            rotate = key_command(dir, "rotate"),
            disable = key_command(dir, "disable"),
            enable = key_command(dir, "enable"),
            status = key_command(dir, "status"),
        );
        text
    }
}

/// `strongroom demo key …` for the demo in `dir`, as it runs when pasted.
pub(super) fn key_command(dir: &Path, what: &str) -> String {
    format!("{} demo key {what} --dir {}", program(), shell_word(&dir.display().to_string()))
}

/// This very program, wherever it lies.
fn program() -> String {
    shell_word(&std::env::current_exe().map_or_else(|_| "strongroom".into(), |path| path.display().to_string()))
}

/// Quoted for a POSIX shell, if it needs to be.
fn shell_word(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
