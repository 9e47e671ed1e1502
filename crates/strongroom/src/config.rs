//! What an operator can set: `strongroom.toml`, and over it the environment (`STRONGROOM_SERVER__LISTEN` …).
//!
//! A key that is not known is an error that names the nearest one: a misspelt security setting must not be a silent
//! default. `EXAMPLE` is the reference, every key with its default and its meaning.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Value, ValueKind};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;
use url::Url;
use zeroize::Zeroizing;

use crate::secret_text::SecretText;

/// `strongroom.example.toml`: all keys, commented out, with their defaults.
pub const EXAMPLE: &str = include_str!("../strongroom.example.toml");

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "strongroom.toml";

/// The whole configuration, checked.
///
/// Without `Debug`: `database.url` and `azure.proxy` may hold passwords.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: ServerConfig,
    pub database: DatabaseConfig,
    pub instance: InstanceConfig,
    pub azure: AzureConfig,
    pub vaults: VaultsConfig,
    pub audit: AuditConfig,
    pub notices: NoticesConfig,
    pub smtp: SmtpConfig,
    /// The file, where a password stands in it.
    #[serde(skip)]
    pub secret_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Default `127.0.0.1:8470`.
    pub listen: SocketAddr,
    /// As set; `Config::public_url` has the one to use.
    #[serde(deserialize_with = "optional_web_url")]
    pub public_url: Option<Url>,
    /// Absent: no metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Whose `X-Forwarded-For` is believed. Default: nobody's.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// PEM, with its chain. Both or neither of `tls_cert` and `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// PEM.
    pub tls_key: Option<PathBuf>,
    /// A proxy in front ends TLS. Default false.
    pub tls_terminated: bool,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Default `sqlite:strongroom.db`.
    pub url: DatabaseUrl,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceConfig {
    /// Default `strongroom.key`.
    pub key_file: PathBuf,
    /// Default: beside the key file, with the extension `node`. Each server on one machine has its own.
    pub node_file: Option<PathBuf>,
}

impl InstanceConfig {
    /// Where this server's node id is.
    pub fn node_file(&self) -> PathBuf {
        self.node_file.clone().unwrap_or_else(|| self.key_file.with_extension("node"))
    }
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct AzureConfig {
    pub cloud: AzureCloud,
    /// The proxy for all requests to Azure; `http` or `https`.
    #[serde(deserialize_with = "optional_web_url")]
    pub proxy: Option<Url>,
    /// PEM; trusted beside the built-in roots.
    pub ca_file: Option<PathBuf>,
    /// The token of this server's workload identity; read anew at every sign-in. Default: what
    /// `AZURE_FEDERATED_TOKEN_FILE` names, as Kubernetes' webhook sets it.
    pub federated_token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultsConfig {
    /// Per workspace. Default 1.
    pub max_per_provider: u32,
    /// Default 300; 15 to 3600.
    pub lease_seconds: u32,
    /// How long the trash keeps an item. Default 30; 1 to 3650.
    pub trash_days: u32,
}

/// Where the signed checkpoints of the audit log go.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Replaced each minute; best on a disk that the database is not on. Absent: they stay in the database.
    pub checkpoint_file: Option<PathBuf>,
    /// Gets each checkpoint by POST, as text. Absent: nobody does.
    #[serde(deserialize_with = "optional_address")]
    pub checkpoint_url: Option<Url>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct NoticesConfig {
    /// Whether webhooks may go to this machine, by `http:` too. Default false.
    pub allow_loopback: bool,
    /// Whether webhooks may go to private addresses, such as those of 10.0.0.0/8. Default false.
    pub allow_private: bool,
}

/// How notices go out by e-mail. Absent: they do not.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpConfig {
    /// `smtps://user@host:port` or `smtp://…`; without the password.
    #[serde(deserialize_with = "optional_mail_url")]
    pub url: Option<Url>,
    /// Who the messages are from. Needed with `url`.
    pub from: Option<String>,
    pub password: Option<SecretText>,
}

/// Which national cloud's hosts are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AzureCloud {
    #[default]
    Public,
    UsGovernment,
    China,
}

/// Where the store is. Without `Debug`: it may hold a password.
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    /// A `postgres://` or `postgresql://` URL.
    Postgres(Zeroizing<String>),
}

