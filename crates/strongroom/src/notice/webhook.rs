//! Webhooks: addresses outside that get each notice as JSON, signed by the Standard Webhooks scheme
//! (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md), so that receivers verify it with a
//! library that exists.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use reqwest::{StatusCode, header, redirect};
use serde_json::json;
use strongroom_envelope::{InstanceContext, InstanceKeys, open, seal};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::{
    NoticeSettings,
    delivery::{Delivery, Outcome, of_recipient},
    reach::{Reach, Resolver},
};
use crate::{
    access::Action,
    app::{App, Caller},
    audit::{Fact, Target as Aim},
    error::{Error, Result},
    id::{MemberId, WebhookId, WorkspaceId},
    instance_key::{Means, Page, key_of_seal},
    secret_text::SecretText,
    store::{Row, Tx},
};

/// How many a workspace may have.
const MOST: u64 = 20;
/// Trials of a workspace in an hour.
const MOST_TRIALS: u64 = 30;
const LONGEST_URL: usize = 2000;
/// What a receiver gets to answer. The scheme recommends 15 to 30 s; a shorter one keeps a slow receiver from holding
/// the others up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of the secret, before base64. The scheme asks for 24 to 64.
const SECRET_LEN: usize = 32;
const SECRET_PREFIX: &str = "whsec_";

/// An address that gets notices, as those who manage the workspace see it.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub id: WebhookId,
    /// Scheme and host; the path often is a secret of the receiver's, and is not shown again.
    pub shown: String,
    pub created_by: MemberId,
    pub created_at: Timestamp,
    /// The latest, if there was one.
    pub last: Option<Delivery>,
}

/// A webhook that was just made, with the secret that its receiver verifies by: shown this once.
pub struct Made {
    pub webhook: Webhook,
    /// `whsec_…`
    pub secret: SecretText,
}

/// What came of a trial.
pub struct Tested {
    pub delivered: bool,
    /// "status 204", "timeout" …
    pub outcome: String,
    pub ms: u64,
}

impl App {
    pub async fn webhooks(&self, caller: &Caller) -> Result<Vec<Webhook>> {
        self.authorize_here(caller, Action::ManageSettings).await?;
        let (workspace, keys) = (caller.workspace, self.keys.clone());
        self.store
            .read(move |tx| {
                let sql = format!("{SELECT} ORDER BY id");
                let mut found = tx.all(&sql, &[workspace.0.into()], |row| shown(row, workspace, &keys))?;
                for webhook in &mut found {
                    webhook.last = of_recipient(tx, webhook.id.0, 1)?.pop();
                }
                Ok(found)
            })
            .await
    }

    /// The latest deliveries of a webhook, newest first.
    pub async fn deliveries(&self, caller: &Caller, id: WebhookId) -> Result<Vec<Delivery>> {
        self.authorize_here(caller, Action::ManageSettings).await?;
        let (workspace, keys) = (caller.workspace, self.keys.clone());
        self.store
            .read(move |tx| {
                Target::load(tx, workspace, id, &keys)?;
                of_recipient(tx, id.0, 200)
            })
            .await
    }

