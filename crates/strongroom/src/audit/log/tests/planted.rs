//! What somebody puts into the tree's own tables between two checkpoints.

use tlog_tiles::record_hash;
use uuid::Uuid;

use super::two_minutes;
use crate::{
    audit::log::{checkpoint::newest, sequencer::Pass, tree::Frontier},
    error::{Error, Result},
    store::{Param, Tx},
};

#[tokio::test]
async fn an_event_forged_together_with_its_hashes_is_never_signed() {
    let (office, _, kept) = two_minutes(None).await;
    office.events(1).await;
    let mut held = office.app.claim_log(true).await.expect("asked");
    while office.app.log_pass(&mut held).await.expect("a pass") == Pass::More {}
    office.app.store.write(|tx| forge(tx, 18)).await.expect("the database lets it happen");

    let refused = office.app.sign_log(held.expect("nobody else wants it")).await;
    assert!(matches!(refused, Err(Error::Integrity { .. })), "{refused:?}");
    assert_eq!(office.app.store.read(newest).await.expect("read"), Some(kept));
}

/// Changes the last event of the tree, and the hashes so that the tree is whole again.
fn forge(tx: &mut Tx<'_>, index: u64) -> Result<()> {
    let sql = "SELECT l.boot, l.sequence, e.bytes FROM log_leaves l \
               JOIN audit_events e ON e.boot = l.boot AND e.sequence = l.sequence WHERE l.log_index = $1";
    let found =
        tx.first(sql, &[index.into()], |row| Ok((row.get::<Uuid>(0)?, row.get::<i64>(1)?, row.get::<Vec<u8>>(2)?)))?;
    let (boot, sequence, mut bytes) = found.expect("it has its place");
    let action = bytes.windows(12).position(|part| part == b"server.start").expect("it names its action");
    bytes[action..action + 12].copy_from_slice(b"server.stars");
    let sql = "UPDATE audit_events SET bytes = $3 WHERE boot = $1 AND sequence = $2";
    assert_eq!(tx.execute(sql, &[boot.into(), sequence.into(), Param::Bytes(&bytes)])?, 1);
    let mut frontier = Frontier::stored(tx, index)?;
    for (position, hash) in frontier.push(record_hash(&bytes)) {
        let sql = "UPDATE log_hashes SET hash = $2 WHERE position = $1";
        assert_eq!(tx.execute(sql, &[position.into(), Param::Bytes(&hash.0)])?, 1);
    }
    Ok(())
}