/// Says what is wrong with the configuration and what to do; never repeats a value that may hold a password.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("{path} is not valid TOML: {reason}")]
    NotToml { path: String, reason: String },
    #[error("unknown configuration key `{key}` in {origin}; did you mean `{nearest}`?")]
    UnknownKey { key: String, origin: String, nearest: &'static str },
    #[error("configuration: {0}")]
    Value(String),
    #[error(
        "server.listen is {listen}, which other machines can reach, but there is no TLS: sign-ins and secrets would \
         cross the network in the clear. Set server.tls_cert and server.tls_key, or set server.tls_terminated = true \
         if a proxy in front ends TLS, or listen on 127.0.0.1"
    )]
    NoTls { listen: SocketAddr },
    #[error("only one of server.tls_cert and server.tls_key is set; TLS needs both")]
    HalfTls,
    #[error(
        "server.tls_terminated = true says that a proxy ends TLS, but server.tls_cert is set as well; remove one of them"
    )]
    TlsTwice,
    #[error(
        "server.public_url is missing: server.listen is {listen}, so the server cannot tell by which name browsers \
         reach it. Set server.public_url, for example \"https://strongroom.example.com\""
    )]
    NoPublicUrl { listen: SocketAddr },
    #[error(
        "server.public_url is http:, but sign-ins need https: once other machines can reach the server; write https:"
    )]
    InsecurePublicUrl,
    #[error(
        "[smtp] needs both smtp.url, like \"smtps://user@mail.example.com\", and smtp.from, like \
         \"Strongroom <strongroom@example.com>\""
    )]
    HalfSmtp,
    #[error("smtp.url holds a password; leave it out there and set STRONGROOM_SMTP__PASSWORD")]
    SmtpPassword,
}

impl Config {
    /// Reads `file`, or `strongroom.toml` in the working directory if there is one, and lays `environment` over it:
    /// pairs of name and value as `std::env::vars` gives them, of which only `STRONGROOM_…__…` and
    /// `AZURE_FEDERATED_TOKEN_FILE` are looked at.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (text, origin) = match file {
            Some(path) => (read(path)?, path.display().to_string()),
            None if Path::new(DEFAULT_FILE).exists() => (read(Path::new(DEFAULT_FILE))?, DEFAULT_FILE.to_owned()),
            None => (String::new(), DEFAULT_FILE.to_owned()),
        };
        Self::parse(&text, &origin, environment)
    }

    /// As `load`, from the text of a file that messages call `origin`.
    pub fn parse(
        text: &str,
        origin: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let file = source(config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)), origin)?;
        let environment: HashMap<String, String> = environment.into_iter().collect();
        let token_file = environment.get("AZURE_FEDERATED_TOKEN_FILE").filter(|path| !path.is_empty()).cloned();
        let environment = source(config::Config::builder().add_source(over(environment)), "the environment")?;
        refuse_unknown(&file, origin)?;
        refuse_unknown(&environment, "the environment")?;
        let secret_file = holds_secrets(&file).then(|| PathBuf::from(origin));
        let merged = source(config::Config::builder().add_source(file).add_source(environment), origin)?;
        let mut config: Self = merged.try_deserialize().map_err(|error| ConfigError::Value(error.to_string()))?;
        let configured = config.azure.federated_token_file.take();
        config.azure.federated_token_file = configured.or(token_file.map(PathBuf::from));
        config.secret_file = secret_file;
        config.check()?;
        Ok(config)
    }

    /// Where browsers find the server, without a path: as configured, or made from the listener.
    pub fn public_url(&self) -> Url {
        self.server.public_url.clone().unwrap_or_else(|| {
            let scheme = if self.server.tls_cert.is_some() { "https" } else { "http" };
            Url::parse(&format!("{scheme}://{}", self.server.listen)).expect("a socket address makes a URL")
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let server = &self.server;
        let listen = server.listen;
        let tls = match (&server.tls_cert, &server.tls_key) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            _ => return Err(ConfigError::HalfTls),
        };
        if tls && server.tls_terminated {
            return Err(ConfigError::TlsTwice);
        }
        let reachable = !listen.ip().is_loopback();
        if reachable && !tls && !server.tls_terminated {
            return Err(ConfigError::NoTls { listen });
        }
        match &server.public_url {
            None if listen.ip().is_unspecified() || server.tls_terminated => {
                return Err(ConfigError::NoPublicUrl { listen });
            }
            Some(url) if url.scheme() == "http" && (reachable || tls || server.tls_terminated) => {
                return Err(ConfigError::InsecurePublicUrl);
            }
            _ => {}
        }
        match (&self.smtp.url, &self.smtp.from) {
            (Some(url), Some(_)) if url.password().is_some() => return Err(ConfigError::SmtpPassword),
            (Some(_), Some(_)) => {}
            (None, None) if self.smtp.password.is_none() => {}
            _ => return Err(ConfigError::HalfSmtp),
        }
        within("vaults.lease_seconds", self.vaults.lease_seconds, 15, 3600)?;
        within("vaults.trash_days", self.vaults.trash_days, 1, 3650)?;
        within("vaults.max_per_provider", self.vaults.max_per_provider, 1, 1000)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            public_url: None,
            metrics_listen: None,
            trusted_proxies: Vec::new(),
            tls_cert: None,
            tls_key: None,
            tls_terminated: false,
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: DatabaseUrl::Sqlite(PathBuf::from("strongroom.db")) }
    }
}

