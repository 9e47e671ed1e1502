//! Export: all items of a vault, or of all vaults, that the caller may reveal, as one file for elsewhere.
//!
//! The file is made as it is read, a few items at a time: each batch is authorized again, is durable in the audit log
//! and is under a lease before it is opened, and each piece is looked at again before it goes. So a withdrawn key, a
//! share or a member taken away ends it in the middle, and a file that broke off is not taken for a whole one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use strongroom_envelope::{PassphraseKdf, PassphraseKeys};
use zeroize::Zeroizing;

use super::{Dark, open_row, rows};
use crate::{
    access::Action,
    app::{App, Caller, Through},
    audit::{Event, Target},
    error::{Error, Result},
    export::{ExportFormat, Exported, Salt, Tally, Writer},
    id::{ExportId, ItemId, NoticeId, VaultId},
    keyring::Lease,
    member::{
        expired,
        input::{new_passphrase, only},
    },
    notice::{self, Kind, NewNotice, Severity},
    secret_text::SecretText,
    store::Tx,
};

/// What is wanted.
pub struct ExportRequest {
    /// One vault; None: all that the caller sees something of.
    pub vault: Option<VaultId>,
    pub format: ExportFormat,
    /// Of an encrypted one.
    pub passphrase: Option<SecretText>,
}

/// What an export would hold, told before it is made.
pub struct ExportPlan {
    pub format: ExportFormat,
    /// Items by vault, of those vaults whose key answers.
    pub vaults: Vec<(VaultId, u64)>,
    /// Items in all of them.
    pub items: u64,
    /// Vaults that cannot be read now. Nothing of them is in it.
    pub dark: Vec<Dark>,
    /// Items of the caller's in the trash, which stay out of it.
    pub trashed: u64,
}

/// An export on its way.
pub struct Export {
    pub plan: ExportPlan,
    pub id: ExportId,
    /// The file, piece by piece. It ends with an error where the export was stopped; what came until then is no file.
    pub file: BoxStream<'static, Result<Bytes>>,
}

/// Items that are read, recorded and opened at a time.
const BATCH: usize = 32;

impl App {
    /// What an export of `vault`, or of all, would hold now. Opens nothing.
    pub async fn plan_export(
        &self,
        caller: &Caller,
        vault: Option<VaultId>,
        format: ExportFormat,
    ) -> Result<ExportPlan> {
        Ok(self.planned(caller, vault, format).await?.0)
    }

