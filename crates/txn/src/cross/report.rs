//! What an operator sees of attempts, and how he hurries them.

use quorate_types::{Attempt, AttemptState, AttemptStatus, BootTime, GroupId};

use super::core::{Cross, Out};
use super::record::{Record, State};

impl Cross {
    /// Every attempt that this leader knows of, in order; empty on a replica that does not lead.
    /// `parked` says how many requests wait for the locks of an attempt.
    #[must_use]
    pub fn report(&self, parked: &dyn Fn(Attempt) -> usize) -> Vec<AttemptStatus> {
        let Some(lead) = &self.lead else { return Vec::new() };
        let mut found: Vec<AttemptStatus> =
            self.table.records().map(|(attempt, record)| self.of_record(attempt, record)).collect();
        let unlogged = lead.voting.iter().map(|attempt| (*attempt, AttemptState::Voting));
        let waiting = lead.waiting.keys().map(|attempt| (*attempt, AttemptState::Waiting));
        for (attempt, state) in unlogged.chain(waiting) {
            if self.table.get(attempt).is_none() {
                found.push(self.status(attempt, state, Vec::new()));
            }
        }
        for status in &mut found {
            let parts = lead.waiting.values().filter(|(holder, _)| *holder == status.attempt);
            status.waiting = (parts.count() + parked(status.attempt)) as u64;
        }
        found.sort_by_key(|status| status.attempt);
        found
    }

    /// Asks at once about an attempt that is undecided here, as would happen by itself a little later.
    /// False if there is no such attempt. Whatever comes of it follows from the votes.
    pub fn ask_now(&mut self, now: BootTime, attempt: Attempt, out: &mut Out) -> bool {
        let is_undecided = self.table.prepared(attempt).is_some();
        if !is_undecided || self.lead.is_none() {
            return false;
        }
        if attempt.group == self.table.group() {
            self.say_again(now, attempt, out);
        } else {
            self.ask_all(now, attempt, out);
        }
        true
    }

    fn of_record(&self, attempt: Attempt, record: &Record) -> AttemptStatus {
        match &record.state {
            State::Prepared(prepare) => {
                self.status(attempt, AttemptState::Prepared, prepare.participants.clone())
            }
            State::Committed { participants, .. } => {
                self.status(attempt, AttemptState::Committed, participants.clone())
            }
            State::Refused => self.status(attempt, AttemptState::Refused, Vec::new()),
            State::Aborted => self.status(attempt, AttemptState::Aborted, Vec::new()),
        }
    }

    fn status(
        &self,
        attempt: Attempt,
        state: AttemptState,
        participants: Vec<GroupId>,
    ) -> AttemptStatus {
        AttemptStatus {
            group: self.table.group(),
            attempt,
            state,
            age: self.locks.age_of(attempt),
            waits_for: self.waits_for(attempt, &participants),
            participants,
            locked_rows: (self.locks.rows_of(attempt) + self.escrow.len_of(attempt)) as u64,
            waiting: 0,
        }
    }

    /// Other groups that have not said what this leader wants to know.
    fn waits_for(&self, attempt: Attempt, participants: &[GroupId]) -> Vec<GroupId> {
        let Some(lead) = &self.lead else { return Vec::new() };
        if let Some(running) = lead.running.get(&attempt) {
            return running.waits_for(self.table.group());
        }
        let Some(asking) = lead.asking.get(&attempt) else { return Vec::new() };
        let is_silent = |it: &GroupId| *it != self.table.group() && !asking.has_answered(*it);
        participants.iter().copied().filter(is_silent).collect()
    }
}