impl Default for InstanceConfig {
    fn default() -> Self {
        Self { key_file: PathBuf::from("strongroom.key"), node_file: None }
    }
}

impl Default for VaultsConfig {
    fn default() -> Self {
        Self { max_per_provider: 1, lease_seconds: 300, trash_days: 30 }
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let url = Zeroizing::new(String::deserialize(deserializer)?);
        match url.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Self::Postgres(url)),
            _ => Err(de::Error::custom("a database is sqlite:PATH or postgres://user:password@host/database")),
        }
    }
}

/// Every key there is, to find the one that was meant.
const KEYS: [&str; 24] = [
    "server.listen",
    "server.public_url",
    "server.metrics_listen",
    "server.trusted_proxies",
    "server.tls_cert",
    "server.tls_key",
    "server.tls_terminated",
    "database.url",
    "instance.key_file",
    "instance.node_file",
    "azure.cloud",
    "azure.proxy",
    "azure.ca_file",
    "azure.federated_token_file",
    "vaults.max_per_provider",
    "vaults.lease_seconds",
    "vaults.trash_days",
    "audit.checkpoint_file",
    "audit.checkpoint_url",
    "notices.allow_loopback",
    "notices.allow_private",
    "smtp.url",
    "smtp.from",
    "smtp.password",
];

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.display().to_string(), reason: error.to_string() })
}

/// The environment as a source. `STRONGROOM_URL`, `STRONGROOM_TOKEN` and their like belong to the command line and have
/// no double underscore.
fn over(environment: HashMap<String, String>) -> Environment {
    let ours: HashMap<String, String> =
        environment.into_iter().filter(|(name, _)| name.starts_with("STRONGROOM_") && name.contains("__")).collect();
    Environment::with_prefix("STRONGROOM").prefix_separator("_").separator("__").ignore_empty(true).source(Some(ours))
}

fn source(
    builder: config::ConfigBuilder<config::builder::DefaultState>,
    origin: &str,
) -> Result<config::Config, ConfigError> {
    builder.build().map_err(|error| match error {
        config::ConfigError::FileParse { cause, .. } => {
            ConfigError::NotToml { path: origin.to_owned(), reason: without_excerpt(&cause.to_string()) }
        }
        other => ConfigError::Value(other.to_string()),
    })
}

/// Keeps place and reason of a TOML error, but not the line of the file, which may hold a password.
fn without_excerpt(message: &str) -> String {
    let lines: Vec<&str> = message.lines().filter(|line| !line.contains('|')).collect();
    lines.join(": ")
}

fn refuse_unknown(source: &config::Config, origin: &str) -> Result<(), ConfigError> {
    let mut paths = Vec::new();
    flatten("", &source.cache, &mut paths);
    // Sorted, so that of several unknown keys the same one is named each time.
    paths.sort();
    match paths.into_iter().find(|path| !KEYS.contains(&path.as_str())) {
        None => Ok(()),
        Some(key) => Err(ConfigError::UnknownKey { nearest: nearest(&key), key, origin: origin.to_owned() }),
    }
}

fn holds_secrets(source: &config::Config) -> bool {
    let text = |key| source.get_string(key).map(Zeroizing::new).ok();
    let url_has_password = |url: Zeroizing<String>| Url::parse(&url).is_ok_and(|url| url.password().is_some());
    text("smtp.password").is_some_and(|password| !password.is_empty())
        || ["database.url", "azure.proxy"].into_iter().filter_map(text).any(url_has_password)
}

