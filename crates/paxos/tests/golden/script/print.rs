//! One readable line for each thing that happens.

use quorate_paxos::{
    Batch, BatchKind, MembershipAt, Message, NotChanged, NotForced, NotServing, ReadPurpose,
    ReadVerdict, RoleChange, Status,
};
use quorate_types::{ReplicaId, Slot};

use crate::common::members;

/// `StartWork [1]@1.1`, or `[2..3]@1.1 a b`.
pub fn batch(batch: &Batch) -> String {
    let slots = if batch.first() == batch.last() {
        format!("[{}]@{}", batch.first(), batch.ballot())
    } else {
        format!("[{}..{}]@{}", batch.first(), batch.last(), batch.ballot())
    };
    match batch.kind() {
        BatchKind::StartWork => format!("StartWork {slots}"),
        BatchKind::Membership => format!("members {slots} {}", membership(batch)),
        BatchKind::Entries => {
            let words: Vec<String> = batch
                .entries()
                .map(|(_, payload)| String::from_utf8_lossy(&payload).into_owned())
                .collect();
            format!("{slots} {}", words.join(" "))
        }
    }
}

/// The members that begin with a batch.
pub fn membership(batch: &Batch) -> String {
    batch.membership().map_or_else(String::new, |at| members::show(&at.membership))
}

pub fn not_changed(why: NotChanged) -> String {
    match why {
        NotChanged::NotServing(why) => not_serving(why),
        NotChanged::Stale(since) => format!("they are others since {since}"),
        NotChanged::InProgress => "a change is under way".to_owned(),
        NotChanged::NoChange => "these are the members".to_owned(),
        NotChanged::Impossible => "that is no group".to_owned(),
        NotChanged::NotReady(id) => format!("{id} cannot vote yet"),
        NotChanged::NoQuorum => "too few voters live".to_owned(),
    }
}

pub fn not_forced(why: NotForced) -> String {
    match why {
        NotForced::Outlived => "it is outlived".to_owned(),
        NotForced::OtherHistory(history) => format!("it is in history {}", history.number),
        NotForced::Led(Some(leader)) => format!("{leader} leads"),
        NotForced::Led(None) => "somebody leads".to_owned(),
        NotForced::QuorumAnswers => "a quorum was heard".to_owned(),
        NotForced::TooEarly => "too early".to_owned(),
        NotForced::Impossible => "that is no group".to_owned(),
        NotForced::LacksProven(id) => format!("it lacks {id}, which is chosen"),
        NotForced::LacksRows => "it has no rows".to_owned(),
    }
}

pub fn seats(at: &MembershipAt) -> String {
    format!("[{}] of {}", members::show(&at.membership), at.id)
}

pub fn message(message: &Message) -> String {
    match message {
        Message::PreVote(m) => format!("would you promise {}?", m.ballot),
        Message::PreVoteAck(m) if m.granted => format!("would promise {}", m.ballot),
        Message::PreVoteAck(m) => {
            format!("would not promise {}, promised {}", m.ballot, m.promised)
        }
        Message::Prepare(m) => match m.handover_from {
            Some(old) => format!("prepare {} with the token of {old}", m.ballot),
            None => format!("prepare {}", m.ballot),
        },
        Message::Promise(m) => {
            let kept =
                m.seats.as_ref().map_or_else(String::new, |at| format!(", keeps {}", seats(at)));
            format!("promise {}: last {}, committed {}{kept}", m.ballot, m.last, m.slot_committed)
        }
        Message::Seats(m) => format!("under {} keep {}", m.ballot, seats(&m.at)),
        Message::SeatsKept(m) => format!("keeps the members of {} under {}", m.id, m.ballot),
        Message::Reject(m) => format!("reject {}: promised {}", m.ballot, m.promised),
        Message::Fetch(m) => format!("fetch for {} what follows {}", m.ballot, m.prev),
        Message::FetchReply(m) => match &m.batches {
            None => format!("fetched for {}: has another entry than {}", m.ballot, m.prev),
            Some(batches) => {
                let batches: Vec<String> = batches.iter().map(batch).collect();
                format!("fetched for {} after {}: {}", m.ballot, m.prev, batches.join(", "))
            }
        },
        Message::Accept(m) => format!(
            "accept {} after {}, under {}, committed {}",
            batch(&m.batch),
            m.batch.prev(),
            m.ballot,
            m.slot_committed
        ),
        Message::Accepted(m) => format!("accepted through {} under {}", m.slot_synced, m.ballot),
        Message::Mismatch(m) => format!(
            "mismatch under {}: may share {}, committed {}",
            m.ballot, m.last, m.slot_committed
        ),
        Message::Heartbeat(m) => format!(
            "heartbeat {} sent {}, committed {}, releasable {}{}",
            m.ballot,
            m.sent_at,
            m.slot_committed,
            m.slot_releasable,
            if m.slot_secured == Slot::ZERO {
                String::new()
            } else {
                format!(", secured {}", m.slot_secured)
            }
        ),
        Message::HeartbeatAck(m) => format!(
            "heartbeat {} sent {} acked, verified {}, synced {}",
            m.ballot, m.sent_at, m.slot_verified, m.slot_synced
        ),
        Message::Commit(m) => format!("committed {} under {}", m.slot_committed, m.ballot),
        Message::TakeOver(m) => format!("take over from {}", m.ballot),
        Message::Ask(m) => format!("asked {}: where does {} stand?", m.asked_at, m.ballot),
        Message::Behind(m) => format!("behind: {} keeps what follows {}", m.ballot, m.trimmed),
        Message::Told(m) => {
            format!(
                "to what was asked {}: applied {} under {}",
                m.asked_at, m.slot_applied, m.ballot
            )
        }
    }
}

/// Where a replica stands; `None` if it is down.
pub fn stand(id: ReplicaId, status: Option<&Status>) -> String {
    let Some(status) = status else {
        return format!("{id} is down");
    };
    let duty = if status.serving { "serving leader" } else { status.role };
    format!(
        "{id} is {duty}, promised {}, last {}, synced {}, committed {}, applied {}",
        status.promised,
        status.last,
        status.slot_synced,
        status.slot_committed,
        status.slot_applied
    )
}

pub fn not_serving(why: NotServing) -> String {
    match why {
        NotServing::NotLeader(Some(leader)) => format!("{leader} leads"),
        NotServing::NotLeader(None) => "no leader known".to_owned(),
        NotServing::NotReady => "not ready".to_owned(),
        NotServing::HandingOver(target) => format!("handing over to {target}"),
    }
}

pub fn verdict(verdict: ReadVerdict) -> String {
    match verdict {
        ReadVerdict::Confirmed => "confirmed".to_owned(),
        ReadVerdict::Refused(why) => format!("refused, {}", not_serving(why)),
    }
}

pub fn role(role: RoleChange) -> String {
    match role {
        RoleChange::Follower { ballot, leader: Some(leader) } => {
            format!("follows {leader} under {ballot}")
        }
        RoleChange::Follower { ballot, leader: None } => {
            format!("follows nobody, promised {ballot}")
        }
        RoleChange::Candidate { ballot } => format!("is candidate with {ballot}"),
        RoleChange::Elected { ballot } => format!("is elected with {ballot}"),
        RoleChange::Serving { ballot } => format!("serves under {ballot}"),
    }
}

pub fn purpose(purpose: ReadPurpose) -> String {
    match purpose {
        ReadPurpose::Apply => "to apply".to_owned(),
        ReadPurpose::CatchUp(peer) => format!("for {peer}"),
        ReadPurpose::Fetch { to, ballot, .. } => format!("for {to}, which won {ballot}"),
    }
}
