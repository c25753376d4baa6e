//! Requests that come while the leadership is about to be here: at a leader that hands over and may yet go
//! on, at the replica that it hands over to, and at one that is elected and does not serve yet. Refused,
//! they would be back in a moment, or after a pause that is longer than the wait.
//!
//! Bounded by the byte budget that every request holds a part of, and by time.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_paxos::NotServing;
use quorate_types::BootTime;

use crate::clock::Clock;
use crate::cross::Asked;
use crate::event::Answer;
use crate::group::{Effects, Fatal, GroupDriver};
use crate::refuse;

/// Nobody waits longer: what takes so long may never come, and clients know other nodes.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// So many are let in at once. What is left comes after the requests of other groups.
const LET_IN_EACH: usize = 512;

/// Requests that wait, in the order they came, and until when each does.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waiting: VecDeque<(BootTime, Asked)>,
    has_more: bool,
}

impl Arrivals {
    /// When to look again, at the latest.
    pub(crate) fn next_deadline(&self) -> Option<BootTime> {
        let (until, _) = self.waiting.front()?;
        Some(if self.has_more { BootTime::ZERO } else { *until })
    }
}

impl GroupDriver {
    /// This replica does not serve: the request waits if that is about to change, else it is refused.
    pub(crate) fn wait_or_refuse(&mut self, now: BootTime, asked: Asked, reason: NotServing) {
        if self.core.is_about_to_serve() {
            self.arrivals.waiting.push_back((now + WAIT_MAX, asked));
        } else {
            asked.reply.answer(Err(refuse::not_serving(self.group, reason)));
        }
    }

    /// This replica ends.
    pub(crate) fn refuse_arrivals(&mut self, refused: &Answer) {
        for (_, asked) in std::mem::take(&mut self.arrivals.waiting) {
            asked.reply.answer(refused.clone());
        }
    }

    /// Lets those in that wait, or refuses them, once it is known which.
    pub(crate) fn tick_arrivals(
        &mut self,
        clock: &dyn Clock,
        has_room: bool,
        fx: &mut Effects,
    ) -> Result<(), Fatal> {
        if self.arrivals.waiting.is_empty() {
            return Ok(());
        }
        let now = clock.now();
        self.arrivals.has_more = false;
        if let Err(reason) = self.core.serving(now)
            && self.core.is_about_to_serve()
        {
            while let Some((_, asked)) = self.arrivals.waiting.pop_front_if(|(at, _)| *at <= now) {
                asked.reply.answer(Err(refuse::not_serving(self.group, reason)));
            }
            return Ok(());
        }
        let count = self.arrivals.waiting.len().min(LET_IN_EACH);
        let let_in: Vec<(BootTime, Asked)> = self.arrivals.waiting.drain(..count).collect();
        for (_, asked) in let_in {
            self.request(clock, asked, has_room, fx)?;
        }
        self.arrivals.has_more = !self.arrivals.waiting.is_empty();
        Ok(())
    }
}
