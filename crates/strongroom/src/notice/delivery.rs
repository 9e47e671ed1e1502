//! Sending: an outbox in the database, so that neither a restart nor a receiver's bad day loses a notice.
//!
//! A notice's deliveries are made out from the notice itself, a moment after it was raised. Whoever sends one moves its
//! next time into the future first; should the process end meanwhile, it is due again then. So a notice arrives at least
//! once, with the same id each time.

use std::{str::FromStr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    Kind, MANAGERS, NOTICE_COLUMNS, NOTICE_TABLES, NOTICE_WIDTH, Notice, mail::Letter, mail_address, read, readable,
    webhook::Target, words,
};
use crate::{
    app::App,
    error::{Error, Result},
    id::{MemberId, NoticeId, WebhookId, WorkspaceId},
    store::{Row, Tx},
};

/// Between two looks for something to send.
const BEAT: Duration = Duration::from_secs(2);
/// Looks between two passes over credentials and keys.
const BEATS_A_PASS: u64 = 30;
/// For how long a delivery belongs to who took it: longer than any attempt lasts.
const LEASE: SignedDuration = SignedDuration::from_secs(60);
/// Attempts under way at once.
const PLACES: usize = 20;
/// Of one workspace: its slow receivers hold up no other's.
const PLACES_EACH: usize = 5;
/// A vault's key that stops answering is told outside at most once in this time, however often it comes and goes.
const QUIET: SignedDuration = SignedDuration::from_hours(1);
/// Seconds after each failed attempt until the next: a day in all.
const PAUSES: [i64; 11] = [5, 30, 120, 600, 1800, 3600, 7200, 10_800, 14_400, 21_600, 25_200];

/// How a notice goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Webhook,
    Mail,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It was not tried yet, or is tried again.
    Waiting,
    Delivered,
    /// It was given up.
    Failed,
}

/// One notice on its way to one receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub notice: NoticeId,
    pub kind: Kind,
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u64,
    pub tried_at: Option<Timestamp>,
    /// When it is tried next, while it waits.
    pub next_at: Option<Timestamp>,
    /// What the last attempt met: "status 500".
    pub outcome: String,
    pub created_at: Timestamp,
}

/// What one attempt met.
pub(super) struct Outcome {
    pub delivered: bool,
    /// The receiver wants no further attempt.
    pub last: bool,
    pub said: String,
}

impl Outcome {
    pub(super) fn delivered(said: impl Into<String>) -> Self {
        Self { delivered: true, last: true, said: said.into() }
    }

    pub(super) fn failed(said: impl Into<String>) -> Self {
        Self { delivered: false, last: false, said: said.into() }
    }
}

impl App {
    /// Sends notices and looks for new ones, until the task is dropped.
    pub async fn keep_telling(self: Arc<Self>) {
        let mut sending = Sending::default();
        for beat in 0u64.. {
            let mut pause = self.clock.sleep(BEAT);
            if beat % BEATS_A_PASS == 0
                && let Err(error) = unbroken(self.look_for_news()).await
            {
                tracing::warn!(%error, "keys and credentials could not be looked at for notices");
            }
            if let Err(error) = unbroken(self.begin_sending(&mut sending)).await {
                tracing::warn!(%error, "notices could not be sent");
            }
            loop {
                let ended = tokio::select! {
                    () = &mut pause => break,
                    Some(ended) = sending.ended() => ended,
                };
                let filled = unbroken(self.fill_places(&mut sending)).await;
                if let Err(error) = ended.and(filled) {
                    tracing::warn!(%error, "notices could not be sent");
                }
            }
        }
    }

    /// Makes out the deliveries of new notices, and tries all that are due. Returns how often one was tried.
    pub async fn send_notices(self: &Arc<Self>) -> Result<usize> {
        let (mut sending, mut tried) = (Sending::default(), 0);
        self.begin_sending(&mut sending).await?;
        while let Some(ended) = sending.ended().await {
            ended?;
            tried += 1;
            self.fill_places(&mut sending).await?;
        }
        Ok(tried)
    }

    async fn begin_sending(self: &Arc<Self>, sending: &mut Sending) -> Result<()> {
        self.make_out().await?;
        self.fill_places(sending).await
    }

