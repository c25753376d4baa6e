//! Messages between groups about cross-unit transactions.
//!
//! Only the peer streams of the server call this. Rows travel with the number of their table, as
//! between client and server.

use bytes::Bytes;
use quorate_types::limits::TRANSFERS_MAX;
use quorate_types::{
    Age, Attempt, AttemptState, AttemptStatus, CrossBody, CrossMessage, CutId, GroupId, Part,
    PartReply, Refusal, SessionId, Slot, TransferBatch, Verdict, Vote, Watermark,
};

use super::ConvertError;
use super::error::{detail_from_error, error_from_detail};
use super::reply::{committed_from_wire, committed_to_wire};
use super::request::{part_from_wire, part_to_wire};
use super::words::{self, required};
use crate::v1;

/// The message for the wire.
#[must_use]
pub fn cross_to_wire(message: CrossMessage) -> v1::CrossMessage {
    use v1::cross_message::Body;
    let CrossMessage { from, to, cut, body } = message;
    let body = match body {
        CrossBody::Prepare { attempt, age, watermark, participants, part } => {
            Body::Prepare(v1::CrossPrepare {
                attempt: Some(attempt_to_wire(attempt)),
                age: Some(age_to_wire(age)),
                watermark: Some(attempt_to_wire(watermark)),
                participants: participants.into_iter().map(|group| group.0).collect(),
                credits: part.credits.bytes().clone(),
                part: Some(part_to_wire(part)),
            })
        }
        CrossBody::Ask { attempt } => Body::Ask(attempt_to_wire(attempt)),
        CrossBody::Voted { attempt, vote, cut } => {
            let (vote, verdicts) = vote_to_wire(vote);
            Body::Voted(v1::CrossVoted {
                attempt: Some(attempt_to_wire(attempt)),
                vote: Some(vote),
                verdicts,
                cut: cut.0,
            })
        }
        CrossBody::Decide { attempt, commit, cut } => {
            let attempt = Some(attempt_to_wire(attempt));
            Body::Decide(v1::CrossDecide { attempt, commit, cut: cut.0 })
        }
        CrossBody::Decided { attempt } => Body::Decided(attempt_to_wire(attempt)),
        CrossBody::Clear { watermark } => Body::Clear(v1::CrossClear {
            upto: Some(attempt_to_wire(watermark.upto)),
            except: watermark.except.into_iter().map(attempt_to_wire).collect(),
        }),
        CrossBody::AskCut => Body::AskCut(v1::CutQuestion {}),
        CrossBody::TellCut => Body::TellCut(v1::CutAnswer {}),
    };
    v1::CrossMessage { from_group: from.0, to_group: to.0, cut: cut.0, body: Some(body) }
}

/// The message from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn cross_from_wire(message: v1::CrossMessage) -> Result<CrossMessage, ConvertError> {
    use v1::cross_message::Body;
    let v1::CrossMessage { from_group, to_group, cut, body } = message;
    let from = group_from_wire(from_group, "from_group")?;
    let to = group_from_wire(to_group, "to_group")?;
    let body = match required(body, "body")? {
        Body::Prepare(prepare) => {
            prepare_from_wire(prepare).map_err(|error| error.inside("prepare"))?
        }
        Body::Ask(attempt) => CrossBody::Ask { attempt: attempt_from_wire(Some(attempt), "ask")? },
        Body::Voted(v1::CrossVoted { attempt, vote, verdicts, cut }) => CrossBody::Voted {
            attempt: attempt_from_wire(attempt, "voted.attempt")?,
            vote: vote_from_wire(required(vote, "voted.vote")?, &verdicts)?,
            cut: CutId(cut),
        },
        Body::Decide(v1::CrossDecide { attempt, commit, cut }) => {
            let attempt = attempt_from_wire(attempt, "decide.attempt")?;
            CrossBody::Decide { attempt, commit, cut: CutId(cut) }
        }
        Body::Decided(attempt) => {
            CrossBody::Decided { attempt: attempt_from_wire(Some(attempt), "decided")? }
        }
        Body::Clear(clear) => {
            let watermark = watermark_from_wire(clear).map_err(|error| error.inside("clear"))?;
            CrossBody::Clear { watermark }
        }
        Body::AskCut(v1::CutQuestion {}) => CrossBody::AskCut,
        Body::TellCut(v1::CutAnswer {}) => CrossBody::TellCut,
    };
    Ok(CrossMessage { from, to, cut: CutId(cut), body })
}

