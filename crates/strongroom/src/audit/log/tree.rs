//! The tree itself: its arithmetic is the crate `tlog_tiles`, a port of golang.org/x/mod/sumdb/tlog; this file only
//! fetches hashes for it.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use tlog_tiles::{
    Error as TlogError, Hash, HashReader, check_tree, prove_record, prove_tree, stored_hash_index,
    stored_hashes_for_record_hash, sub_tree_index, tree_hash,
};

use crate::{
    error::{Error, Result},
    store::Tx,
};

/// The right edge of a tree: all that is needed to append to it and to know its root.
#[derive(Debug, Default, Clone)]
pub(super) struct Frontier {
    size: u64,
    hashes: BTreeMap<u64, Hash>,
}

impl Frontier {
    /// That of the stored tree when it had `size` leaves.
    pub(super) fn stored(tx: &mut Tx<'_>, size: u64) -> Result<Self> {
        let positions = sub_tree_index(0, size, Vec::new());
        let hashes = read(tx, |kept| kept.read_hashes(&positions))?;
        Ok(Self { size, hashes: positions.into_iter().zip(hashes).collect() })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; returns the hashes to store, with their positions.
    pub(super) fn push(&mut self, leaf: Hash) -> Vec<(u64, Hash)> {
        let hashes = stored_hashes_for_record_hash(self.size, leaf, self).expect("the edge holds what an append needs");
        let first = stored_hash_index(0, self.size);
        let new: Vec<_> = (first..).zip(hashes).collect();
        self.hashes.extend(new.iter().copied());
        self.size += 1;
        let edge: BTreeSet<u64> = sub_tree_index(0, self.size, Vec::new()).into_iter().collect();
        self.hashes.retain(|position, _| edge.contains(position));
        new
    }

    pub(super) fn root(&self) -> [u8; 32] {
        tree_hash(self.size, self).expect("the edge holds what the root needs").0
    }
}

impl HashReader for Frontier {
    fn read_hashes(&self, positions: &[u64]) -> std::result::Result<Vec<Hash>, TlogError> {
        let found = positions.iter().map(|position| self.hashes.get(position).copied());
        found.collect::<Option<Vec<_>>>().ok_or(TlogError::IndexesNotInTree)
    }
}

/// The root of the stored tree when it had `size` leaves.
pub(super) fn root_at(tx: &mut Tx<'_>, size: u64) -> Result<[u8; 32]> {
    read(tx, |kept| tree_hash(size, kept)).map(|root| root.0)
}

/// The proof that the tree of `size` leaves begins with that of `before` (RFC 6962, section 2.1.2); both at least 1.
pub(super) fn consistency(tx: &mut Tx<'_>, size: u64, before: u64) -> Result<Vec<Hash>> {
    read(tx, |kept| prove_tree(size, before, kept))
}

/// The proof that the tree of `size` leaves has the stored leaf at `index` (RFC 6962, section 2.1.1).
pub(super) fn inclusion(tx: &mut Tx<'_>, size: u64, index: u64) -> Result<Vec<Hash>> {
    read(tx, |kept| prove_record(size, index, kept))
}

/// Whether the stored tree of `size` leaves and that root begins with one of `before` leaves and its root.
pub(super) fn extends(
    tx: &mut Tx<'_>,
    (size, root): (u64, [u8; 32]),
    (before, root_before): (u64, [u8; 32]),
) -> Result<bool> {
    if before == 0 {
        return Ok(true);
    }
    let proof = consistency(tx, size, before)?;
    Ok(check_tree(&proof, size, Hash(root), before, Hash(root_before)).is_ok())
}

/// The stored hashes, as `tlog_tiles` asks for them.
struct Kept<'k, 't> {
    tx: RefCell<&'k mut Tx<'t>>,
    /// What the database said no with; its own error type has no room for it.
    failed: RefCell<Option<Error>>,
}

impl HashReader for Kept<'_, '_> {
    fn read_hashes(&self, positions: &[u64]) -> std::result::Result<Vec<Hash>, TlogError> {
        let mut tx = self.tx.borrow_mut();
        let mut one = |position: &u64| {
            let sql = "SELECT hash FROM log_hashes WHERE position = $1";
            let found = tx.first(sql, &[(*position).into()], |row| row.get::<Vec<u8>>(0));
            let hash = found.map_err(|error| {
                self.failed.replace(Some(error));
                TlogError::IndexesNotInTree
            })?;
            hash.and_then(|hash| hash.try_into().ok()).map(Hash).ok_or(TlogError::IndexesNotInTree)
        };
        positions.iter().map(&mut one).collect()
    }
}

fn read<T>(tx: &mut Tx<'_>, work: impl FnOnce(&Kept<'_, '_>) -> std::result::Result<T, TlogError>) -> Result<T> {
    let kept = Kept { tx: RefCell::new(tx), failed: RefCell::new(None) };
    let done = work(&kept);
    match kept.failed.into_inner() {
        Some(error) => Err(error),
        None => done.map_err(|_| Error::integrity("log.hashes", "hashes of the audit log's tree are missing")),
    }
}
