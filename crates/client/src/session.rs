//! Sessions: what makes a write take effect once however often it is sent.
//!
//! A client has one session with each group it writes to, opened at its first write. Every write
//! takes a number from it and holds it until its caller has an answer or has given up; `call` sends
//! every attempt under that number. The server keeps a result until the client says that everything
//! below a number is answered, so the numbers in use never spread over more than
//! `SESSION_IN_FLIGHT_MAX`: further writes wait here, first come first served.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_types::{GroupId, RequestId, SessionId, limits};
use tokio::sync::oneshot;

/// The numbers of a session: which are in use, which may be taken.
#[derive(Debug)]
struct Window {
    /// The number of the next request.
    next: u64,
    /// Everything below is answered.
    lowest_unanswered: u64,
    /// Answered numbers at or above `lowest_unanswered`.
    answered: BTreeSet<u64>,
    /// Most numbers between the lowest unanswered and the next.
    span_max: u64,
}

impl Window {
    fn new(span_max: u64) -> Window {
        Window { next: 1, lowest_unanswered: 1, answered: BTreeSet::new(), span_max }
    }

    /// A new number, unless too many are open.
    fn take(&mut self) -> Option<u64> {
        if self.span_max <= self.next - self.lowest_unanswered {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// The caller of this number has its answer, or wants none any more.
    fn answer(&mut self, sequence: u64) {
        self.answered.insert(sequence);
        while self.answered.remove(&self.lowest_unanswered) {
            self.lowest_unanswered += 1;
        }
    }
}

/// A session that is open.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    window: Window,
    /// Writes that wait for a number.
    waiting: VecDeque<oneshot::Sender<Ticket>>,
}

impl Session {
    pub(crate) fn new(id: SessionId) -> Arc<Session> {
        Session::with_span(id, limits::SESSION_IN_FLIGHT_MAX as u64)
    }

    fn with_span(id: SessionId, span_max: u64) -> Arc<Session> {
        let numbers = Numbers { window: Window::new(span_max), waiting: VecDeque::new() };
        Arc::new(Session { id, numbers: Mutex::new(numbers) })
    }

    /// Its id.
    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for one write; waits while too many are open.
    pub(crate) async fn begin(self: &Arc<Session>) -> Ticket {
        loop {
            let turn = {
                let mut numbers = self.lock();
                if let Some(sequence) = numbers.window.take() {
                    return Ticket { session: Arc::clone(self), sequence, is_held: true };
                }
                let (tell, turn) = oneshot::channel();
                numbers.waiting.push_back(tell);
                turn
            };
            if let Ok(ticket) = turn.await {
                return ticket;
            }
        }
    }

    /// Gives a number back and hands free ones to those who wait.
    fn answer(self: &Arc<Session>, sequence: u64) {
        let mut numbers = self.lock();
        numbers.window.answer(sequence);
        while let Some(tell) = numbers.waiting.pop_front() {
            if tell.is_closed() {
                continue; // Its caller has given up.
            }
            let Some(sequence) = numbers.window.take() else {
                numbers.waiting.push_front(tell);
                return;
            };
            let ticket = Ticket { session: Arc::clone(self), sequence, is_held: true };
            if let Err(mut ticket) = tell.send(ticket) {
                // Its caller gave up this moment. Dropping the ticket here would take the lock again.
                ticket.is_held = false;
                numbers.window.answer(ticket.sequence);
            }
        }
    }
}

/// A number held by one write. Dropping it tells the session that nobody waits for the answer any
/// more; the server then refuses attempts under it that are still on their way.
#[derive(Debug)]
pub(crate) struct Ticket {
    session: Arc<Session>,
    sequence: u64,
    is_held: bool,
}

impl Ticket {
    /// The session.
    pub(crate) fn session(&self) -> SessionId {
        self.session.id
    }

    /// The request id for an attempt made now.
    pub(crate) fn request_id(&self) -> RequestId {
        let lowest_unanswered = self.session.lock().window.lowest_unanswered;
        RequestId { session: self.session.id, sequence: self.sequence, lowest_unanswered }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_held {
            self.session.answer(self.sequence);
        }
    }
}

/// The sessions of a client.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    groups: Mutex<BTreeMap<GroupId, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    open: Option<Arc<Session>>,
    /// Held by the call that opens a session, so that the others wait for it.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Slot>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open session with a group.
    pub(crate) fn open_one(&self, group: GroupId) -> Option<Arc<Session>> {
        self.lock().get(&group)?.open.clone()
    }

