//! What a job may do is fixed when it starts, under a MAC that its row carries. Whoever can write the database plants no
//! job, points none elsewhere, adds no item to one, and starts none again that was stopped.

use strongroom_envelope::{Field, InstanceKeys, JobRow, Mac, digest, mac_job_row, verify_job_row};

use super::{Job, rows::Held};
use crate::{
    error::{Error, Result},
    id::{ItemId, VaultId},
    store::Tx,
};

/// The refusal of a job whose row, or whose list of chosen items, this instance did not write.
pub(crate) const PLANTED: &str = "job.planted";

/// The stored MAC of a job in the state that it has.
pub(super) fn mac(keys: &InstanceKeys, job: &Job, chosen: Option<&[u8]>) -> Vec<u8> {
    with_fields(job, chosen, |row| mac_job_row(keys, row)).to_bytes().to_vec()
}

/// Refuses a row that this instance did not write.
pub(super) fn verify(keys: &InstanceKeys, held: &Held) -> Result<()> {
    let mac = Mac::from_bytes(&held.mac).map_err(|_| planted())?;
    let chosen = held.chosen.as_deref();
    with_fields(&held.job, chosen, |row| verify_job_row(keys, row, &mac)).map_err(|_| planted())
}

/// The same, and that the items listed for it are those that were chosen.
pub(super) fn verify_with_items(tx: &mut Tx<'_>, keys: &InstanceKeys, held: &Held) -> Result<()> {
    verify(keys, held)?;
    let Some(chosen) = &held.chosen else { return Ok(()) };
    let mut items =
        tx.all("SELECT item_id, vault_id FROM job_items WHERE job_id = $1", &[held.job.id.0.into()], |row| {
            Ok((ItemId(row.get(0)?), VaultId(row.get(1)?)))
        })?;
    if digest_of(&mut items) == chosen.as_slice() { Ok(()) } else { Err(planted()) }
}

/// Names chosen items and the vaults where they were.
pub(super) fn digest_of(items: &mut [(ItemId, VaultId)]) -> [u8; 32] {
    items.sort_unstable();
    let bytes: Vec<u8> = items.iter().flat_map(|(item, vault)| [item.bytes(), vault.bytes()].concat()).collect();
    digest(&bytes)
}

fn with_fields<T>(job: &Job, chosen: Option<&[u8]>, use_row: impl FnOnce(&JobRow<'_>) -> T) -> T {
    let (vault, started_by) = (job.vault.bytes(), job.started_by.bytes());
    let target = job.target.map(|target| target.bytes());
    let (whole, weakens) = ([u8::from(job.whole)], [u8::from(job.weakens)]);
    let created_at = job.created_at.as_millisecond().to_be_bytes();
    let field = |name, value| Field { name, value };
    let fields = [
        field("kind", Some(job.kind.word().as_bytes())),
        field("vault", Some(vault.as_slice())),
        field("target", target.as_ref().map(<[u8; 16]>::as_slice)),
        field("whole", Some(whole.as_slice())),
        field("weakens", Some(weakens.as_slice())),
        field("state", Some(job.state.word().as_bytes())),
        field("started_by", Some(started_by.as_slice())),
        field("created_at", Some(created_at.as_slice())),
        field("chosen", chosen),
    ];
    use_row(&JobRow { workspace: job.workspace.bytes(), job: job.id.bytes(), fields: &fields })
}

fn planted() -> Error {
    Error::integrity(
        PLANTED,
        "this job was not written by this instance, or was changed behind its back; it is not done",
    )
}
