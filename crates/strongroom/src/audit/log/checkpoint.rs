//! Signing the tree's head, and bringing it to where the customer keeps it.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use strongroom_envelope::{InstanceKeys, digest};

use super::{
    Checkpoint, OriginReason, State,
    note::{origin_id, origin_name},
    open_origin,
    origin::beginnings,
    sequencer::{Fence, prove_again},
    tree::{extends, root_at},
};
use crate::{
    app::App,
    audit::{
        Actor, Fact, Target,
        read::proven,
        verify::{EVENT_COLUMNS, Stored},
    },
    error::{Error, Result},
    id::{NodeId, OriginId},
    notice::{Kind, of_the_log, post_text},
    store::Tx,
};

/// After this, one checkpoint of each day is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(48);

impl App {
    /// Signs the head of what is committed, if that has grown. Nothing is signed that does not extend what was signed
    /// before, nor under a lease that ended meanwhile.
    pub(super) async fn sign_log(&self, fence: Fence) -> Result<()> {
        let keys = self.keys.clone();
        let head = self.store.read(move |tx| head_to_sign(tx, &keys, fence)).await?;
        let Some(checkpoint) = head else { return Ok(()) };
        let now = self.clock.now();
        self.store.write(move |tx| keep(tx, fence, now, &checkpoint)).await
    }

    /// Looks at what lies in the file that the operator named. What is not part of this log is kept beside it and told,
    /// and the log goes on under a new name.
    pub(super) async fn settle_pushed(&self) -> Result<()> {
        let Some(file) = &self.settings.checkpoint_file else { return Ok(()) };
        match self.pushed_before(file).await? {
            Pushed::Strange(strange) => self.settle(file, &strange).await,
            Pushed::Part | Pushed::Ahead => Ok(()),
        }
    }

    /// Brings the newest checkpoint to the file.
    pub(super) async fn push_checkpoint(&self) -> Result<()> {
        let Some(file) = &self.settings.checkpoint_file else { return Ok(()) };
        match self.pushed_before(file).await? {
            Pushed::Ahead => return Ok(()),
            Pushed::Part => {}
            Pushed::Strange(strange) => self.settle(file, &strange).await?,
        }
        match self.store.read(newest).await? {
            Some(newest) => write(file, self.node, newest.note()),
            // Nothing is signed yet under the new name. Until then the file keeps what it has.
            None => Ok(()),
        }
    }

    /// Posts the newest checkpoint to the address that the operator named, if that has not taken it yet. One that fails is
    /// not kept for later: the next stands for everything that it stood for.
    pub(super) async fn post_checkpoint(&self, posted: &mut Option<Checkpoint>) -> Result<()> {
        let Some(url) = &self.settings.checkpoint_url else { return Ok(()) };
        let Some(newest) = self.store.read(newest).await? else { return Ok(()) };
        if posted.as_ref() == Some(&newest) {
            return Ok(());
        }
        match post_text(url, newest.note(), &self.settings.notices).await {
            Ok(()) => *posted = Some(newest),
            Err(why) => {
                tracing::warn!(%why, "audit.checkpoint_url did not take the checkpoint; the next minute tries again")
            }
        }
        Ok(())
    }