fn watermark_from_wire(clear: v1::CrossClear) -> Result<Watermark, ConvertError> {
    let upto = attempt_from_wire(clear.upto, "upto")?;
    let except =
        words::each(clear.except, "except", |attempt| attempt_from_wire(Some(attempt), "attempt"))?;
    let is_ours = |attempt: &Attempt| attempt.group == upto.group && *attempt < upto;
    let is_sound = except.len() <= Watermark::EXCEPT_MAX
        && except.is_sorted_by(|one, other| one < other)
        && except.iter().all(is_ours);
    if !is_sound {
        return Err(ConvertError::malformed("except", "too many, or not in order, or not below"));
    }
    Ok(Watermark { upto, except })
}

fn prepare_from_wire(prepare: v1::CrossPrepare) -> Result<CrossBody, ConvertError> {
    let v1::CrossPrepare { attempt, age, watermark, participants, part, credits } = prepare;
    let no_names = |_: &str| None; // Nodes name tables by number.
    Ok(CrossBody::Prepare {
        attempt: attempt_from_wire(attempt, "attempt")?,
        age: age_from_wire(required(age, "age")?).map_err(|error| error.inside("age"))?,
        watermark: attempt_from_wire(watermark, "watermark")?,
        participants: words::each(participants, "participants", |group| {
            group_from_wire(group, "group")
        })?,
        part: Part {
            credits: credits_from_wire(credits)?,
            ..match part {
                Some(part) => {
                    part_from_wire(part, &no_names).map_err(|error| error.inside("part"))?
                }
                None => Part::default(),
            }
        },
    })
}

/// What an operator is told of an attempt, for the wire.
#[must_use]
pub fn attempt_status_to_wire(status: AttemptStatus) -> v1::AttemptStatus {
    use v1::AttemptState as Wire;
    let state = match status.state {
        AttemptState::Waiting => Wire::Waiting,
        AttemptState::Voting => Wire::Voting,
        AttemptState::Prepared => Wire::Prepared,
        AttemptState::Refused => Wire::Refused,
        AttemptState::Committed => Wire::Committed,
        AttemptState::Aborted => Wire::Aborted,
    };
    let numbers = |groups: Vec<GroupId>| groups.into_iter().map(|group| group.0).collect();
    v1::AttemptStatus {
        group: status.group.0,
        attempt: Some(attempt_to_wire(status.attempt)),
        state: state.into(),
        age: status.age.map(age_to_wire),
        participants: numbers(status.participants),
        waits_for: numbers(status.waits_for),
        locked_rows: status.locked_rows,
        waiting: status.waiting,
    }
}

/// The same from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn attempt_status_from_wire(status: v1::AttemptStatus) -> Result<AttemptStatus, ConvertError> {
    use v1::AttemptState as Wire;
    let state = match status.state() {
        Wire::Unspecified => return Err(ConvertError::missing("state")),
        Wire::Waiting => AttemptState::Waiting,
        Wire::Voting => AttemptState::Voting,
        Wire::Prepared => AttemptState::Prepared,
        Wire::Refused => AttemptState::Refused,
        Wire::Committed => AttemptState::Committed,
        Wire::Aborted => AttemptState::Aborted,
    };
    let groups = |numbers: Vec<u32>, field: &str| {
        words::each(numbers, field, |number| group_from_wire(number, "group"))
    };
    Ok(AttemptStatus {
        group: group_from_wire(status.group, "group")?,
        attempt: attempt_from_wire(status.attempt, "attempt")?,
        state,
        age: status.age.map(age_from_wire).transpose().map_err(|error| error.inside("age"))?,
        participants: groups(status.participants, "participants")?,
        waits_for: groups(status.waits_for, "waits_for")?,
        locked_rows: status.locked_rows,
        waiting: status.waiting,
    })
}

fn credits_from_wire(credits: Bytes) -> Result<TransferBatch, ConvertError> {
    let batch = TransferBatch::from_bytes(credits)
        .map_err(|error| ConvertError::malformed("credits", error.to_string()))?;
    if TRANSFERS_MAX < batch.len() {
        return Err(ConvertError::malformed("credits", "there are too many"));
    }
    Ok(batch)
}

