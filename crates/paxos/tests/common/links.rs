//! Messages on their way: a queue per link, in the order in which they were sent.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use quorate_paxos::{History, Message};
use quorate_types::ReplicaId;

/// From whom, to whom.
pub type Link = (ReplicaId, ReplicaId);

macro_rules! kinds {
    ($($kind:ident $name:literal)*) => {
        /// What kind of message; schedules name messages by it, so that leaving out one event does not
        /// change what the others mean.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            pub fn of(message: &Message) -> Kind {
                match message { $(Message::$kind(_) => Kind::$kind),* }
            }

            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }
        }
    };
}

kinds! {
    PreVote "pre-vote"
    PreVoteAck "pre-vote-ack"
    Prepare "prepare"
    Promise "promise"
    Reject "reject"
    Fetch "fetch"
    FetchReply "fetch-reply"
    Accept "accept"
    Accepted "accepted"
    Mismatch "mismatch"
    Heartbeat "heartbeat"
    HeartbeatAck "heartbeat-ack"
    Commit "commit"
    TakeOver "take-over"
    Ask "ask"
    Told "told"
    Behind "behind"
    Seats "seats"
    SeatsKept "seats-kept"
}

/// A message on its way: the nth of its kind on its link, 0 the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    pub from: ReplicaId,
    pub to: ReplicaId,
    pub kind: Kind,
    pub nth: usize,
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{} {}", self.from, self.to, self.kind.name())?;
        if self.nth == 0 { Ok(()) } else { write!(f, "#{}", self.nth + 1) }
    }
}

/// A message with its place in the order of sending.
pub struct Sent {
    pub number: u64,
    /// The history of whoever sent it.
    pub history: History,
    pub message: Message,
}

#[derive(Default)]
pub struct Links {
    queues: BTreeMap<Link, VecDeque<Sent>>,
    sent: u64,
}

impl Links {
    pub fn send(&mut self, link: Link, history: History, message: Message) {
        self.sent += 1;
        let sent = Sent { number: self.sent, history, message };
        self.queues.entry(link).or_default().push_back(sent);
    }

    /// Every link that was ever used, with what is on it.
    pub fn queues(&self) -> impl Iterator<Item = (Link, &VecDeque<Sent>)> {
        self.queues.iter().map(|(link, queue)| (*link, queue))
    }

    pub fn is_empty(&self) -> bool {
        self.queues.values().all(VecDeque::is_empty)
    }

    /// How many messages are on a link.
    pub fn len(&self, link: Link) -> usize {
        self.queues.get(&link).map_or(0, VecDeque::len)
    }

    /// Names the message at `index` of a link.
    pub fn pick(&self, (from, to): Link, index: usize) -> Option<Pick> {
        let queue = self.queues.get(&(from, to))?;
        let kind = Kind::of(&queue.get(index)?.message);
        let nth = queue.iter().take(index).filter(|sent| Kind::of(&sent.message) == kind).count();
        Some(Pick { from, to, kind, nth })
    }

    fn find(&self, pick: &Pick) -> Option<usize> {
        let queue = self.queues.get(&(pick.from, pick.to))?;
        let of_kind =
            queue.iter().enumerate().filter(|(_, sent)| Kind::of(&sent.message) == pick.kind);
        of_kind.map(|(index, _)| index).nth(pick.nth)
    }

    pub fn take(&mut self, pick: &Pick) -> Option<Sent> {
        let index = self.find(pick)?;
        self.queues.get_mut(&(pick.from, pick.to))?.remove(index)
    }

    /// Everything on a link is taken off it.
    pub fn clear(&mut self, link: Link) -> impl Iterator<Item = Message> {
        self.queues.remove(&link).into_iter().flatten().map(|sent| sent.message)
    }

    /// The network sends a message once more, after all others.
    pub fn duplicate(&mut self, pick: &Pick) {
        if let Some(index) = self.find(pick) {
            let link = (pick.from, pick.to);
            let Sent { history, message, .. } = &self.queues[&link][index];
            let (history, message) = (*history, message.clone());
            self.send(link, history, message);
        }
    }

    /// The last message of a link overtakes all others on it.
    pub fn swap(&mut self, link: Link) {
        if let Some(queue) = self.queues.get_mut(&link).filter(|queue| !queue.is_empty()) {
            queue.rotate_right(1);
        }
    }
}
