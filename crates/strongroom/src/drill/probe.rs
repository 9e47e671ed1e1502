//! The probes: each tries one way over and over and says what came of it.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::{Method, header};
use tokio::{process::Command, task::JoinSet};

use super::{Probe, Record, Sample, TITLE, Target, Verdict, Way};
use crate::{
    client::{Client, ClientError, Server},
    http::api::types::{CreateItem, DarkVault, Item, ItemQuery, ItemType, SearchItems},
    secret_text::SecretText,
};

/// Longest that one answer, or one program, may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Between two looks at when the key answered last.
const KEY_PAUSE: Duration = Duration::from_millis(500);
/// Of the command line: the key is unavailable.
const KEY_UNAVAILABLE: i32 = 5;

pub(super) fn start(target: Arc<Target>, record: &Record) -> Result<JoinSet<()>, ClientError> {
    let mut tasks = JoinSet::new();
    let client = Arc::new(client(&target)?);
    for way in [Way::Reveal, Way::List, Way::Search, Way::Create] {
        let (target, client, record) = (Arc::clone(&target), Arc::clone(&client), record.clone());
        let pause = if way == Way::Create { target.pace.costly } else { target.pace.requests };
        let probe = Probe { way, session: 1 };
        record.expect(probe);
        tasks.spawn(async move {
            let asked = record.clone();
            repeat(&record, probe, pause, || by_api(way, &client, &target, &asked)).await;
        });
    }
    if target.program.is_some() {
        let (target, record) = (Arc::clone(&target), record.clone());
        let probe = Probe { way: Way::Command, session: 1 };
        record.expect(probe);
        tasks.spawn(async move { repeat(&record, probe, target.pace.costly, || by_program(&target)).await });
    }
    for index in 0..target.sessions.len() {
        let browser = Arc::new(Browser::new(&target, index));
        let page = Probe { way: Way::Page, session: index + 1 };
        let events = Probe { way: Way::Events, session: index + 1 };
        record.expect(page);
        record.expect(events);
        let (mine, pause, found) = (Arc::clone(&browser), target.pace.requests, record.clone());
        tasks.spawn(async move { repeat(&found, page, pause, || mine.page()).await });
        let found = record.clone();
        tasks.spawn(async move { browser.listen(&found, events).await });
    }
    let record = record.clone();
    tasks.spawn(async move { watch_key(&client, &target, &record).await });
    Ok(tasks)
}

async fn repeat<F: Future<Output = Verdict>>(record: &Record, probe: Probe, pause: Duration, try_it: impl Fn() -> F) {
    loop {
        let began = Instant::now();
        let verdict = tokio::time::timeout(ANSWER, try_it()).await;
        let verdict = verdict.unwrap_or_else(|_| Verdict::Odd("no answer within 20 s".into()));
        record.add(probe, Sample { began, done: Instant::now(), verdict });
        tokio::time::sleep(pause).await;
    }
}

fn client(target: &Target) -> Result<Client, ClientError> {
    let token = SecretText::from(target.token.expose());
    Ok(Server::new(&target.url)?.sign_in(target.workspace.clone(), token))
}

async fn by_api(way: Way, client: &Client, target: &Target, record: &Record) -> Verdict {
    let answer = match way {
        Way::Reveal => client.reveal(target.item).await.map(|_| Verdict::Served),
        Way::Search => {
            let request = SearchItems {
                query: TITLE.into(),
                item_type: None,
                vault_id: Some(target.vault),
                cursor: None,
                limit: Some(5),
            };
            client.search(&request).await.map(|page| of_page(target, &page.items, &page.dark))
        }
        Way::Create => {
            let new = CreateItem {
                vault_id: Some(target.vault),
                ..CreateItem::new(ItemType::Secret, format!("{TITLE}, to be deleted").into())
            };
            client.create_item(&new).await.map(|item| {
                record.findings().made.push(item.id);
                Verdict::Served
            })
        }
        _ => {
            let query = ItemQuery { vault_id: Some(target.vault), limit: Some(5), ..ItemQuery::default() };
            client.items(&query).await.map(|page| of_page(target, &page.items, &page.dark))
        }
    };
    answer.unwrap_or_else(|error| refusal(&error))
}

fn of_page(target: &Target, items: &[Item], dark: &[DarkVault]) -> Verdict {
    // Any item of it is too much, whatever stands beside.
    if items.iter().any(|item| item.vault_id == target.vault) {
        return Verdict::Served;
    }
    match dark.iter().find(|dark| dark.vault_id == target.vault) {
        Some(dark) => Verdict::Refused(dark.state.clone()),
        None => Verdict::Odd("the vault is neither served nor told to be dark".into()),
    }
}