    /// How what lies in the file stands to this log.
    async fn pushed_before(&self, file: &Path) -> Result<Pushed> {
        let text = match fs::read(file) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Pushed::Part),
            Err(error) => return Err(unusable(file, &error)),
        };
        let Ok(pushed) = text.parse::<Checkpoint>() else {
            return Ok(Pushed::Strange(Strange { text, pushed: None, is_ours: false }));
        };
        let keys = self.keys.clone();
        self.store
            .read(move |tx| {
                let strange = |is_ours| Strange { text: text.clone(), pushed: Some(pushed.clone()), is_ours };
                let Some(state) = State::read(tx)? else { return Ok(Pushed::Strange(strange(false))) };
                let is_ours = pushed.is_signed_by(&state.key(&keys)?.public());
                Ok(match bound(tx, &state, &pushed)? {
                    // Under the key of before it was lost, or under none: nothing is gone, and the next one takes its place.
                    Some(bound) if !is_ours && pushed.size <= bound && root_at(tx, pushed.size)? == pushed.root => {
                        Pushed::Part
                    }
                    _ if !is_ours => Pushed::Strange(strange(false)),
                    Some(bound) if pushed.size <= bound && root_at(tx, pushed.size)? == pushed.root => {
                        // A node that was frozen must not put an older one over a newer.
                        let ahead = newest(tx)?
                            .is_some_and(|newest| newest.origin == pushed.origin && newest.size <= pushed.size);
                        if ahead { Pushed::Ahead } else { Pushed::Part }
                    }
                    _ => Pushed::Strange(strange(true)),
                })
            })
            .await
    }

    /// Keeps a copy beside the file, then tells it, once. The file itself stays until a checkpoint takes its place: whatever
    /// ends this in between, the next look finds the same again.
    async fn settle(&self, file: &Path, strange: &Strange) -> Result<()> {
        let mut aside = file.as_os_str().to_owned();
        aside.push(format!(".{}", hex::encode(&digest(strange.text.as_bytes())[..8])));
        let aside = PathBuf::from(aside);
        if !aside.exists() {
            write(&aside, self.node, &strange.text)?;
            tracing::error!(
                kept = %aside.display(),
                "what lies in audit.checkpoint_file is no checkpoint of this log as it is; a copy of it is kept"
            );
        }
        let Some(pushed) = strange.pushed.clone() else { return Ok(()) };
        let (keys, known) = (self.keys.clone(), pushed.clone());
        let found = self.store.read(move |tx| Ok((is_told(tx, &keys, &known)?, State::read(tx)?, have(tx)?))).await?;
        let (false, Some(state), have) = found else { return Ok(()) };
        tracing::error!(
            pushed = pushed.size,
            have,
            "the database was set back: the checkpoint that was pushed before is of events that it does not have"
        );
        let facts = vec![
            ("origin", Fact::Text(pushed.origin.clone())),
            ("pushed", pushed.size.into()),
            ("root", Fact::Bytes(pushed.root.to_vec())),
            ("have", have.into()),
        ];
        let event = self.event_by(Actor::System, None, "log.set_back", Target::None, facts)?;
        // Of another log, this one has nothing.
        let lost = if strange.is_ours { pushed.size.saturating_sub(have) } else { pushed.size };
        let told = self.notice_for_each_workspace(event.at).await?;
        // After a restore the log has another name already.
        let new =
            (pushed.origin == origin_name(state.origin)).then(|| self.new_origin(OriginReason::SetBack)).transpose()?;
        self.store
            .write(move |tx| {
                tx.record(&event)?;
                of_the_log(tx, &event, Kind::LogSetBack, &lost.to_string(), &told)?;
                new.iter().try_for_each(|new| open_origin(tx, new))
            })
            .await
    }
}

/// What lies in the file.
enum Pushed {
    /// Nothing, or the head of a tree that ours begins with.
    Part,
    /// One that is at least as new as the newest here.
    Ahead,
    /// Something else.
    Strange(Strange),
}

struct Strange {
    text: String,
    /// None of what is no checkpoint at all.
    pushed: Option<Checkpoint>,
    /// Whether the log's own key signed it.
    is_ours: bool,
}

/// Whether an event of this instance tells of this checkpoint already.
fn is_told(tx: &mut Tx<'_>, keys: &InstanceKeys, pushed: &Checkpoint) -> Result<bool> {
    let sql = format!("SELECT {EVENT_COLUMNS} FROM audit_events WHERE action = 'log.set_back'");
    let told = |row: &Stored| {
        proven(keys, row).is_ok_and(|entry| {
            let event = &entry.event;
            event.fact("origin") == Some(&Fact::Text(pushed.origin.clone()))
                && event.fact("pushed") == Some(&Fact::Number(pushed.size))
                && event.fact("root") == Some(&Fact::Bytes(pushed.root.to_vec()))
        })
    };
    Ok(tx.all(&sql, &[], Stored::read)?.iter().any(told))
}

/// Events that were signed under the present name, or that it began with: what was there before this start.
fn have(tx: &mut Tx<'_>) -> Result<u64> {
    if let Some(newest) = newest(tx)? {
        return Ok(newest.size);
    }
    let Some(state) = State::read(tx)? else { return Ok(0) };
    Ok(beginnings(tx)?.iter().find(|begun| begun.id == state.origin).map_or(0, |begun| begun.size))
}

/// The newest checkpoint under the log's present name.
pub(super) fn newest(tx: &mut Tx<'_>) -> Result<Option<Checkpoint>> {
    let Some(state) = State::read(tx)? else { return Ok(None) };
    newest_of(tx, state.origin)
}

