//! Rows of a group that come from another node: what the driver does between the core's wish for them and
//! the rows that count. Called by `carry_out.rs` and `shard.rs`.
//!
//! ```text
//!   core: refill ---> Network::refill fetches and installs beside the old rows ---> fetched
//!   fetched -------> core: Install, the log begins anew ---> core: install ---> the store switches
//!   switched ------> rows, sessions and attempts are loaded ---> core: Installed
//! ```
//!
//! The switch waits for the disk, and loading reads it: both run off the shard task. The core applies
//! nothing meanwhile. A log-only replica fetches no more than what such rows end with, and switches to nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_paxos::Input;
use quorate_store::{Base, Keyspace, Store, StoreError};
use quorate_txn::{Deletes, SessionTable};
use quorate_types::{BootTime, Code, Error, GroupId, NodeId, ReplicaId, Slot};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::cross::CrossDriver;
use crate::event::{Event, RefillStatus};
use crate::group::{Effects, Fatal, GroupDriver};
use crate::refuse;
use crate::snapshot::{RefillDone, Refilled};

/// After a fetch that came to nothing the next one waits this long, twice as long each time,
const WAIT: Duration = Duration::from_millis(500);
/// up to this.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What was fetched and cannot be installed at once is kept this long.
const KEEP_MAX: Duration = Duration::from_secs(20);

/// Where the refill of a group stands.
#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Fetching,
    /// Waits until the core can take it; since when.
    Fetched(BootTime, Box<Refilled>),
    /// The core logs its last batch. What it gets as incarnation.
    Logging(u32),
    /// The store switches.
    Switching,
}

/// The part of a group that refilling takes.
#[derive(Default)]
pub(crate) struct RefillDriver {
    phase: Phase,
    /// Only from these rows are fetched, because others may hold what was found to be wrong here; empty:
    /// from any.
    sources: Vec<NodeId>,
    /// What is being fetched may come from somebody else.
    is_distrusted: bool,
    /// Fetches in a row that came to nothing.
    failures: u32,
    /// Nothing is fetched before.
    next_at: BootTime,
    /// Snapshots installed since the start.
    installed: u64,
}

/// Rows to fetch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The group.
    pub group: GroupId,
    /// The replica that wants them.
    pub replica: ReplicaId,
    /// They must stand here or later.
    pub at_least: Slot,
    /// From which nodes; empty: from any.
    pub sources: Vec<NodeId>,
    /// False for a replica that keeps no rows: all it needs is the batch that they end with, and who took part in
    /// the group there.
    pub rows: bool,
}

/// A change of which rows count, to be made durable off the shard task.
pub(crate) struct Switch {
    group: GroupId,
    /// The replica that wants it.
    replica: ReplicaId,
    store: Arc<Store>,
    to: Rows,
}

/// Which rows are to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// Those that were installed, as of this entry, of this incarnation.
    Installed(Slot, u32),
    /// None before others are installed. Those that are there stay.
    Quarantined,
    /// None: the replica has left.
    GivenUp,
}

/// What is kept in memory of rows that were switched to.
pub struct Loaded {
    keyspace: Keyspace,
    sessions: SessionTable,
    cross: CrossDriver,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loaded({:?})", self.keyspace)
    }
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Switch({} to {:?})", self.group, self.to)
    }
}

impl Switch {
    /// The rows of a group must not be used, not after a restart either.
    pub(crate) fn quarantine(group: GroupId, replica: ReplicaId, store: &Arc<Store>) -> Switch {
        Switch { group, replica, store: Arc::clone(store), to: Rows::Quarantined }
    }

    /// The rows of a replica that has left for good go.
    pub(crate) fn give_up(group: GroupId, replica: ReplicaId, store: &Arc<Store>) -> Switch {
        Switch { group, replica, store: Arc::clone(store), to: Rows::GivenUp }
    }

    /// True if the rows are given up.
    pub(crate) fn gives_up(&self) -> bool {
        self.to == Rows::GivenUp
    }