    /// Starts what is due, as far as there are places.
    async fn fill_places(self: &Arc<Self>, sending: &mut Sending) -> Result<()> {
        for due in self.take_due(&sending.of).await? {
            sending.start(self, due);
        }
        Ok(())
    }

    async fn make_out(&self) -> Result<()> {
        let now = self.clock.now();
        // What has to wait, because its vault's key was told of a moment ago, is not over yet and stays for later.
        let new = format!(
            "SELECT n.id, n.workspace_id, n.kind, n.vault_id, n.created_at FROM notices n WHERE n.sent_out = 0 \
             AND NOT (n.kind = 'key.unhealthy' AND n.over_at IS NULL AND n.vault_id IS NOT NULL \
                      AND EXISTS (SELECT 1 {TOLD_OF_KEY} AND e.vault_id = n.vault_id)) ORDER BY n.id LIMIT 100"
        );
        let read = move |tx: &mut Tx<'_>| tx.all(&new, &[(now - QUIET).into()], |row| Ok(News::read(row)));
        let new = readable(self.store.read(read).await?);
        if new.is_empty() {
            return Ok(());
        }
        let sends_mail = self.settings.notices.mail.is_some();
        self.store
            .write(move |tx| {
                for news in &new {
                    match news.pushed(tx, now)? {
                        Push::Now => {}
                        Push::Later => continue,
                        Push::Never => {
                            tx.execute("UPDATE notices SET sent_out = 1 WHERE id = $1", &[news.notice.into()])?;
                            continue;
                        }
                    }
                    let values = [news.notice.into(), news.workspace.into(), now.into()];
                    make_out(tx, Channel::Webhook, "webhooks m WHERE m.workspace_id = $2", &values)?;
                    if sends_mail {
                        let wanting = format!(
                            "members m LEFT JOIN notice_mail_refusals f ON f.member_id = m.id \
                             WHERE m.workspace_id = $2 AND f.member_id IS NULL AND {MANAGERS}"
                        );
                        make_out(tx, Channel::Mail, &wanting, &values)?;
                    }
                    tx.execute("UPDATE notices SET sent_out = 1 WHERE id = $1", &[news.notice.into()])?;
                }
                Ok(())
            })
            .await
    }

    /// Takes what is due, so that no other node sends it meanwhile; no more than fits beside attempts `of` these.
    async fn take_due(&self, of: &[WorkspaceId]) -> Result<Vec<Due>> {
        if of.len() >= PLACES {
            return Ok(vec![]);
        }
        let (now, mut of) = (self.clock.now(), of.to_vec());
        let full: Vec<_> = of.iter().copied().filter(|workspace| is_full(&of, *workspace)).collect();
        let mut due = self.store.read(move |tx| due(tx, now, &full)).await?;
        due.retain(|due| {
            let fits = of.len() < PLACES && !is_full(&of, due.notice.workspace);
            if fits {
                of.push(due.notice.workspace);
            }
            fits
        });
        if due.is_empty() {
            return Ok(due);
        }
        let until = now + LEASE;
        let wanted: Vec<_> = due.iter().map(|due| (due.notice.id, due.recipient, due.next_at)).collect();
        let taken = self.store.write(move |tx| {
            let mut taken = Vec::new();
            for (notice, recipient, next_at) in &wanted {
                let sql = "UPDATE deliveries SET next_at = $4 \
                           WHERE notice_id = $1 AND recipient_id = $2 AND state = 'waiting' AND next_at = $3";
                let touched =
                    tx.execute(sql, &[notice.0.into(), (*recipient).into(), (*next_at).into(), until.into()])?;
                taken.push(touched == 1);
            }
            Ok(taken)
        });
        let taken = taken.await?;
        let mine = due.into_iter().zip(taken).filter(|(_, taken)| *taken);
        Ok(mine.map(|(due, _)| Due { next_at: until, ..due }).collect())
    }