    /// Makes a webhook for every notice to come.
    pub async fn create_webhook(&self, caller: &Caller, url: &SecretText) -> Result<Made> {
        self.authorize_here(caller, Action::ManageSettings).await?;
        self.require_fresh(caller)?;
        let url = checked(url.expose(), &self.settings.notices)?;
        let mut secret = Zeroizing::new([0u8; SECRET_LEN]);
        self.random.fill(secret.as_mut()).map_err(|_| Error::random())?;
        let text = Zeroizing::new(format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(*secret)));
        let now = self.clock.now();
        let id = WebhookId::generate(now, self.random.as_ref())?;
        let place = place(caller.workspace, id);
        let sealed = Zeroizing::new(format!("{}\n{url}", *text));
        let sealed = seal(&*self.keys, &place, sealed.as_bytes(), self.random.as_ref()).map_err(|_| Error::random())?;
        let facts = vec![("webhook", Fact::Id(id.0))];
        let event = self.event(caller, "webhook.create", Aim::Workspace(caller.workspace), facts)?;
        let (workspace, member) = (caller.workspace, caller.member);
        self.store
            .write(move |tx| {
                if tx.count("SELECT COUNT(*) FROM webhooks WHERE workspace_id = $1", &[workspace.0.into()])? >= MOST {
                    return Err(Error::conflict(
                        "webhook.too_many",
                        format!("a workspace has at most {MOST} webhooks"),
                        "Remove one that is not needed any more.",
                    ));
                }
                tx.execute(
                    "INSERT INTO webhooks (id, workspace_id, sealed_target, created_by, created_at) \
                     VALUES ($1, $2, $3, $4, $5)",
                    &[id.0.into(), workspace.0.into(), (&sealed).into(), member.0.into(), now.into()],
                )?;
                tx.record(&event)
            })
            .await?;
        let webhook = Webhook { id, shown: without_path(&url), created_by: caller.member, created_at: now, last: None };
        Ok(Made { webhook, secret: SecretText::from(text.as_str()) })
    }

    /// Removes a webhook, with what was still to be sent to it.
    pub async fn delete_webhook(&self, caller: &Caller, id: WebhookId) -> Result<()> {
        self.authorize_here(caller, Action::ManageSettings).await?;
        self.require_fresh(caller)?;
        let facts = vec![("webhook", Fact::Id(id.0))];
        let event = self.event(caller, "webhook.delete", Aim::Workspace(caller.workspace), facts)?;
        let workspace = caller.workspace;
        self.store
            .write(move |tx| {
                let sql = "DELETE FROM webhooks WHERE id = $1 AND workspace_id = $2";
                if tx.execute(sql, &[id.0.into(), workspace.0.into()])? == 0 {
                    return Err(Error::NotFound("webhook"));
                }
                tx.execute("DELETE FROM deliveries WHERE recipient_id = $1", &[id.0.into()])?;
                tx.record(&event)
            })
            .await
    }

    /// Sends a trial notice now, once.
    pub async fn test_webhook(&self, caller: &Caller, id: WebhookId) -> Result<Tested> {
        self.authorize_here(caller, Action::ManageSettings).await?;
        self.require_fresh(caller)?;
        let (workspace, keys) = (caller.workspace, self.keys.clone());
        let target = self.store.read(move |tx| Target::load(tx, workspace, id, &keys)).await?;
        let facts = vec![("webhook", Fact::Id(id.0))];
        let event = self.event(caller, "webhook.test", Aim::Workspace(workspace), facts)?;
        let (message, at) = (event.id.0, event.at);
        self.store
            .write(move |tx| {
                require_few_trials(tx, workspace, at)?;
                tx.record(&event)
            })
            .await?;
        let body = json!({
            "type": "test",
            "timestamp": at,
            "data": { "workspace": caller.workspace_slug, "title": "This is a trial from Strongroom." },
        });
        let started = self.clock.since_boot();
        let outcome = target.send(&message.to_string(), at, &body.to_string(), &self.settings.notices).await;
        let ms = self.clock.since_boot().saturating_sub(started).as_millis();
        Ok(Tested { delivered: outcome.delivered, outcome: outcome.said, ms: u64::try_from(ms).unwrap_or(u64::MAX) })
    }
}

/// Rows of a page of [`renew_webhooks`].
const FULL: usize = 100;