/// The vote, and the verdicts beside it.
fn vote_to_wire(vote: Vote) -> (v1::cross_voted::Vote, Bytes) {
    use v1::cross_voted::Vote as Wire;
    let numbers = |verdicts: &[Verdict]| verdicts.iter().map(|it| it.number()).collect();
    let verdicts = match &vote {
        Vote::Yes(reply) | Vote::Committed(reply) => numbers(&reply.verdicts),
        Vote::No(_) => Bytes::new(),
    };
    let vote = match vote {
        Vote::Yes(reply) => Wire::Yes(committed_to_wire(reply.reads, reply.sums)),
        Vote::Committed(reply) => Wire::Committed(committed_to_wire(reply.reads, reply.sums)),
        Vote::No(Refusal::Conflict) => Wire::No(v1::CrossNo { conflict: true, refused: None }),
        Vote::No(Refusal::Unknown) => Wire::No(v1::CrossNo { conflict: false, refused: None }),
        Vote::No(Refusal::Refused(error)) => {
            Wire::No(v1::CrossNo { conflict: false, refused: Some(detail_from_error(&error)) })
        }
    };
    (vote, verdicts)
}

fn vote_from_wire(vote: v1::cross_voted::Vote, verdicts: &[u8]) -> Result<Vote, ConvertError> {
    use v1::cross_voted::Vote as Wire;
    let verdict = |number: &u8| {
        let unknown = || ConvertError::malformed("voted.verdicts", "an unknown verdict");
        Verdict::from_number(*number).ok_or_else(unknown)
    };
    let verdicts: Vec<Verdict> = verdicts.iter().map(verdict).collect::<Result<_, _>>()?;
    let reply = |committed: v1::Committed, field: &str| {
        let read = committed_from_wire(committed).map_err(|error| error.inside(field));
        read.map(|(reads, sums)| PartReply { reads, sums, verdicts })
    };
    Ok(match vote {
        Wire::Yes(committed) => Vote::Yes(reply(committed, "voted.yes")?),
        Wire::Committed(committed) => Vote::Committed(reply(committed, "voted.committed")?),
        Wire::No(v1::CrossNo { conflict: true, .. }) => Vote::No(Refusal::Conflict),
        Wire::No(v1::CrossNo { refused: Some(detail), .. }) => {
            Vote::No(Refusal::Refused(Box::new(error_from_detail(detail))))
        }
        Wire::No(v1::CrossNo { refused: None, .. }) => Vote::No(Refusal::Unknown),
    })
}

/// An attempt for the wire.
#[must_use]
pub fn attempt_to_wire(attempt: Attempt) -> v1::Attempt {
    let Attempt { group, ballot, counter } = attempt;
    v1::Attempt { group: group.0, ballot: Some(words::ballot_to_wire(ballot)), counter }
}

/// An attempt from the wire; it must be present.
///
/// # Errors
/// Names the field that is wrong.
pub fn attempt_from_wire(
    attempt: Option<v1::Attempt>,
    field: &str,
) -> Result<Attempt, ConvertError> {
    let v1::Attempt { group, ballot, counter } = required(attempt, field)?;
    let inside = |error: ConvertError| error.inside(field);
    Ok(Attempt {
        group: group_from_wire(group, "group").map_err(inside)?,
        ballot: words::ballot_from_wire(required(ballot, "ballot").map_err(inside)?),
        counter,
    })
}

fn age_to_wire(age: Age) -> v1::Age {
    let session = Some(words::session_to_wire(age.session));
    v1::Age { first_ms: age.first_ms, session, sequence: age.sequence }
}

fn age_from_wire(age: v1::Age) -> Result<Age, ConvertError> {
    let v1::SessionId { group, slot } = required(age.session, "session")?;
    // Transfers have no session; in its place stands slot 0.
    let session = SessionId { group: group_from_wire(group, "session.group")?, slot: Slot(slot) };
    Ok(Age { first_ms: age.first_ms, session, sequence: age.sequence })
}

fn group_from_wire(group: u32, field: &str) -> Result<GroupId, ConvertError> {
    if group == 0 { Err(ConvertError::missing(field)) } else { Ok(GroupId(group)) }
}

#[cfg(test)]
#[path = "cross_tests.rs"]
mod tests;