    async fn attempt(&self, due: Due) -> Result<()> {
        let outcome = match due.channel {
            Channel::Webhook => self.post(&due).await?,
            Channel::Mail => self.write_to(&due).await?,
        };
        let now = self.clock.now();
        let pause = usize::try_from(due.attempts).ok().and_then(|tried| PAUSES.get(tried)).filter(|_| !outcome.last);
        let state = match (outcome.delivered, pause) {
            (true, _) => DeliveryState::Delivered,
            (false, Some(_)) => DeliveryState::Waiting,
            (false, None) => DeliveryState::Failed,
        };
        let next_at = now + SignedDuration::from_secs(pause.copied().unwrap_or(0));
        if !outcome.delivered {
            let (channel, said) = (due.channel.word(), &outcome.said);
            tracing::warn!(notice = %due.notice.id, recipient = %due.recipient, channel, said, "a notice was not delivered");
        }
        self.store
            .write(move |tx| {
                // Who took longer than its lease changes nothing of what another does.
                tx.execute(
                    "UPDATE deliveries SET state = $4, attempts = attempts + 1, next_at = $5, tried_at = $6, outcome = $7 \
                     WHERE notice_id = $1 AND recipient_id = $2 AND state = 'waiting' AND next_at = $3",
                    &[
                        due.notice.id.0.into(),
                        due.recipient.into(),
                        due.next_at.into(),
                        state.word().into(),
                        next_at.into(),
                        now.into(),
                        outcome.said.as_str().into(),
                    ],
                )?;
                Ok(())
            })
            .await
    }

    async fn post(&self, due: &Due) -> Result<Outcome> {
        let (workspace, webhook, keys) = (due.notice.workspace, WebhookId(due.recipient), self.keys.clone());
        match self.store.read(move |tx| Target::load(tx, workspace, webhook, &keys)).await {
            Ok(target) => {
                let now = self.clock.now();
                let body = self.payload(due, now);
                Ok(target.send(&due.notice.id.to_string(), now, &body, &self.settings.notices).await)
            }
            Err(Error::NotFound(_)) => Ok(Outcome { last: true, ..Outcome::failed("the webhook is gone") }),
            Err(Error::Integrity { .. }) => Ok(Outcome { last: true, ..Outcome::failed("the webhook was changed") }),
            Err(error) => Err(error),
        }
    }

    /// The body of a webhook: `type`, `timestamp` and `data`, as the scheme recommends.
    fn payload(&self, due: &Due, now: Timestamp) -> String {
        let notice = &due.notice;
        let said = words(notice, now);
        let body = json!({
            "type": notice.kind.word(),
            "timestamp": notice.at,
            "data": {
                "id": notice.id,
                "workspace": due.workspace,
                "severity": notice.severity.word(),
                "code": notice.code,
                "vault_id": notice.vault,
                "vault_name": notice.vault_name,
                "job_id": notice.job,
                "until": notice.until,
                "title": said.title,
                "detail": said.more,
                "url": self.url_of(notice),
            },
        });
        body.to_string()
    }

    async fn write_to(&self, due: &Due) -> Result<Outcome> {
        let Some(mail) = &self.settings.notices.mail else { return Ok(Outcome::failed("e-mail is not set up")) };
        let (workspace, member) = (due.notice.workspace, MemberId(due.recipient));
        let Some((name, address)) = self.store.read(move |tx| mail_address(tx, workspace, member)).await? else {
            return Ok(Outcome { last: true, ..Outcome::failed("not wanted any more") });
        };
        let said = words(&due.notice, self.clock.now());
        let text = format!(
            "{}\n\n{}\n\n{}\n\nWorkspace: {}\nYou get this because you manage it. To get no more: {}/profile#notices\n",
            said.title,
            said.more,
            self.url_of(&due.notice),
            due.workspace,
            self.settings.public_url,
        );
        let letter = Letter {
            id: format!("{}.{}", due.notice.id, due.recipient),
            name: &name,
            address: &address,
            subject: &format!("[Strongroom] {}", said.title),
            text,
        };
        Ok(mail.send(letter).await)
    }

    /// The page that shows what a notice tells of.
    fn url_of(&self, notice: &Notice) -> String {
        let home = &self.settings.public_url;
        match notice.vault {
            Some(vault) if !notice.vault_name.is_empty() => format!("{home}/settings/vaults/{vault}"),
            _ => format!("{home}/notices"),
        }
    }
}