/// A page of webhooks; with `write`, those sealed under an older instance key are sealed under the current one.
pub(crate) fn renew_webhooks(tx: &mut Tx<'_>, means: &Means, after: uuid::Uuid, write: bool) -> Result<Page> {
    let sql = format!("SELECT id, workspace_id, sealed_target FROM webhooks WHERE id > $1 ORDER BY id LIMIT {FULL}");
    let read = |row: &Row<'_>| Ok((row.get::<uuid::Uuid>(0)?, WorkspaceId(row.get(1)?), row.get::<Vec<u8>>(2)?));
    let rows = tx.all(&sql, &[after.into()], read)?;
    let ids: Vec<_> = rows.iter().map(|(id, ..)| *id).collect();
    let mut page = Page::of(&ids, FULL);
    for (id, workspace, sealed) in rows {
        let place = place(workspace, WebhookId(id));
        let opened = key_of_seal(&means.keys, &sealed)
            .and_then(|key| Ok((key, open(means.keys.as_ref(), &place, &sealed).map_err(|_| planted())?)));
        match opened {
            Ok((key, target)) if page.found(means, &[key]) && write => {
                let sealed = seal(means.keys.as_ref(), &place, &target, means.random.as_ref());
                let sealed = sealed.map_err(|_| Error::random())?;
                tx.execute("UPDATE webhooks SET sealed_target = $2 WHERE id = $1", &[id.into(), (&sealed).into()])?;
            }
            Ok(_) => {}
            Err(error) => page.broken(format!("webhook {id}: {error}")),
        }
    }
    Ok(page)
}

/// Removes webhooks that are sealed under an instance key that is not loaded; how many there were.
pub(crate) fn drop_lost_webhooks(tx: &mut Tx<'_>, means: &Means) -> Result<u64> {
    let rows = tx.all("SELECT id, sealed_target FROM webhooks", &[], |row| {
        Ok((row.get::<uuid::Uuid>(0)?, row.get::<Vec<u8>>(1)?))
    })?;
    let mut dropped = 0;
    for (id, sealed) in rows {
        if key_of_seal(&means.keys, &sealed).is_err() {
            tx.execute("DELETE FROM deliveries WHERE recipient_id = $1", &[id.into()])?;
            dropped += tx.execute("DELETE FROM webhooks WHERE id = $1", &[id.into()])?;
        }
    }
    Ok(dropped)
}

fn planted() -> Error {
    let what = "a webhook's row was not written by this instance, or was changed behind its back; it is not used";
    Error::integrity("integrity.row", what)
}

/// Where a webhook goes and what it is signed with.
pub(super) struct Target {
    url: Zeroizing<String>,
    secret: Zeroizing<Vec<u8>>,
}

impl Target {
    /// The target of a webhook, once it is proven to be what this instance sealed for it.
    pub(super) fn load(tx: &mut Tx<'_>, workspace: WorkspaceId, id: WebhookId, keys: &InstanceKeys) -> Result<Self> {
        let sql = "SELECT sealed_target FROM webhooks WHERE id = $1 AND workspace_id = $2";
        let sealed = tx.first(sql, &[id.0.into(), workspace.0.into()], |row| row.get::<Vec<u8>>(0))?;
        Self::unsealed(&sealed.ok_or(Error::NotFound("webhook"))?, workspace, id, keys)
    }

    fn unsealed(sealed: &[u8], workspace: WorkspaceId, id: WebhookId, keys: &InstanceKeys) -> Result<Self> {
        let opened = open(keys, &place(workspace, id), sealed).map_err(|_| planted())?;
        let text = std::str::from_utf8(&opened).map_err(|_| planted())?;
        let (secret, url) = text.split_once('\n').ok_or_else(planted)?;
        let secret = secret.strip_prefix(SECRET_PREFIX).ok_or_else(planted)?;
        let secret = Zeroizing::new(BASE64_STANDARD.decode(secret).map_err(|_| planted())?);
        Ok(Self { url: Zeroizing::new(url.to_owned()), secret })
    }