/// The paths of all values in a table; an empty table has none.
fn flatten(path: &str, value: &Value, paths: &mut Vec<String>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&inner, value, paths);
            }
        }
        _ => paths.push(path.to_owned()),
    }
}

fn nearest(key: &str) -> &'static str {
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    // A key in the wrong table is nearer than another of the same table.
    KEYS.into_iter()
        .min_by_key(|known| {
            strsim::damerau_levenshtein(key, known).min(1 + strsim::damerau_levenshtein(&name(key), &name(known)))
        })
        .expect("there are keys")
}

fn within(key: &str, value: u32, least: u32, most: u32) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Value(format!("{key} is {value}; it must lie between {least} and {most}")))
}

/// A URL of scheme, host and port; its text stays out of errors, because a proxy's may hold a password.
fn optional_web_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let url = Url::parse(&text).map_err(|reason| de::Error::custom(format!("not a URL ({reason})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(de::Error::custom("not an http: or https: URL with a host"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(de::Error::custom("the URL ends after host and port; remove what follows"));
    }
    Ok(Some(url))
}

/// A URL with a path; its text stays out of errors, because its path may be a secret of the receiver's.
fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let url = Url::parse(&text).map_err(|reason| de::Error::custom(format!("not a URL ({reason})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(de::Error::custom("not an http: or https: URL with a host"));
    }
    Ok(Some(url))
}

/// A URL of a mail server; its text stays out of errors, because somebody may have put a password in it.
fn optional_mail_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let url = Url::parse(&text).map_err(|reason| de::Error::custom(format!("not a URL ({reason})")))?;
    if !matches!(url.scheme(), "smtp" | "smtps") || url.host_str().is_none_or(str::is_empty) {
        return Err(de::Error::custom("not an smtps: or smtp: URL with a host"));
    }
    Ok(Some(url))
}

/// A list of networks or single addresses; from the environment one string with commas.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Networks {
        List(Vec<String>),
        Commas(String),
    }
    let entries = match Networks::deserialize(deserializer)? {
        Networks::List(list) => list,
        Networks::Commas(text) => text.split(',').map(str::to_owned).collect(),
    };
    entries
        .iter()
        .map(|entry| entry.trim())
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let single = || entry.parse::<IpAddr>().ok().map(IpNet::from);
            entry.parse::<IpNet>().ok().or_else(single).ok_or_else(|| {
                de::Error::custom(format!("{entry} is neither an address nor a network like 10.0.0.0/8"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "strongroom.toml", [])
    }

    fn refusal(text: &str) -> String {
        parse(text).err().expect("refused").to_string()
    }

    fn with_environment(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Config::parse(text, "strongroom.toml", pairs)
    }

    #[test]
    fn without_any_setting_the_server_is_local_on_sqlite() {
        let config = parse("").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8470");
        assert_eq!(config.public_url().as_str(), "http://127.0.0.1:8470/");
        assert!(matches!(&config.database.url, DatabaseUrl::Sqlite(path) if path == Path::new("strongroom.db")));
        assert_eq!((config.vaults.max_per_provider, config.vaults.lease_seconds), (1, 300));
    }

    #[test]
    fn the_example_names_every_key_and_says_the_defaults() {
        let text: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty()))
            .zip(EXAMPLE.lines())
            .map(|(uncommented, line)| format!("{}\n", uncommented.unwrap_or(line)))
            .collect();
        for key in KEYS {
            let name = key.rsplit('.').next().expect("a name");
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} = "))), "{key} is missing");
        }
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let default = Config::default();
        assert_eq!(config.server.listen, default.server.listen);
        assert_eq!(config.instance.key_file, default.instance.key_file);
        assert_eq!(config.azure.cloud, default.azure.cloud);
        assert_eq!(config.vaults.lease_seconds, default.vaults.lease_seconds);
        assert_eq!(config.vaults.trash_days, default.vaults.trash_days);
        assert!(parse(EXAMPLE).is_ok());
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = with_environment(
            "[server]\nlisten = \"127.0.0.1:1\"\n[vaults]\nlease_seconds = 20\n",
            &[
                ("STRONGROOM_SERVER__LISTEN", "127.0.0.1:2"),
                ("STRONGROOM_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1"),
                ("STRONGROOM_VAULTS__MAX_PER_PROVIDER", "3"),
                ("STRONGROOM_URL", "http://elsewhere"),
                ("STRONGROOM_DATABASE__URL", ""),
            ],
        )
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.server.listen.port(), 2);
        assert_eq!(config.server.trusted_proxies.len(), 2);
        assert_eq!((config.vaults.lease_seconds, config.vaults.max_per_provider), (20, 3));
    }

    #[test]
    fn kubernetes_may_name_the_token_file_unless_the_operator_does() {
        let webhook = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token");
        let file = |text: &str, pairs: &[(&str, &str)]| {
            let config = with_environment(text, pairs).unwrap_or_else(|error| panic!("{error}"));
            config.azure.federated_token_file
        };
        assert_eq!(file("", &[]), None);
        assert_eq!(file("", &[("AZURE_FEDERATED_TOKEN_FILE", "")]), None);
        assert_eq!(file("", &[webhook]), Some("/var/run/token".into()));
        assert_eq!(file("[azure]\nfederated_token_file = \"/etc/token\"\n", &[webhook]), Some("/etc/token".into()));
        let ours = ("STRONGROOM_AZURE__FEDERATED_TOKEN_FILE", "/srv/token");
        assert_eq!(file("", &[webhook, ours]), Some("/srv/token".into()));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert_eq!(
            refusal("[server]\nlistn = \"127.0.0.1:1\"\n"),
            "unknown configuration key `server.listn` in strongroom.toml; did you mean `server.listen`?"
        );
        assert!(refusal("lease_seconds = 3\n").ends_with("did you mean `vaults.lease_seconds`?"));
        assert!(refusal("database = \"sqlite:x\"\n").contains("did you mean `database.url`?"));
        let variable = with_environment("", &[("STRONGROOM_SERVER__TLS_TERMINATE", "true")]).err().expect("refused");
        assert_eq!(
            variable.to_string(),
            "unknown configuration key `server.tls_terminate` in the environment; did you mean `server.tls_terminated`?"
        );
    }

    #[test]
    fn a_reachable_listener_needs_tls() {
        let open = "[server]\nlisten = \"0.0.0.0:8470\"\npublic_url = \"https://strongroom.example.com\"\n";
        assert!(refusal(open).contains("crosses the network in the clear") || refusal(open).contains("in the clear"));
        assert!(parse(&format!("{open}tls_terminated = true\n")).is_ok());
        assert!(parse(&format!("{open}tls_cert = \"a\"\ntls_key = \"b\"\n")).is_ok());
        assert_eq!(refusal(&format!("{open}tls_cert = \"a\"\n")), ConfigError::HalfTls.to_string());
        assert_eq!(
            refusal(&format!("{open}tls_terminated = true\ntls_cert = \"a\"\ntls_key = \"b\"\n")),
            ConfigError::TlsTwice.to_string()
        );
    }

    #[test]
    fn a_wildcard_listener_needs_a_secure_public_url() {
        let wildcard = "[server]\nlisten = \"[::]:8470\"\ntls_terminated = true\n";
        assert!(refusal(wildcard).contains("server.public_url is missing"));
        let insecure = format!("{wildcard}public_url = \"http://strongroom.example.com\"\n");
        assert_eq!(refusal(&insecure), ConfigError::InsecurePublicUrl.to_string());
    }

    #[test]
    fn passwords_stay_out_of_errors() {
        for text in [
            "[database]\nurl = \"mysql://app:hunter2@db/strongroom\"\n",
            "[database]\nurl = \"postgres://app:hunter2@db/strongroom\n",
            "[azure]\nproxy = \"ftp://app:hunter2@proxy.example.com\"\n",
            "[azure]\nproxy = \"http://app:hunter2@proxy.example.com:99999\"\n",
        ] {
            let refusal = refusal(text);
            assert!(!refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn values_out_of_range_or_of_the_wrong_form_are_named() {
        assert!(refusal("[vaults]\nlease_seconds = 14\n").contains("vaults.lease_seconds is 14"));
        assert!(refusal("[server]\nlisten = \"localhost\"\n").contains("server.listen"));
        assert!(refusal("[azure]\ncloud = \"moon\"\n").contains("azure.cloud"));
        assert!(refusal("[server]\ntrusted_proxies = [\"proxy\"]\n").contains("proxy is neither an address"));
        assert!(refusal("[server]\npublic_url = \"https://a.example/b\"\n").contains("server.public_url"));
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let error = Config::load(Some(Path::new("no-such-file.toml")), []).err().expect("refused");
        assert!(error.to_string().contains("no-such-file.toml"), "{error}");
    }
}
