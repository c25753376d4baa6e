//! Rows of a group for another node, and rows that came from one. What is served is pinned on the shard task
//! and read off it; what is fetched is written off it, and the shard hears of it with
//! [`Event::Refilled`](crate::Event::Refilled).

use std::sync::Arc;
use std::time::Duration;

use quorate_paxos::{Batch, Membership, MembershipAt};
use quorate_store::{Keyspace, Pinned, Portable, Store, StoreError};
use quorate_types::{Code, Error, GroupId, NodeId, Slot};
use tokio::sync::oneshot;

use crate::group::{Fatal, GroupDriver};
use crate::refuse;
use crate::shard::off_task;

/// Who is refused a view for now tries again after this.
const LATER: Duration = Duration::from_secs(1);

/// The rows of a group as they were applied at one moment. Keeps them on the disk while it lives.
pub struct SnapshotSource {
    group: GroupId,
    last: Batch,
    membership: MembershipAt,
    keyspace: Keyspace,
    view: Pinned,
    store: Arc<Store>,
}

impl SnapshotSource {
    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The batch that the rows end with.
    #[must_use]
    pub fn last(&self) -> &Batch {
        &self.last
    }

    /// The membership that was in force there.
    #[must_use]
    pub fn membership(&self) -> &MembershipAt {
        &self.membership
    }

    /// Records in order behind the portable key `after`, or from the first one on: some `bytes_max` bytes of
    /// them, at least one, none at the end. Waits for the disk.
    ///
    /// # Errors
    /// `StoreError` if the rows cannot be read.
    pub fn page(
        &self,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<Vec<Portable>, StoreError> {
        self.view.page(self.keyspace, after, bytes_max)
    }

    /// Roughly how many bytes all records take. Waits for the disk.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        self.store.bytes_of(self.keyspace)
    }
}

impl std::fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotSource({}, {:?})", self.group, self.last)
    }
}

/// The rows of a group that have come from another node, whole and checked. They do not count before
/// [`Store::switch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refilled {
    /// The group.
    pub group: GroupId,
    /// The batch that the rows end with.
    pub last: Batch,
    /// The membership that was in force there.
    pub membership: MembershipAt,
    /// The incarnation they have in the store.
    pub incarnation: u32,
}

/// Told what became of a refill.
pub type RefillDone = Box<dyn FnOnce(Result<Refilled, Error>) + Send>;

impl GroupDriver {
    /// The rows as they are applied now, for the node that `asks` and needs them at `at_least` or later.
    ///
    /// Rows go to members only. Who became one just now may be unknown here: he asks again, or another, and the
    /// leader knows.
    pub(crate) fn snapshot(
        &mut self,
        asks: NodeId,
        at_least: Slot,
    ) -> Result<Result<SnapshotSource, Error>, Fatal> {
        let group = self.group;
        let refused = |message: String| {
            let error = Error::new(Code::SnapshotUnavailable, message).after(LATER);
            Ok(Err(refuse::of_group(error, group)))
        };
        if !self.kind().keeps_rows() {
            return refused(format!(
                "the replica of {group} here is {} and has no rows",
                self.kind()
            ));
        }
        if self.core.membership().members().all(|(id, _)| id.node() != asks) {
            return refused(format!("{asks} has no member of {group}, as far as is known here"));
        }
        let Some(last) = self.core.applied_last().cloned() else {
            return refused(format!("{group} has applied nothing here since the start"));
        };
        if self.core.applied_membership().membership == Membership::default() {
            return refused(format!("{group} has not applied here who takes part in it"));
        }
        if last.last() < at_least {
            return refused(format!("{group} stands at slot {} here", last.last()));
        }
        let (sessions, attempts) = (&mut self.sessions, self.cross.rules.table_mut());
        let pinned = self.store.pin_with(|| {
            let mut changes = sessions.take_changes();
            changes.extend(attempts.take_changes());
            changes
        });
        let pinned = pinned.map_err(|source| Fatal::Store { group, source })?;
        let Some(view) = pinned else {
            return refused("too many views are kept on this node".to_owned());
        };
        let applied = self.store.applied(group);
        assert_eq!(last.last(), applied, "{group}: the store stands elsewhere than the core");
        let store = Arc::clone(&self.store);
        let (membership, keyspace) = (self.core.snapshot_membership().clone(), self.keyspace);
        Ok(Ok(SnapshotSource { group, last, membership, keyspace, view, store }))
    }
}

/// Does work that waits for the disk where it keeps nobody, and waits for its end. `None` if it panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    off_task(move || {
        let _left = done.send(work()).is_err(); // Who waited for it may have been dropped.
    });
    result.await.ok()
}