    /// One attempt: `body` signed and posted. Answers are not read: nothing in them matters, and a forged one cannot
    /// reach anybody.
    pub(super) async fn send(&self, id: &str, at: Timestamp, body: &str, settings: &NoticeSettings) -> Outcome {
        // The operator may have changed their mind since the webhook was made.
        let Ok(url) = checked(&self.url, settings) else { return Outcome::failed("address not allowed") };
        let seconds = at.as_second();
        let request = client(settings)
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", sign(&self.secret, id, seconds, body))
            .body(body.to_owned());
        match request.send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Outcome::delivered(format!("status {}", status.as_u16())),
            // The receiver says that it wants no more of this.
            Ok(StatusCode::GONE) => Outcome { last: true, ..Outcome::failed("status 410") },
            Ok(status) if status.is_redirection() => {
                Outcome::failed(format!("status {}, a redirect, which is not followed", status.as_u16()))
            }
            Ok(status) => Outcome::failed(format!("status {}", status.as_u16())),
            Err(error) if error.is_timeout() => Outcome::failed("no answer in time"),
            Err(error) if error.is_connect() => Outcome::failed("no connection"),
            Err(_) => Outcome::failed("the connection broke"),
        }
    }
}

/// Posts a text that proves itself to an address of the operator's, which is judged as those of webhooks are. What went
/// wrong, in a few words.
pub async fn post_text(url: &Url, text: &str, settings: &NoticeSettings) -> std::result::Result<(), String> {
    let url = checked(url.as_str(), settings).map_err(|error| error.to_string())?;
    let request = client(settings).post(url).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    match request.body(text.to_owned()).send().await.map(|answer| answer.status()) {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(format!("status {}", status.as_u16())),
        Err(error) if error.is_timeout() => Err("no answer in time".to_owned()),
        Err(error) if error.is_connect() => Err("no connection".to_owned()),
        Err(_) => Err("the connection broke".to_owned()),
    }
}