    /// Makes the installed rows those that count, and reads from them what is kept in memory; or remembers
    /// that there are none that do, and removes them if they are of no use any more.
    pub(crate) fn run(self) -> Result<Option<Loaded>, StoreError> {
        let Switch { group, store, to, .. } = self;
        let (slot, incarnation) = match to {
            Rows::Installed(slot, incarnation) => (slot, incarnation),
            Rows::Quarantined => {
                store.quarantine(group)?;
                return Ok(None);
            }
            Rows::GivenUp => {
                store.give_up(group)?;
                store.purge()?;
                return Ok(None);
            }
        };
        store.switch(group, slot, Base { incarnation })?;
        let keyspace = store.keyspace(group);
        let sessions = SessionTable::load(store.as_ref(), keyspace)?;
        let cross = CrossDriver::load(store.as_ref(), keyspace)?;
        Ok(Some(Loaded { keyspace, sessions, cross }))
    }

    /// The group.
    pub(crate) fn group(&self) -> GroupId {
        self.group
    }

    /// The replica that wants it.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.replica
    }
}

impl GroupDriver {
    /// How it is with rows from other nodes.
    pub(crate) fn refill_status(&self) -> RefillStatus {
        RefillStatus {
            is_missing: self.core.rows_missing(),
            is_under_way: !matches!(self.refill.phase, Phase::Idle),
            installed: self.refill.installed,
        }
    }

    /// The core wants rows: fetches them, unless that is under way or has just failed.
    pub(crate) fn want_rows(
        &mut self,
        now: BootTime,
        at_least: Slot,
        inputs: &mut VecDeque<Input>,
        fx: &mut Effects,
    ) {
        if !matches!(self.refill.phase, Phase::Idle) || now < self.refill.next_at {
            return;
        }
        info!(group = %self.group, %at_least, "fetches rows from another node");
        self.refill.phase = Phase::Fetching;
        let sources = self.refill.sources.clone();
        let (group, replica) = (self.group, self.options.paxos.replica);
        let rows = self.kind().keeps_rows();
        fx.refills.push(Wanted { group, replica, at_least, sources, rows });
        // The snapshot stands at this slot or later: the log above will do.
        inputs.push_back(Input::Refilling(Some(at_least)));
    }

    /// The fetch has ended.
    pub(crate) fn on_refilled(
        &mut self,
        now: BootTime,
        outcome: Result<Refilled, Error>,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        assert!(matches!(self.refill.phase, Phase::Fetching), "{}: nothing fetched", self.group);
        match outcome {
            Ok(_) if std::mem::take(&mut self.refill.is_distrusted) => {
                info!(group = %self.group, "rows that came are thrown away: their source may be wrong");
                self.give_up_refill(now, fx)
            }
            Ok(refilled) => {
                self.refill.phase = Phase::Fetched(now, Box::new(refilled));
                self.try_install(now, fx)
            }
            Err(error) => {
                warn!(group = %self.group, %error, "rows could not be fetched");
                self.give_up_refill(now, fx)
            }
        }
    }

    /// Hands a snapshot that is here to the core once that may take it.
    pub(crate) fn try_install(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let (since, refilled) = match std::mem::take(&mut self.refill.phase) {
            Phase::Fetched(since, refilled) => (since, refilled),
            other => {
                self.refill.phase = other;
                return Ok(());
            }
        };
        let Refilled { last, incarnation, membership, .. } = refilled.as_ref();
        if membership.membership.history() != self.core.history() {
            warn!(group = %self.group, "rows that came are thrown away: they are of another history");
            return self.give_up_refill(now, fx);
        }
        let is_old = last.last() <= self.core.slot_applied();
        if self.core.may_install(last.last_id()) {
            self.refill.phase = Phase::Logging(*incarnation);
            let Refilled { last, membership, .. } = *refilled;
            self.step(now, Input::Install { last, membership }, fx)
        } else if is_old || since + KEEP_MAX < now {
            self.give_up_refill(now, fx)
        } else {
            self.refill.phase = Phase::Fetched(since, refilled);
            Ok(())
        }
    }