    /// Starts an export. It needs a fresh sign-in: to whoever stole a session, a passphrase of their own is none. Of a
    /// readable one all who manage vaults are told.
    pub async fn export(self: &Arc<Self>, caller: &Caller, request: ExportRequest) -> Result<Export> {
        let ExportRequest { vault, format, passphrase } = request;
        self.authorize_here(caller, Action::ListItems).await?;
        let passphrase = match (format.is_encrypted(), passphrase) {
            (true, Some(passphrase)) => {
                only(new_passphrase(&passphrase))?;
                Some(passphrase)
            }
            (true, None) => return Err(Error::field("passphrase", "An encrypted export needs a passphrase.")),
            (false, None) => None,
            (false, Some(_)) => {
                return Err(Error::field("passphrase", "This format is not encrypted; leave the passphrase out."));
            }
        };
        self.require_fresh(caller)?;
        let (plan, items) = self.planned(caller, vault, format).await?;
        match plan.dark.first() {
            Some(Dark { why, .. }) if vault.is_some() => return Err(Error::KeyUnavailable(Box::new(why.clone()))),
            _ if plan.items == 0 => {
                return Err(Error::conflict(
                    "export.nothing",
                    "there is nothing to export",
                    "Choose a vault that holds items you can see, or wait until its key answers.",
                ));
            }
            _ => {}
        }
        let (writer, head) = self.writer(format, passphrase).await?;
        let id = ExportId::generate(self.clock.now(), self.random.as_ref())?;
        self.record_start(caller, id, &plan).await?;
        let mut running = Running {
            app: Arc::clone(self),
            caller: caller.clone(),
            id,
            waiting: items.into(),
            ready: VecDeque::new(),
            writer: Some(writer),
            tally: Tally::default(),
            ended: false,
        };
        let begin = running.writer.as_mut().map(Writer::begin).unwrap_or_default();
        running.ready.push_back((Zeroizing::new(head), None));
        running.ready.push_back((begin, None));
        let file = stream::unfold(Some(running), |running| async move {
            let mut running = running?;
            match running.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(running))),
                Ok(None) => None,
                Err(error) => {
                    running.stopped(error.code().to_owned()).await;
                    Some((Err(error), None))
                }
            }
        });
        Ok(Export { plan, id, file: file.boxed() })
    }

    /// The plan, and the items in the order of the file.
    async fn planned(
        &self,
        caller: &Caller,
        vault: Option<VaultId>,
        format: ExportFormat,
    ) -> Result<(ExportPlan, Vec<(VaultId, ItemId)>)> {
        self.authorize_here(caller, Action::ListItems).await?;
        if let Some(vault) = vault {
            self.vault(caller, vault).await?;
        }
        let (member, workspace) = (caller.member, caller.workspace);
        let (mut items, trashed) = self
            .store
            .read(move |tx| {
                let sql = "SELECT i.vault_id, i.id, v.generation, i.trashed_at FROM item_roles r \
                           JOIN items i ON i.id = r.item_id JOIN vaults v ON v.id = i.vault_id \
                           WHERE r.member_id = $1 AND i.workspace_id = $2 ORDER BY i.vault_id, i.id";
                let all = tx.all(sql, &[member.0.into(), workspace.0.into()], |row| {
                    Ok((
                        VaultId(row.get(0)?),
                        ItemId(row.get(1)?),
                        row.get::<u32>(2)?,
                        row.get::<Option<jiff::Timestamp>>(3)?,
                    ))
                })?;
                let all: Vec<_> = all.into_iter().filter(|(of, ..)| vault.is_none_or(|vault| vault == *of)).collect();
                let kept =
                    all.iter().filter(|row| row.3.is_none()).map(|(of, id, generation, _)| (*of, *id, *generation));
                Ok((kept.collect::<Vec<_>>(), all.iter().filter(|row| row.3.is_some()).count() as u64))
            })
            .await?;
        let mut counts: BTreeMap<VaultId, (u32, u64)> = BTreeMap::new();
        for (vault, _, generation) in &items {
            counts.entry(*vault).or_insert((*generation, 0)).1 += 1;
        }
        let mut plan = ExportPlan { format, vaults: Vec::new(), items: 0, dark: Vec::new(), trashed };
        for (vault, (generation, count)) in counts {
            match self.keyring.lease(vault, generation).await {
                Ok(_) => plan.vaults.push((vault, count)),
                Err(Error::KeyUnavailable(why)) => plan.dark.push(Dark { why: *why, count }),
                Err(error) => return Err(error),
            }
        }
        items.retain(|(vault, ..)| plan.vaults.iter().any(|(lit, _)| lit == vault));
        plan.items = items.len() as u64;
        Ok((plan, items.into_iter().map(|(vault, id, _)| (vault, id)).collect()))
    }

    /// The writer, and what the file begins with.
    async fn writer(&self, format: ExportFormat, passphrase: Option<SecretText>) -> Result<(Writer, Vec<u8>)> {
        let Some(passphrase) = passphrase else { return Ok((Writer::plain(format), Vec::new())) };
        let salt = Salt::generate(self.random.as_ref()).map_err(|_| Error::random())?;
        let text = salt.text().to_owned();
        let derive = move || PassphraseKeys::derive(passphrase.expose().as_bytes(), &text, PassphraseKdf::DEFAULT);
        let keys = self.guard.hashing(derive).await?.expect("our own choice is within the bounds");
        Writer::encrypted(&salt, &keys, self.random.as_ref()).map_err(|_| Error::random())
    }

    /// One event for each vault, before anything of it is opened; and a notice where the file is readable.
    async fn record_start(&self, caller: &Caller, id: ExportId, plan: &ExportPlan) -> Result<()> {
        let (mut events, mut notices) = (Vec::new(), Vec::new());
        for (vault, count) in &plan.vaults {
            let facts = vec![
                ("export", id.0.into()),
                ("format", plan.format.word().into()),
                ("encrypted", u64::from(plan.format.is_encrypted()).into()),
                ("count", (*count).into()),
            ];
            let event = self.event(caller, "export.start", Target::Vault(*vault), facts)?;
            if !plan.format.is_encrypted() {
                let notice = NewNotice::of(&event, Kind::ExportedReadable, Severity::Warning, plan.format.word());
                let notice = notice.map(|notice| {
                    let id = NoticeId::generate(event.at, self.random.as_ref())?;
                    Ok::<_, Error>(NewNotice { id, ..notice })
                });
                notices.extend(notice.transpose()?);
            }
            events.push(event);
        }
        let caller = caller.clone();
        self.store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, None, Action::ListItems)?;
                notices.iter().try_for_each(|notice| notice::raise(tx, notice).map(drop))?;
                events.iter().try_for_each(|event| tx.record(event))
            })
            .await
    }
}

