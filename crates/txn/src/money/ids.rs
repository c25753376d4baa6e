//! What is known of the ids of a batch: looked up once each, in the order of the store.
//!
//! Used by `decide.rs`. Most ids are new, and then the look-up is one read that finds nothing.

use quorate_store::{Keyspace, StoreError, View};
use quorate_types::planted::{Bug, planted};
use quorate_types::{SliceId, Transfer, TransferId, TransferRecord, Uid};

use super::record::decode_transfer;

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing has it.
    Free,
    /// A transfer of an earlier entry, by its place among those found.
    Before(usize),
    /// A transfer of this batch.
    Here(usize),
}

/// The ids of a batch, each once, in the order of the keys of their records.
pub(super) struct Ids {
    /// For each transfer, the place of its id.
    places: Vec<usize>,
    /// What is known of each id.
    ids: Vec<Known>,
    found: Vec<TransferRecord>,
}

impl Ids {
    /// Looks the ids of these transfers up; `slices` are those of debit and credit account, by turns.
    pub(super) fn open(
        view: &dyn View,
        keyspace: Keyspace,
        transfers: &[Transfer],
        slices: &[SliceId],
    ) -> Result<Ids, StoreError> {
        let name = |(index, transfer): (usize, &Transfer)| {
            (slices[2 * index], transfer.debit.uid, transfer.id, index)
        };
        let mut sorted: Vec<(SliceId, Uid, TransferId, usize)> =
            transfers.iter().enumerate().map(name).collect();
        sorted.sort_unstable();
        let mut all = Ids { places: vec![0; transfers.len()], ids: Vec::new(), found: Vec::new() };
        all.ids.reserve(transfers.len());
        let mut last = None;
        for (slice, debit, id, index) in sorted {
            if last != Some((slice, debit, id)) {
                last = Some((slice, debit, id));
                let key = keyspace.transfer(slice, debit, id);
                let stored = view.get(&key)?.filter(|_| !planted(Bug::TransferTwice));
                let known = match stored {
                    None => Known::Free,
                    Some(bytes) => {
                        all.found.push(decode_transfer(&key, debit, id, &bytes)?);
                        Known::Before(all.found.len() - 1)
                    }
                };
                all.ids.push(known);
            }
            all.places[index] = all.ids.len() - 1;
        }
        Ok(all)
    }

    /// What is known of the id of a transfer.
    pub(super) fn of(&self, index: usize) -> Known {
        self.ids[self.places[index]]
    }

    /// Something else is known of it now.
    pub(super) fn set(&mut self, index: usize, known: Known) {
        self.ids[self.places[index]] = known;
    }

    /// A transfer of an earlier entry.
    pub(super) fn found(&self, place: usize) -> &TransferRecord {
        &self.found[place]
    }

    /// The transfers of the batch that take effect, in the order of their keys.
    pub(super) fn here(&self) -> impl Iterator<Item = usize> + '_ {
        self.ids.iter().filter_map(|known| match *known {
            Known::Here(index) => Some(index),
            Known::Free | Known::Before(_) => None,
        })
    }
}