/// Attempts under way. They end when this is dropped, and are due again after their lease.
#[derive(Default)]
struct Sending {
    attempts: JoinSet<(WorkspaceId, Result<()>)>,
    /// The workspace of each.
    of: Vec<WorkspaceId>,
}

impl Sending {
    fn start(&mut self, app: &Arc<App>, due: Due) {
        let (app, workspace) = (Arc::clone(app), due.notice.workspace);
        self.of.push(workspace);
        self.attempts.spawn(async move { (workspace, unbroken(app.attempt(due)).await) });
    }

    /// Whether the next to end could be carried out; none when none is under way.
    async fn ended(&mut self) -> Option<Result<()>> {
        // An error means that the whole runtime ends: nobody aborts an attempt, and its panics are caught.
        let (workspace, outcome) = self.attempts.join_next().await?.ok()?;
        if let Some(place) = self.of.iter().position(|of| *of == workspace) {
            self.of.swap_remove(place);
        }
        Some(outcome)
    }
}

fn is_full(of: &[WorkspaceId], workspace: WorkspaceId) -> bool {
    of.iter().filter(|of| **of == workspace).count() >= PLACES_EACH
}

/// Deliveries of a vault's silence that were made out after `$1`.
const TOLD_OF_KEY: &str = "FROM notices e JOIN deliveries d ON d.notice_id = e.id \
                           WHERE e.kind = 'key.unhealthy' AND d.created_at > $1";

/// A notice that nobody was sent yet.
struct News {
    notice: Uuid,
    workspace: Uuid,
    kind: String,
    vault: Option<Uuid>,
    at: Timestamp,
}

/// When a notice goes outside; it is on the page in any case.
enum Push {
    Now,
    Later,
    Never,
}

impl News {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self { notice: row.get(0)?, workspace: row.get(1)?, kind: row.get(2)?, vault: row.get(3)?, at: row.get(4)? })
    }

    /// A key that comes and goes is told of now and then; its return, if its silence was.
    fn pushed(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<Push> {
        let Some(vault) = self.vault else { return Ok(Push::Now) };
        if self.kind != Kind::KeyUnhealthy.word() && self.kind != Kind::KeyHealthy.word() {
            return Ok(Push::Now);
        }
        let told = format!("SELECT COUNT(*) {TOLD_OF_KEY} AND e.vault_id = $2");
        let (since, vault) = ((now - QUIET).into(), vault.into());
        if tx.count(&told, &[since, vault])? == 0 {
            return Ok(Push::Now);
        }
        if self.kind == Kind::KeyHealthy.word() {
            // A denial that was told before the quiet began is over now as well.
            let ended = "SELECT COUNT(*) FROM notices e JOIN deliveries d ON d.notice_id = e.id \
                         WHERE e.kind = 'key.unhealthy' AND e.over_at = $1 AND e.vault_id = $2";
            let was_told = tx.count(ended, &[self.at.into(), vault])? > 0;
            return Ok(if was_told { Push::Now } else { Push::Never });
        }
        let open = "SELECT COUNT(*) FROM notices WHERE id = $1 AND over_at IS NULL";
        Ok(if tx.count(open, &[self.notice.into()])? > 0 { Push::Later } else { Push::Never })
    }
}

/// A delivery that is to be tried now.
struct Due {
    notice: Notice,
    /// The workspace's name in addresses.
    workspace: String,
    recipient: Uuid,
    channel: Channel,
    attempts: u64,
    next_at: Timestamp,
}

impl Due {
    fn read(row: &Row<'_>) -> Result<Self> {
        let own = |index: usize| NOTICE_WIDTH + index;
        Ok(Self {
            notice: read(row)?,
            recipient: row.get(own(0))?,
            channel: row.parse(own(1))?,
            attempts: row.get(own(2))?,
            next_at: row.get(own(3))?,
            workspace: row.get(own(4))?,
        })
    }
}

