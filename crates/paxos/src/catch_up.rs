//! Sends followers what they lack: from the cache, or read back from the log; up to 16 MiB in flight
//! to each. Also answers the winner of an election that fetches the best log. Called by `leader.rs`.

use quorate_types::{Ballot, EntryId, ReplicaId, Slot, limits};

use crate::batch::Batch;
use crate::message::{Accept, Behind, Fetch, FetchReply, Message, Mismatch};
use crate::output::{LogRead, Output, ReadPurpose};
use crate::replica::{Duty, Replica};

/// Bytes read back from the log, or sent in one fetch reply, at a time. One wire frame.
const CHUNK_BYTES: usize = limits::BATCH_BYTES_MAX;

impl Replica {
    /// Sends every follower what it lacks.
    pub(crate) fn pump_all(&mut self, out: &mut Output) {
        let Duty::Leader(leader) = &self.duty else {
            return;
        };
        for peer in leader.peers.keys().copied().collect::<Vec<_>>() {
            self.pump(peer, out);
        }
    }

    /// Sends `peer` what it lacks, as far as the window allows.
    pub(crate) fn pump(&mut self, peer: ReplicaId, out: &mut Output) {
        let slot_committed = self.slot_told();
        let ballot = self.promised;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(progress) = leader.peers.get_mut(&peer).filter(|peer| !peer.is_arbiter) else {
            return;
        };
        if progress.behind {
            if progress.slot_synced < self.log.trimmed() {
                return;
            }
            progress.behind = false;
            progress.rewind(progress.slot_synced.next());
        }
        // What is trimmed cannot be read back; most have it, and who has not says so.
        progress.next = progress.next.max(self.log.trimmed().next());
        while progress.next <= self.log.last().slot && progress.has_room() {
            let Some(batch) = self.log.cached(progress.next) else {
                if !progress.reading {
                    progress.reading = true;
                    out.log_reads.push(LogRead {
                        purpose: ReadPurpose::CatchUp(peer),
                        from: progress.next,
                        upto: self.log.cached_from().prev(),
                        bytes_max: CHUNK_BYTES,
                    });
                }
                return;
            };
            let batch = batch.clone();
            progress.sent(&batch);
            progress.commit_told = slot_committed.min(batch.last());
            out.messages.push((peer, Message::Accept(Accept { ballot, batch, slot_committed })));
        }
    }

    /// Batches read back for a follower.
    pub(crate) fn on_catch_up_read(
        &mut self,
        peer: ReplicaId,
        batches: Vec<Batch>,
        out: &mut Output,
    ) {
        let slot_committed = self.slot_told();
        let ballot = self.promised;
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(progress) = leader.peers.get_mut(&peer) else {
            return;
        };
        progress.reading = false;
        let asked = progress.next;
        for batch in batches {
            // The follower may have answered meanwhile, and the log may have been read long ago.
            let wanted = batch.first() <= progress.next && progress.next <= batch.last();
            if !wanted || !progress.has_room() || !self.log.holds(batch.last_id()) {
                continue;
            }
            progress.sent(&batch);
            progress.commit_told = slot_committed.min(batch.last());
            out.messages.push((peer, Message::Accept(Accept { ballot, batch, slot_committed })));
        }
        if asked < progress.next {
            self.pump(peer, out);
        } // Else the log was trimmed or replaced under the read: the next heartbeat asks again.
    }

    /// The follower's log differs before what was sent: goes back to where they agree.
    pub(crate) fn on_mismatch(&mut self, from: ReplicaId, msg: &Mismatch, out: &mut Output) {
        let Duty::Leader(leader) = &mut self.duty else {
            return;
        };
        let Some(progress) = leader.peers.get_mut(&from).filter(|_| msg.ballot == self.promised)
        else {
            return; // An answer to an older leadership.
        };
        let trimmed = self.log.trimmed();
        // Both steps back end at batch ends, and both sides step back by a whole ballot at least.
        let guess = if self.log.holds_exactly(msg.last) || msg.last.slot < trimmed {
            msg.last.slot
        } else {
            self.log.before_run_of(msg.last.slot)
        };
        let agreed = guess.max(msg.slot_committed);
        progress.rewind(agreed.max(trimmed).next());
        progress.behind = agreed < trimmed;
        if progress.behind && progress.is_leaving {
            leader.peers.remove(&from); // Nobody sends rows to who has left.
            return;
        }
        if progress.behind {
            self.send_behind(from, out);
        }
        self.pump(from, out);
    }

    /// Tells a follower that the log it needs is gone.
    pub(crate) fn send_behind(&self, to: ReplicaId, out: &mut Output) {
        let trimmed = self.log.trimmed_id();
        self.send(to, Message::Behind(Behind { ballot: self.promised, trimmed }), out);
    }

    /// The winner of an election wants what follows `prev` in our log.
    pub(crate) fn on_fetch(&mut self, from: ReplicaId, msg: &Fetch, out: &mut Output) {
        if msg.ballot < self.promised {
            self.send_reject(from, msg.ballot, out);
            return;
        }
        if msg.ballot != self.promised
            || self.promised_synced != self.promised
            || msg.ballot.replica != from
            || self.is_log_suspect()
        // It may have lost what it promised with.
        {
            return;
        }
        // Below what is trimmed nothing tells whether the logs agree: the winner may lag behind that, and
        // differ.
        if !self.log.holds_exactly(msg.prev) {
            self.send_fetched(from, msg.ballot, msg.prev, None, out);
            return;
        }
        let first = msg.prev.slot.next();
        if self.log.cached_from() <= first {
            let batches = self.cached_chunk(first);
            self.send_fetched(from, msg.ballot, msg.prev, Some(batches), out);
        } else {
            out.log_reads.push(LogRead {
                purpose: ReadPurpose::Fetch { to: from, ballot: msg.ballot, prev: msg.prev },
                from: first,
                upto: self.log.cached_from().prev(),
                bytes_max: CHUNK_BYTES,
            });
        }
    }

    /// Batches read back for the winner of an election.
    pub(crate) fn on_fetch_read(
        &mut self,
        to: ReplicaId,
        ballot: Ballot,
        prev: EntryId,
        batches: Vec<Batch>,
        out: &mut Output,
    ) {
        if ballot != self.promised {
            return; // Overtaken by a higher ballot.
        }
        let ours: Vec<Batch> =
            batches.into_iter().filter(|batch| self.log.holds(batch.last_id())).collect();
        self.send_fetched(to, ballot, prev, Some(ours), out);
    }

    fn cached_chunk(&self, first: Slot) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        let mut next = first;
        while let Some(batch) = self.log.cached(next) {
            if bytes > 0 && CHUNK_BYTES < bytes + batch.encoded().len() {
                break;
            }
            bytes += batch.encoded().len();
            next = batch.last().next();
            batches.push(batch.clone());
        }
        batches
    }

    fn send_fetched(
        &self,
        to: ReplicaId,
        ballot: Ballot,
        prev: EntryId,
        batches: Option<Vec<Batch>>,
        out: &mut Output,
    ) {
        let trimmed = self.log.trimmed_id();
        self.send(to, Message::FetchReply(FetchReply { ballot, prev, batches, trimmed }), out);
    }
}
