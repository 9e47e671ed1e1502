//! Where a sealed value or a wrapped key belongs. A place is authenticated, never stored in the blob: the ids are the row's.
//!
//! Ids are the 16 raw bytes of the row's UUID; this crate gives them no further meaning.

/// The place of an item's revision: workspace, vault, item, the data key it is sealed under, and the revision's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ItemPlace {
    pub workspace: [u8; 16],
    pub vault: [u8; 16],
    pub item: [u8; 16],
    pub data_key: [u8; 16],
    /// The revision that the value was sealed for. An attachment keeps the one that it came with.
    pub revision: u64,
}

/// The place of a data key that is wrapped under a vault key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataKeyPlace {
    pub workspace: [u8; 16],
    pub vault: [u8; 16],
    /// Of the vault key that wraps.
    pub generation: u32,
    pub item: [u8; 16],
    pub data_key: [u8; 16],
}

/// The place of a vault key: one per vault and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultKeyPlace {
    pub workspace: [u8; 16],
    pub vault: [u8; 16],
    pub generation: u32,
}

/// The place of the KEK of built-in Cloud vaults; `kek` stands where Azure has a key version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloudKekPlace {
    pub workspace: [u8; 16],
    pub provider: [u8; 16],
    pub kek: [u8; 16],
}