/// The next that are due, each workspace's first ones first, those of the `full` ones left out.
fn due(tx: &mut Tx<'_>, now: Timestamp, full: &[WorkspaceId]) -> Result<Vec<Due>> {
    let mut values = vec![now.into(), (PLACES as u64).into()];
    let mut others = String::new();
    for workspace in full {
        values.push(workspace.0.into());
        others += &format!(" AND n.workspace_id <> ${}", values.len());
    }
    // Words that this program does not know take no place among those that it does.
    let kinds = Kind::ALL.map(|kind| format!("'{}'", kind.word())).join(", ");
    let sql = format!(
        "SELECT {NOTICE_COLUMNS}, d.recipient_id, d.channel, d.attempts, d.next_at, w.slug {NOTICE_TABLES} \
         JOIN deliveries d ON d.notice_id = n.id JOIN workspaces w ON w.id = n.workspace_id \
         WHERE d.state = 'waiting' AND d.next_at <= $1 AND d.channel IN ('webhook', 'mail') \
               AND n.kind IN ({kinds}) AND n.severity IN ('info', 'warning', 'critical'){others} \
         ORDER BY ROW_NUMBER() OVER (PARTITION BY n.workspace_id ORDER BY d.next_at, d.recipient_id), d.next_at LIMIT $2"
    );
    let rows = tx.all(&sql, &values, |row| Ok(Due::read(row)))?;
    Ok(readable(rows))
}

/// One delivery of the notice `$1` to each of `recipients`, a table called `m` with its condition.
fn make_out(tx: &mut Tx<'_>, channel: Channel, recipients: &str, values: &[crate::store::Param<'_>; 3]) -> Result<()> {
    let word = channel.word();
    let sql = format!(
        "INSERT INTO deliveries (notice_id, recipient_id, channel, state, attempts, next_at, outcome, created_at) \
         SELECT $1, m.id, '{word}', 'waiting', 0, $3, '', $3 FROM {recipients} \
         ON CONFLICT (notice_id, recipient_id) DO NOTHING"
    );
    tx.execute(&sql, values).map(drop)
}

/// The latest deliveries to one receiver, newest first.
pub(super) fn of_recipient(tx: &mut Tx<'_>, recipient: Uuid, most: u64) -> Result<Vec<Delivery>> {
    let sql = "SELECT d.notice_id, n.kind, d.state, d.attempts, d.tried_at, d.next_at, d.outcome, d.created_at \
               FROM deliveries d JOIN notices n ON n.id = d.notice_id WHERE d.recipient_id = $1 \
               ORDER BY d.created_at DESC, d.notice_id DESC LIMIT $2";
    let read = |row: &Row<'_>| {
        let state = row.parse(2)?;
        Ok(Delivery {
            notice: NoticeId(row.get(0)?),
            kind: row.parse(1)?,
            state,
            attempts: row.get(3)?,
            tried_at: row.get(4)?,
            next_at: Some(row.get(5)?).filter(|_| state == DeliveryState::Waiting),
            outcome: row.get(6)?,
            created_at: row.get(7)?,
        })
    };
    Ok(readable(tx.all(sql, &[recipient.into(), most.into()], |row| Ok(read(row)))?))
}

/// How many deliveries there are of each channel and state, for the metrics.
pub fn counts(tx: &mut Tx<'_>) -> Result<Vec<(String, String, u64)>> {
    let sql = "SELECT channel, state, COUNT(*) FROM deliveries GROUP BY channel, state ORDER BY channel, state";
    tx.all(sql, &[], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

/// A panic is a defect of ours; it must not end the task.
async fn unbroken<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    std::panic::AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::integrity("notice.task", "sending notices ended in a panic")))
}

impl Channel {
    /// As rows write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
        }
    }
}

impl DeliveryState {
    /// As rows and the API write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for Channel {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        [Self::Webhook, Self::Mail].into_iter().find(|channel| channel.word() == text).ok_or(())
    }
}

impl FromStr for DeliveryState {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        [Self::Waiting, Self::Delivered, Self::Failed].into_iter().find(|state| state.word() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_grow_apart_and_end_after_a_day() {
        assert!(PAUSES.is_sorted());
        let hours = PAUSES.iter().sum::<i64>() / 3600;
        assert!((23..=25).contains(&hours), "{hours} h");
    }
}