    /// What must be held to open a session with a group.
    pub(crate) fn gate(&self, group: GroupId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.lock().entry(group).or_default().gate)
    }

    /// A session was opened.
    pub(crate) fn opened(&self, group: GroupId, session: SessionId) {
        self.lock().entry(group).or_default().open = Some(Session::new(session));
    }

    /// A session is not known any more. Does nothing if another one took its place.
    pub(crate) fn forget(&self, group: GroupId, session: SessionId) {
        if let Some(slot) = self.lock().get_mut(&group) {
            slot.open.take_if(|open| open.id == session);
        }
    }

    /// Takes all open sessions away, to close them.
    pub(crate) fn take_all(&self) -> Vec<(GroupId, Arc<Session>)> {
        let mut groups = self.lock();
        let taken = groups.iter_mut().filter_map(|(group, slot)| Some((*group, slot.open.take()?)));
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::Slot;

    use super::*;

    fn session(span_max: u64) -> Arc<Session> {
        Session::with_span(SessionId { group: GroupId(1), slot: Slot(9) }, span_max)
    }

    #[test]
    fn the_lowest_unanswered_number_rises_only_over_answered_ones() {
        // Goal: the server never drops a result that somebody may still ask for.
        let mut window = Window::new(4);
        let taken: Vec<Option<u64>> = (0..5).map(|_| window.take()).collect();
        assert_eq!(taken, [Some(1), Some(2), Some(3), Some(4), None]);
        for (answered, lowest) in [(2, 1), (4, 1), (1, 3), (3, 5)] {
            window.answer(answered);
            assert_eq!(window.lowest_unanswered, lowest, "after {answered}");
        }
        assert!(window.answered.is_empty());
        assert_eq!(window.take(), Some(5));
    }

    #[test]
    fn an_old_open_number_stops_the_window() {
        // Goal: results the server must keep are bounded by the span, not by the number in flight.
        let mut window = Window::new(3);
        assert_eq!(window.take(), Some(1));
        for sequence in [2, 3] {
            assert_eq!(window.take(), Some(sequence));
            window.answer(sequence);
        }
        assert_eq!(window.take(), None);
        window.answer(1);
        assert_eq!((window.lowest_unanswered, window.take()), (4, Some(4)));
    }

    #[tokio::test]
    async fn writes_beyond_the_span_wait_in_order() {
        // Goal: first come, first served; callers that gave up cost no number.
        let session = session(2);
        let (first, second) = (session.begin().await, session.begin().await);
        assert_eq!((first.sequence, second.sequence), (1, 2));
        let mut third = Box::pin(session.begin());
        let mut gave_up = Box::pin(session.begin());
        let mut fourth = Box::pin(session.begin());
        for waiting in [&mut third, &mut gave_up, &mut fourth] {
            assert!(futures::poll!(waiting.as_mut()).is_pending());
        }
        drop(gave_up);
        drop(second);
        assert!(futures::poll!(third.as_mut()).is_pending(), "number 1 is still open");
        drop(first);
        assert_eq!((third.await.sequence, fourth.await.sequence), (3, 4));
        assert_eq!(session.lock().window.lowest_unanswered, 5);
    }

    #[tokio::test]
    async fn every_attempt_carries_the_newest_acknowledgement() {
        // Goal: a retry does not ask the server to keep what is answered since.
        let session = session(10);
        let (first, second) = (session.begin().await, session.begin().await);
        assert_eq!(second.request_id().lowest_unanswered, 1);
        drop(first);
        let id = second.request_id();
        assert_eq!((id.sequence, id.lowest_unanswered, id.session), (2, 2, session.id()));
    }

    #[test]
    fn only_the_session_that_expired_is_forgotten() {
        // Goal: a late refusal does not throw away the session that was opened since.
        let sessions = Sessions::default();
        let (old, new) = (session(1).id(), SessionId { group: GroupId(1), slot: Slot(10) });
        sessions.opened(GroupId(1), new);
        sessions.forget(GroupId(1), old);
        assert_eq!(sessions.open_one(GroupId(1)).unwrap().id(), new);
        sessions.forget(GroupId(1), new);
        assert!(sessions.open_one(GroupId(1)).is_none());
    }
}