/// A part of the file, and the lease that it was opened under.
type Piece = (Zeroizing<Vec<u8>>, Option<Arc<Lease>>);

/// An export between two pieces.
struct Running {
    app: Arc<App>,
    caller: Caller,
    id: ExportId,
    waiting: VecDeque<(VaultId, ItemId)>,
    /// Written, not sent.
    ready: VecDeque<Piece>,
    writer: Option<Writer>,
    tally: Tally,
    ended: bool,
}

impl Running {
    /// The next piece; None after the last.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some((piece, lease)) = self.ready.pop_front() {
                if let Some(lease) = lease {
                    self.still_readable(&lease).await?;
                }
                if !piece.is_empty() {
                    return Ok(Some(Bytes::copy_from_slice(&piece)));
                }
                continue;
            }
            let batch: Vec<_> = self.waiting.drain(..self.waiting.len().min(BATCH)).collect();
            if !batch.is_empty() {
                self.open(batch).await?;
                continue;
            }
            let Some(writer) = self.writer.take() else { return Ok(None) };
            self.finish().await?;
            self.ready.push_back((writer.end(&self.tally), None));
        }
    }

    // These take `&mut self` because a cipher's state is not to be shared between threads.

    /// A lease may have lapsed because the reader is slow; then the key is asked again. A denial ends the export.
    async fn still_readable(&mut self, lease: &Lease) -> Result<()> {
        let keyring = &self.app.keyring;
        match keyring.still_leased(lease) {
            Ok(()) => Ok(()),
            Err(_) => keyring.lease(lease.vault, lease.generation).await.and_then(|anew| keyring.still_leased(&anew)),
        }
    }

    /// Reads, records and opens a batch, in this order.
    async fn open(&mut self, batch: Vec<(VaultId, ItemId)>) -> Result<()> {
        let asked = batch.len() as u64;
        let (workspace, member) = (self.caller.workspace, self.caller.member);
        let mut found = self
            .app
            .store
            .read(move |tx| {
                let rows = batch.iter().map(|(vault, id)| match rows::find(tx, workspace, member, *id) {
                    // Trashed, moved elsewhere or not shared any more since the export began: not what was asked for.
                    Ok(row) => Ok(Some(row).filter(|row| row.vault == *vault && row.trashed_at.is_none())),
                    Err(Error::NotFound(_)) => Ok(None),
                    Err(error) => Err(error),
                });
                rows.filter_map(Result::transpose).collect::<Result<Vec<_>>>()
            })
            .await?;
        let mut leases = HashMap::new();
        for row in &found {
            let slot = (row.vault, row.generation);
            if let std::collections::hash_map::Entry::Vacant(vacant) = leases.entry(slot) {
                vacant.insert(self.app.keyring.lease(row.vault, row.generation).await?);
            }
        }
        let mut events = Vec::new();
        for row in &found {
            let lease = &leases[&(row.vault, row.generation)];
            let facts =
                vec![("export", self.id.0.into()), ("lease", lease.id.0.into()), ("revision", row.revision.into())];
            events.push((row.id, self.app.event(&self.caller, "item.export", Target::Item(row.id), facts)?));
        }
        let allowed = self.record(events).await?;
        found.retain(|row| allowed.contains(&row.id));
        self.tally.gone += asked - found.len() as u64;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut damaged = Vec::new();
        for row in found {
            let lease = &leases[&(row.vault, row.generation)];
            match open_row(&row, lease) {
                Ok((overview, fields)) => {
                    let (created_at, updated_at) = (row.created_at, row.updated_at);
                    let item = Exported { id: row.id.0, overview: &overview, fields: &fields, created_at, updated_at };
                    self.ready.push_back((writer.item(&item), Some(Arc::clone(lease))));
                    self.tally.items += 1;
                }
                Err(error) => damaged.push((row.id, row.revision, error.code().to_owned())),
            }
        }
        for (item, revision, code) in damaged {
            let facts = vec![("revision", revision.into()), ("code", code.as_str().into())];
            let event = self.app.event(&self.caller, "item.reveal_failed", Target::Item(item), facts)?;
            self.app.record(event).await?;
            self.tally.damaged += 1;
        }
        Ok(())
    }

    /// Records what is about to be opened, each item if the caller may still reveal it; returns those.
    async fn record(&mut self, events: Vec<(ItemId, Event)>) -> Result<Vec<ItemId>> {
        let caller = self.caller.clone();
        self.app
            .store
            .write(move |tx| {
                rows::still_allowed(tx, &caller, None, Action::ListItems)?;
                require_signed_in(tx, &caller)?;
                let mut allowed = Vec::new();
                for (item, event) in &events {
                    match rows::still_allowed(tx, &caller, Some(*item), Action::RevealItem) {
                        Ok(()) => {
                            tx.record(event)?;
                            allowed.push(*item);
                        }
                        Err(Error::NotFound(_) | Error::Denied(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(allowed)
            })
            .await
    }

    /// The last event, before the last piece makes the file whole.
    async fn finish(&mut self) -> Result<()> {
        let Tally { items, damaged, gone } = self.tally;
        let facts = vec![
            ("export", self.id.0.into()),
            ("count", items.into()),
            ("damaged", damaged.into()),
            ("gone", gone.into()),
        ];
        let target = Target::Workspace(self.caller.workspace);
        self.app.record(self.app.event(&self.caller, "export.finish", target, facts)?).await?;
        self.ended = true;
        Ok(())
    }

    /// Notes that nothing more comes. What was opened until now has its own events either way.
    async fn stopped(&mut self, code: String) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Err(error) = stop(&self.app, &self.caller, self.id, self.tally.items, &code).await {
            tracing::warn!(%error, "the end of an export could not be recorded");
        }
    }
}

impl Drop for Running {
    /// The reader went away in the middle.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (app, caller, id, items) = (Arc::clone(&self.app), self.caller.clone(), self.id, self.tally.items);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = stop(&app, &caller, id, items, "export.reader_left").await {
                    tracing::warn!(%error, "the end of an export could not be recorded");
                }
            });
        }
    }
}

async fn stop(app: &App, caller: &Caller, id: ExportId, items: u64, code: &str) -> Result<()> {
    let facts = vec![("export", id.0.into()), ("count", items.into()), ("code", code.into())];
    app.record(app.event(caller, "export.stop", Target::Workspace(caller.workspace), facts)?).await
}

/// In a transaction: what the caller came in with is not revoked meanwhile.
fn require_signed_in(tx: &mut Tx<'_>, caller: &Caller) -> Result<()> {
    let (sql, id) = match caller.through {
        Through::Session(session) => ("SELECT COUNT(*) FROM sessions WHERE id = $1 AND revoked_at IS NULL", session.0),
        Through::Token(token) => ("SELECT COUNT(*) FROM api_tokens WHERE id = $1 AND revoked_at IS NULL", token.0),
    };
    if tx.count(sql, &[id.into()])? == 1 {
        return Ok(());
    }
    Err(expired())
}