/// Up to which size a checkpoint speaks of this log. None if its origin is not one of this log's names.
pub(super) fn bound(tx: &mut Tx<'_>, state: &State, checkpoint: &Checkpoint) -> Result<Option<u64>> {
    origin_id(&checkpoint.origin).map_or(Ok(None), |id| common(tx, state, id))
}

/// Up to which size the log under that name is this one: the whole of it under the present name, for one before where
/// the next one began.
pub(in crate::audit) fn common(tx: &mut Tx<'_>, state: &State, origin: OriginId) -> Result<Option<u64>> {
    if origin == state.origin {
        return Ok(Some(state.size));
    }
    Ok(beginnings(tx)?.into_iter().find(|next| next.parent == Some(origin)).map(|next| next.size))
}

fn newest_of(tx: &mut Tx<'_>, origin: OriginId) -> Result<Option<Checkpoint>> {
    let sql = "SELECT note FROM log_checkpoints WHERE origin_id = $1 ORDER BY size DESC LIMIT 1";
    let note = tx.first(sql, &[origin.0.into()], |row| row.get::<String>(0))?;
    let unreadable = |_| Error::integrity("log.checkpoint", "a checkpoint of the audit log was changed");
    note.map(|note| note.parse::<Checkpoint>().map_err(unreadable)).transpose()
}

/// The checkpoint of what is there now, if it is new.
fn head_to_sign(tx: &mut Tx<'_>, keys: &InstanceKeys, fence: Fence) -> Result<Option<Checkpoint>> {
    let Some(state) = State::read(tx)?.filter(|state| state.fence == fence) else { return Ok(None) };
    let key = state.key(keys)?;
    let before = match newest_of(tx, state.origin)? {
        Some(last) if last.origin != origin_name(state.origin) || !last.is_signed_by(&key.public()) => {
            return Err(Error::integrity("log.checkpoint", "a checkpoint of the audit log was changed or planted"));
        }
        Some(last) if last.size == state.size => return Ok(None),
        Some(last) => (last.size, last.root),
        None => beginnings(tx)?
            .iter()
            .find(|begun| begun.id == state.origin)
            .map(|begun| (begun.size, begun.root))
            .ok_or_else(|| Error::integrity("log.origin", "the audit log's origin is missing"))?,
    };
    let root = root_at(tx, state.size)?;
    if state.size < before.0 || !extends(tx, (state.size, root), before)? {
        return Err(Error::integrity(
            "log.forked",
            "the audit log's tree does not extend the one that was signed last; nothing is signed, run audit verify",
        ));
    }
    prove_again(tx, keys, before.0..state.size)?;
    Ok(Some(Checkpoint::sign(state.origin, state.size, root, &key)))
}

/// Keeps what was signed, unless the lease went to another meanwhile: then it never was.
pub(super) fn keep(tx: &mut Tx<'_>, fence: Fence, now: Timestamp, checkpoint: &Checkpoint) -> Result<()> {
    let state = State::locked(tx)?;
    let Some(state) = state.filter(|state| state.fence == fence && origin_name(state.origin) == checkpoint.origin)
    else {
        return Ok(());
    };
    tx.execute(
        "INSERT INTO log_checkpoints (origin_id, size, note, created_at) VALUES ($1, $2, $3, $4)",
        &[state.origin.0.into(), checkpoint.size.into(), checkpoint.note().into(), now.into()],
    )?;
    tx.execute(
        "DELETE FROM log_checkpoints WHERE created_at < $1 AND EXISTS (SELECT 1 FROM log_checkpoints later \
           WHERE later.origin_id = log_checkpoints.origin_id AND later.size > log_checkpoints.size \
             AND later.created_at / 86400000 = log_checkpoints.created_at / 86400000)",
        &[(now - KEPT).into()],
    )?;
    Ok(())
}

/// Replaces the file as a whole, durably.
fn write(file: &Path, node: NodeId, note: &str) -> Result<()> {
    let mut fresh = file.as_os_str().to_owned();
    // Of this node: one that was frozen may write beside its successor.
    fresh.push(format!(".{node}.new"));
    let fresh = PathBuf::from(fresh);
    let replace = || -> std::io::Result<()> {
        let mut out = fs::File::options().create(true).truncate(true).write(true).mode(0o644).open(&fresh)?;
        out.write_all(note.as_bytes())?;
        out.sync_all()?;
        fs::rename(&fresh, file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    };
    replace().map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &std::io::Error) -> Error {
    Error::Setup {
        what: format!("audit.checkpoint_file {} cannot be used: {error}", file.display()).into(),
        fix: "Name a file in a folder that the server's user may write.".into(),
    }
}
