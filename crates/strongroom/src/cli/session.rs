//! Which server, workspace and token a command uses: from the options, the environment, or the last `strongroom login`.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::failure::{Exit, Failure};
use crate::client::{Client, Server};
use crate::secret_text::SecretText;

/// What `strongroom login` keeps, in a file of mode 0600.
#[derive(Serialize, Deserialize)]
pub struct Login {
    pub url: String,
    pub workspace: String,
    pub email: String,
    pub token: SecretText,
    pub expires_at: Timestamp,
}

/// What the options and the environment say.
#[derive(Default)]
pub struct Given {
    /// `--server`, `STRONGROOM_URL`.
    pub url: Option<String>,
    /// `--workspace`, `STRONGROOM_WORKSPACE`.
    pub workspace: Option<String>,
    /// `STRONGROOM_TOKEN`; never an option, because others can read those.
    pub token: Option<SecretText>,
}

/// Whom to talk to, before anything is asked of the server.
struct Chosen {
    url: String,
    workspace: Option<String>,
    token: SecretText,
}

/// Connects with what is given, and with what was kept where nothing is given.
pub async fn connect(given: Given, now: Timestamp) -> Result<Client, Failure> {
    let kept = Login::load(&Login::path()?)?;
    let chosen = choose(given, kept, now)?;
    let server = Server::new(&chosen.url)?;
    let workspace = match chosen.workspace {
        Some(workspace) => workspace,
        None => only_workspace(&server, &chosen.token).await?,
    };
    Ok(server.sign_in(workspace, chosen.token))
}

impl Login {
    pub fn path() -> Result<PathBuf, Failure> {
        let directory = dirs::config_dir().ok_or_else(|| {
            Failure::new(Exit::Other, "config.no_home", "there is no home directory to keep the sign-in in")
                .fix("set HOME or XDG_CONFIG_HOME, or use STRONGROOM_URL and STRONGROOM_TOKEN")
        })?;
        Ok(directory.join("strongroom").join("login.json"))
    }

    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let directory = path.parent().expect("the path was joined");
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // Made with mode 0600 and renamed, so that nobody sees it open or half written.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer_pretty(&mut file, self).map_err(std::io::Error::from)?;
        file.write_all(b"\n")?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// `None` if nobody signed in here.
    fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            let title = format!("others can read {}, which holds your token", path.display());
            return Err(Failure::new(Exit::Denied, "login.readable", title)
                .fix(format!("chmod 600 {}, then sign in again", path.display())));
        }
        let damaged = |_| {
            let title = format!("{} is damaged", path.display());
            Failure::new(Exit::Other, "login.damaged", title).fix("run `strongroom login` again")
        };
        let text = zeroize::Zeroizing::new(fs::read(path)?);
        serde_json::from_slice(&text).map(Some).map_err(damaged)
    }
}

fn choose(given: Given, kept: Option<Login>, now: Timestamp) -> Result<Chosen, Failure> {
    let same = |one: &str, other: &str| one.trim_end_matches('/') == other.trim_end_matches('/');
    // A token is sent only to the server that gave it.
    let kept = kept.filter(|login| given.url.as_deref().is_none_or(|url| same(url, &login.url)));
    if let Some(token) = given.token {
        let url = given.url.or(kept.map(|login| login.url)).ok_or_else(|| {
            Failure::usage("STRONGROOM_TOKEN is set, but not which server it is for").fix("set STRONGROOM_URL")
        })?;
        return Ok(Chosen { url, workspace: given.workspace, token });
    }
    let sign_in = match &given.url {
        Some(url) => format!("strongroom login {url}"),
        None => "strongroom login https://strongroom.example.com".to_owned(),
    };
    let Some(login) = kept else {
        return Err(Failure::new(Exit::Denied, "login.missing", "you are not signed in")
            .fix(format!("run `{sign_in}`, or set STRONGROOM_URL and STRONGROOM_TOKEN")));
    };
    if login.expires_at <= now {
        return Err(Failure::new(Exit::Denied, "login.expired", "your sign-in has expired")
            .fix(format!("run `strongroom login {}`", login.url)));
    }
    let workspace = given.workspace.unwrap_or(login.workspace);
    Ok(Chosen { url: login.url, workspace: Some(workspace), token: login.token })
}

async fn only_workspace(server: &Server, token: &SecretText) -> Result<String, Failure> {
    let mut slugs: Vec<String> =
        server.workspaces(token).await?.items.into_iter().map(|workspace| workspace.slug).collect();
    match slugs.len() {
        1 => Ok(slugs.remove(0)),
        0 => Err(Failure::new(Exit::NotFound, "workspace.none", "the token opens no workspace")),
        _ => Err(Failure::usage(format!("the token opens several workspaces: {}", slugs.join(", ")))
            .fix("name one with --workspace or STRONGROOM_WORKSPACE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            url: "https://a.example".into(),
            workspace: "demo".into(),
            email: "ada@a.example".into(),
            token: SecretText::from("srm_kept"),
            expires_at: Timestamp::from_second(1000).expect("in range"),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn refusal(given: Given, kept: Option<Login>, now: Timestamp) -> Failure {
        choose(given, kept, now).err().expect("refused")
    }

    #[test]
    fn the_sign_in_comes_back_from_a_file_that_only_its_owner_reads() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("strongroom").join("login.json");
        assert!(Login::load(&path).expect("no file is no error").is_none());
        login().save(&path).expect("saved");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let loaded = Login::load(&path).expect("read").expect("there");
        assert_eq!(loaded.token.expose(), "srm_kept");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        assert_eq!(Login::load(&path).err().expect("refused").code, "login.readable");
    }

    #[test]
    fn a_kept_token_never_goes_to_another_server() {
        let given = Given { url: Some("https://b.example".into()), ..Given::default() };
        assert_eq!(refusal(given, Some(login()), at(1)).code, "login.missing");
        let given = Given { url: Some("https://a.example/".into()), ..Given::default() };
        assert_eq!(choose(given, Some(login()), at(1)).expect("the same").token.expose(), "srm_kept");
    }

    #[test]
    fn the_environment_wins_and_an_expired_sign_in_says_so() {
        let given = Given { token: Some(SecretText::from("srm_given")), ..Given::default() };
        let chosen = choose(given, Some(login()), at(1)).expect("chosen");
        // The workspace that was kept belongs to the token that was kept.
        assert_eq!((chosen.token.expose(), chosen.workspace), ("srm_given", None));
        assert_eq!(refusal(Given::default(), Some(login()), at(1000)).code, "login.expired");
        assert_eq!(refusal(Given::default(), None, at(1)).exit, Exit::Denied);
    }
}