fn refusal(error: &ClientError) -> Verdict {
    match error {
        ClientError::Problem(problem) => match &problem.state {
            Some(state) => Verdict::Refused(state.clone()),
            None => Verdict::Odd(format!("{} {}", problem.status, problem.code)),
        },
        other => Verdict::Odd(other.to_string()),
    }
}

/// `strongroom read`, told whom to ask by its environment as a person's shell would tell it.
async fn by_program(target: &Target) -> Verdict {
    let Some(program) = &target.program else { return Verdict::Odd("no program".into()) };
    let status = Command::new(program)
        .arg("read")
        .arg(format!("strongroom://{}/{}/Password", target.vault, target.item))
        .env("STRONGROOM_URL", &target.url)
        .env("STRONGROOM_WORKSPACE", &target.workspace)
        .env("STRONGROOM_TOKEN", target.token.expose())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await;
    match status.map(|status| status.code()) {
        Ok(Some(0)) => Verdict::Served,
        Ok(Some(KEY_UNAVAILABLE)) => Verdict::Refused("exit code 5".into()),
        Ok(code) => Verdict::Odd(format!("exit code {}", code.map_or("none".into(), |code| code.to_string()))),
        Err(error) => Verdict::Odd(format!("the program does not start: {error}")),
    }
}

/// One session of a browser.
struct Browser {
    http: reqwest::Client,
    url: String,
    cookie: SecretText,
    vault: String,
}

impl Browser {
    fn new(target: &Target, index: usize) -> Self {
        let (name, value) = &target.sessions[index];
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()
            .expect("the settings above are sound");
        Self {
            http,
            url: target.url.trim_end_matches('/').to_owned(),
            cookie: SecretText::from(format!("{name}={}", value.expose())),
            vault: target.vault.to_string(),
        }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(Method::GET, format!("{}{path}", self.url));
        request.header(header::COOKIE, self.cookie.expose())
    }

    /// The vault's items, as a browser without JavaScript loads them again and again.
    async fn page(&self) -> Verdict {
        let answer = match self.get(&format!("/items?vault={}", self.vault)).send().await {
            Ok(answer) => answer,
            Err(error) => return Verdict::Odd(error.without_url().to_string()),
        };
        let status = answer.status();
        let html = answer.text().await.unwrap_or_default();
        if html.contains(&format!("<li data-vault=\"{}\"", self.vault)) {
            return Verdict::Served;
        }
        let dark = html.lines().find(|line| line.contains("<section class=\"dark") && line.contains(&self.vault));
        match dark {
            Some(_) => Verdict::Refused("dark".into()),
            None => Verdict::Odd(format!("{} without items and without a dark panel", status.as_u16())),
        }
    }

    /// Hears of every change, and asks anew whenever the stream ends.
    async fn listen(&self, record: &Record, probe: Probe) {
        loop {
            if let Err(words) = self.stream(record, probe).await {
                let now = Instant::now();
                record.add(probe, Sample { began: now, done: now, verdict: Verdict::Odd(words) });
            }
            tokio::time::sleep(KEY_PAUSE).await;
        }
    }

    async fn stream(&self, record: &Record, probe: Probe) -> Result<(), String> {
        let mut answer = self.get("/events").send().await.map_err(|error| error.without_url().to_string())?;
        if !answer.status().is_success() {
            return Err(format!("the event stream answers {}", answer.status().as_u16()));
        }
        let mut unread = String::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
            unread.push_str(&String::from_utf8_lossy(&chunk));
            while let Some(end) = unread.find('\n') {
                let line: String = unread.drain(..=end).collect();
                let Some(data) = line.trim_end().strip_prefix("data:") else { continue };
                let states: serde_json::Value = serde_json::from_str(data.trim()).map_err(|error| error.to_string())?;
                let Some(state) = states[&self.vault].as_str() else { continue };
                let verdict = if state == "open" { Verdict::Served } else { Verdict::Refused(state.to_owned()) };
                let now = Instant::now();
                record.add(probe, Sample { began: now, done: now, verdict });
            }
        }
        Ok(())
    }
}

/// Keeps the moment after which the key is known to have answered: the look before the one that told of a new answer.
async fn watch_key(client: &Client, target: &Target, record: &Record) {
    let (mut before, mut latest) = (Instant::now(), None::<Timestamp>);
    loop {
        let now = Instant::now();
        if let Ok(vault) = client.vault(target.vault).await
            && let Some(answered) = vault.health.answered_at
            && latest.is_none_or(|latest| answered > latest)
        {
            record.findings().key_answered = Some(before);
            latest = Some(answered);
        }
        before = now;
        tokio::time::sleep(KEY_PAUSE).await;
    }
}