/// The header `webhook-signature`. HMAC-SHA-256 is what the scheme prescribes: it protects nothing that this product
/// stores, which is why it stands here and not with the product's own ciphers.
fn sign(secret: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

/// An address that webhooks may go to: `https:`, and neither name nor password in it. This machine and private networks
/// only if the operator allows them, this machine then by `http:` too.
fn checked(text: &str, settings: &NoticeSettings) -> Result<Url> {
    let wrong = |message: &'static str| Error::field("url", message);
    if text.len() > LONGEST_URL {
        return Err(wrong("An address has at most 2,000 characters."));
    }
    let url =
        Url::parse(text.trim()).map_err(|_| wrong("Write an address like https://hooks.example.com/strongroom."))?;
    // What a name leads to is known when it is connected to, and judged then.
    let reach = match url.host() {
        Some(Host::Domain(name)) => match name.trim_end_matches('.') {
            "localhost" => Reach::Loopback,
            name if name.ends_with(".localhost") => Reach::Loopback,
            _ => Reach::Global,
        },
        Some(Host::Ipv4(address)) => Reach::of(address.into()),
        Some(Host::Ipv6(address)) => Reach::of(address.into()),
        None => return Err(wrong("The address names no host.")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("Leave out name and password: the receiver knows us by the signature."));
    }
    match url.scheme() {
        _ if reach == Reach::Loopback && !settings.allow_loopback => {
            Err(wrong("This machine itself gets no webhooks, unless its operator sets notices.allow_loopback."))
        }
        _ if !reach.is_allowed(settings) => {
            Err(wrong("Private addresses get no webhooks, unless the server's operator sets notices.allow_private."))
        }
        "https" => Ok(url),
        "http" if reach == Reach::Loopback => Ok(url),
        _ => Err(wrong("Webhooks go to https: addresses only.")),
    }
}

fn place(workspace: WorkspaceId, id: WebhookId) -> InstanceContext {
    InstanceContext::NoticeCredential { workspace: Some(workspace.bytes()), channel: id.bytes() }
}

/// Each trial is an event of the workspace, whose ids begin with their time.
fn require_few_trials(tx: &mut Tx<'_>, workspace: WorkspaceId, now: Timestamp) -> Result<()> {
    let hour_ago = u64::try_from((now - SignedDuration::from_hours(1)).as_millisecond()).unwrap_or(0);
    let since = uuid::Builder::from_unix_timestamp_millis(hour_ago, &[0; 10]).into_uuid();
    let sql = "SELECT COUNT(*) FROM audit_events WHERE target_id = $1 AND id > $2 AND action = 'webhook.test'";
    if tx.count(sql, &[workspace.0.into(), since.into()])? >= MOST_TRIALS {
        return Err(Error::conflict(
            "webhook.too_many_trials",
            format!("a workspace sends at most {MOST_TRIALS} trials an hour"),
            "Wait a while. Real notices are sent as ever.",
        ));
    }
    Ok(())
}

fn client(settings: &NoticeSettings) -> reqwest::Client {
    // An error means that a provider is installed already, and there is only this one in the program.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("strongroom/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(Resolver { settings: settings.clone() }))
        .connect_timeout(Duration::from_secs(5))
        .timeout(PATIENCE)
        .build()
        .expect("the settings above are sound")
}

const SELECT: &str = "SELECT id, sealed_target, created_by, created_at FROM webhooks WHERE workspace_id = $1";

fn shown(row: &Row<'_>, workspace: WorkspaceId, keys: &InstanceKeys) -> Result<Webhook> {
    let id = WebhookId(row.get(0)?);
    let shown = match Target::unsealed(&row.get::<Vec<u8>>(1)?, workspace, id, keys) {
        Ok(target) => Url::parse(&target.url).map(|url| without_path(&url)).unwrap_or_default(),
        // Shown, so that it can be removed.
        Err(_) => "changed behind the server's back; not used".to_owned(),
    };
    Ok(Webhook { id, shown, created_by: MemberId(row.get(2)?), created_at: row.get(3)?, last: None })
}

fn without_path(url: &Url) -> String {
    let rest = if url.path() == "/" && url.query().is_none() { "" } else { "/…" };
    format!("{}{rest}", &url[..url::Position::BeforePath])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_scheme() {
        // The example of the Svix libraries, from which the scheme grew.
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn webhooks_go_over_tls_and_to_this_machine_only_if_the_operator_says_so() {
        let (strict, open) =
            (NoticeSettings::default(), NoticeSettings { allow_loopback: true, ..NoticeSettings::default() });
        assert!(checked("https://hooks.example.com/a?b=c", &strict).is_ok());
        let private = NoticeSettings { allow_private: true, ..NoticeSettings::default() };
        for address in
            ["https://10.0.0.1", "https://169.254.169.254/latest", "https://[fd00::1]/", "https://192.168.1.1:8443"]
        {
            assert!(checked(address, &strict).is_err() && checked(address, &private).is_ok(), "{address}");
        }
        for address in
            ["https://0.0.0.0", "https://[::]", "https://localhost.", "https://a.localhost.", "https://127.1"]
        {
            assert!(checked(address, &strict).is_err() && checked(address, &open).is_ok(), "{address}");
        }
        for address in ["http://127.0.0.1:9/x", "https://localhost", "http://[::1]/", "https://[::ffff:127.0.0.1]/"] {
            assert!(checked(address, &strict).is_err() && checked(address, &open).is_ok(), "{address}");
        }
        for address in
            ["http://hooks.example.com", "http://10.0.0.1", "ftp://a.example", "https://u:p@a.example", "nonsense", ""]
        {
            assert!(checked(address, &open).is_err(), "{address}");
        }
    }

    #[test]
    fn the_path_of_an_address_is_not_shown_again() {
        let shown = |text: &str| without_path(&Url::parse(text).expect("a URL"));
        assert_eq!(shown("https://hooks.example.com/services/T0/B0/s3cret"), "https://hooks.example.com/…");
        assert_eq!(shown("https://hooks.example.com:8443/?s3cret"), "https://hooks.example.com:8443/…");
        assert_eq!(shown("https://hooks.example.com"), "https://hooks.example.com");
    }
}