    /// The core waits for the rows of the snapshot. A replica that keeps none has them at once.
    pub(crate) fn switch_rows(
        &mut self,
        slot: Slot,
        inputs: &mut VecDeque<Input>,
        fx: &mut Effects,
    ) {
        let Phase::Logging(incarnation) = std::mem::take(&mut self.refill.phase) else {
            panic!("{}: no snapshot to switch to", self.group);
        };
        if !self.kind().keeps_rows() {
            let installed = self.refill.installed + 1;
            self.refill = RefillDriver { installed, ..Default::default() };
            inputs.push_back(Input::Installed { is_done: true });
            return;
        }
        self.refill.phase = Phase::Switching;
        let (group, replica) = (self.group, self.options.paxos.replica);
        let (store, to) = (Arc::clone(&self.store), Rows::Installed(slot, incarnation));
        fx.switches.push(Switch { group, replica, store, to });
    }

    /// The rows here were found to be wrong: others are fetched from these nodes only, also if some are on
    /// their way already. False if others are about to take their place.
    pub(crate) fn distrust_rows(&mut self, sources: Vec<NodeId>) -> bool {
        if self.core.rows_missing()
            || matches!(self.refill.phase, Phase::Logging(_) | Phase::Switching)
        {
            return false;
        }
        if let Phase::Fetched(..) = self.refill.phase {
            self.refill.phase = Phase::Idle;
        }
        self.refill.is_distrusted = matches!(self.refill.phase, Phase::Fetching);
        self.refill.sources = sources;
        true
    }

    /// The rows of the snapshot count.
    pub(crate) fn switched(
        &mut self,
        now: BootTime,
        loaded: Loaded,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        let Loaded { keyspace, sessions, cross } = loaded;
        let upto = self.store.applied(self.group);
        let leader = self.core.known_leader(now);
        self.waiters.skip(upto, &Err(refuse::outcome_unknown(self.group, leader)));
        self.keyspace = keyspace;
        self.sessions = sessions;
        self.cross = cross;
        self.lose_open_views();
        // Nothing is known of deletes before.
        self.deletes = Deletes::after(upto);
        self.forget_check();
        self.refill = RefillDriver { installed: self.refill.installed + 1, ..Default::default() };
        self.step(now, Input::Installed { is_done: true }, fx)
    }

    fn give_up_refill(&mut self, now: BootTime, fx: &mut Effects) -> Result<(), Fatal> {
        let refill = &mut self.refill;
        refill.phase = Phase::Idle;
        refill.is_distrusted = false;
        refill.next_at = now + WAIT.saturating_mul(1 << refill.failures.min(6)).min(WAIT_MAX);
        refill.failures += 1;
        self.step(now, Input::Refilling(None), fx)
    }
}

/// Tells the shard of the end of a fetch, also if nobody ends it.
pub(crate) fn report(
    group: GroupId,
    replica: ReplicaId,
    events: mpsc::UnboundedSender<Event>,
) -> RefillDone {
    let mut report = Report { group, replica, events, is_told: false };
    Box::new(move |outcome| report.tell(outcome))
}

struct Report {
    group: GroupId,
    replica: ReplicaId,
    events: mpsc::UnboundedSender<Event>,
    is_told: bool,
}

impl Report {
    fn tell(&mut self, outcome: Result<Refilled, Error>) {
        self.is_told = true;
        // The shard is gone only when the node stops.
        let (group, replica) = (self.group, self.replica);
        let _stopped = self.events.send(Event::Refilled { group, replica, outcome }).is_err();
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_told {
            let broken = "the fetch of a snapshot was broken off";
            self.tell(Err(Error::new(Code::SnapshotUnavailable, broken)));
        }
    }
}
