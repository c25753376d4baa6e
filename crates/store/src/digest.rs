//! Hashes of a group's records in a view that stands still, slice by slice: what replicas compare to find
//! out whether they hold the same.
//!
//! Over portable records, so that it does not matter which incarnation of its rows a replica has, or
//! whether they came as a snapshot. The hash is XXH3 with 128 bits: nobody who could choose rows to make two
//! states collide gains anything by it, so it need not be cryptographic; it must be wide enough that two
//! states never collide by chance in the life of a cluster, which 32 bits are not, and fast enough that
//! reading the rows is what takes the time.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::{RowsDigest, SliceId};
use xxhash_rust::xxh3::Xxh3;

use crate::error::StoreError;
use crate::keys::{Keyspace, slice_of};
use crate::pinned::Pinned;
use crate::portable::Portable;

/// Hashes the records of a keyspace, page by page.
#[derive(Default)]
pub struct RowsHasher {
    after: Option<Bytes>,
    slices: BTreeMap<SliceId, Xxh3>,
    rest: Xxh3,
    bytes: u64,
}

impl RowsHasher {
    /// Nothing is hashed yet.
    #[must_use]
    pub fn new() -> RowsHasher {
        RowsHasher::default()
    }

    /// Hashes records that follow those hashed so far: some `bytes_max` bytes of them. True if there are no
    /// more. Waits for the disk.
    ///
    /// # Errors
    /// `StoreError` if they cannot be read.
    pub fn page(
        &mut self,
        view: &Pinned,
        space: Keyspace,
        bytes_max: usize,
    ) -> Result<bool, StoreError> {
        let records = view.page(space, self.after.as_deref(), bytes_max)?;
        for record in &records {
            self.add(record);
        }
        match records.into_iter().next_back() {
            Some(last) => self.after = Some(last.key),
            None => return Ok(true),
        }
        Ok(false)
    }

    fn add(&mut self, record: &Portable) {
        let hasher = match slice_of(&record.key) {
            Some(slice) => self.slices.entry(slice).or_default(),
            None => &mut self.rest,
        };
        hasher.update(&record.lengths());
        hasher.update(&record.key);
        hasher.update(&record.value);
        self.bytes += record.bytes() as u64;
    }

    /// Bytes of the records so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The hashes.
    #[must_use]
    pub fn finish(self) -> RowsDigest {
        let slices = self.slices.iter().map(|(slice, hasher)| (*slice, hasher.digest128()));
        RowsDigest { slices: slices.collect(), rest: self.rest.digest128() }
    }
}

impl std::fmt::Debug for RowsHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RowsHasher({} slices, {} bytes)", self.slices.len(), self.bytes)
    }
}
