//! What clients of one history of a group were told, and what is chosen in it. The first history begins with nothing.
//! One that began by force has what was proven: whatever was acknowledged above may be lost, and nothing else
//! (`docs/adr/0020-forced-recovery-raises-the-history.md`).

use quorate_types::{EntryId, Slot};

use super::acknowledged::Acknowledged;
use super::agreement::Agreement;
use super::commit::Commit;
use super::durability::Durability;
use super::freshness::Freshness;
use crate::common::cluster::Cluster;

#[derive(Default)]
pub struct Line {
    /// The entry that it began with.
    pub since: EntryId,
    pub agreement: Agreement,
    pub durability: Durability,
    pub commit: Commit,
    pub acknowledged: Acknowledged,
    pub freshness: Freshness,
    /// What was chosen before it began, and not yet by its own members.
    inherited: Vec<EntryId>,
}

impl Line {
    /// The history that begins with `since`, after this one, of which it keeps what is proven.
    pub fn begin(&self, since: EntryId, proven: Slot) -> Line {
        let shown = self.freshness.shown().min(proven);
        Line {
            since,
            agreement: self.agreement.through(proven),
            durability: Durability::default(),
            commit: self.commit.through(proven),
            acknowledged: self.acknowledged.through(proven),
            freshness: Freshness::showing(shown),
            inherited: self.durability.through(proven).chain(self.kept(proven)).collect(),
        }
    }

    fn kept(&self, proven: Slot) -> impl Iterator<Item = EntryId> {
        self.inherited.iter().copied().filter(move |id| id.slot <= proven)
    }

    /// An entry is applied for the first time. What is below the first entry of a history was chosen before it, or is
    /// with that one.
    pub fn chosen(&mut self, cluster: &Cluster, id: EntryId, is_judged: bool) {
        if id.slot < self.since.slot {
            self.inherited.push(id);
            return;
        }
        if is_judged {
            self.durability.chosen(cluster, id);
        } else {
            self.durability.note(id);
        }
        self.inherited.drain(..).for_each(|id| self.durability.note(id));
    }

    /// What somebody may know of by now: was told as the answer to a write, or has seen at a replica.
    pub fn known(&self) -> Slot {
        self.acknowledged.upto().max(self.freshness.shown())
    }
}
