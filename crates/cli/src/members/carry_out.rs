//! Carrying plans out: look, do the first step that is left, look again, until none is left.
//!
//! Every round plans anew from the members that the leader tells, so a leader that changes, a step that
//! somebody else did and an answer that was lost need no care of their own.

use std::time::Duration;

use quorate_client::{MemberReport, MemberRole, MemberSeat, Members, NodeId};
use quorate_topology::change::{Plan, Redundancy, Step, Wish, plan};
use quorate_topology::{Group, Topology};
use quorate_types::{Code, ReplicaKind};
use tokio::time::{Instant, sleep};

use super::look::{members_now, members_of};
use super::words::{fail, node_name, step_words};
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::output::{Output, thousands};

/// Between two looks at a group.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Between two lines about the same wait.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// What changes are carried out with.
#[derive(Debug)]
pub(crate) struct Hands<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// Where progress goes.
    pub(crate) out: &'a Output,
    /// When to give up.
    pub(crate) deadline: Instant,
    /// What the plans may cost.
    pub(crate) redundancy: Redundancy,
}

/// What a round came to.
enum Round {
    /// Something was done: look again.
    Done,
    /// There is nothing to do but to wait, for this; and what it is called if it takes too long.
    Waits(String, Failure),
}

/// Carries a wish out. Returns the members it ended with.
///
/// # Errors
/// A refusal, what the cluster says, or `MEMBER_NOT_READY` and `DEADLINE_EXCEEDED` if it takes too long.
pub(crate) async fn carry_out(hands: &Hands<'_>, made: &Plan) -> Result<Members, Failure> {
    let topology = hands.cluster.topology();
    let group = super::group_named(topology, made.group)?;
    let mut progress = Progress::new(hands.out, made.label.clone());
    loop {
        let round = match members_of(hands.cluster, group.id).await {
            Ok(members) if !members.chosen => waits_for_quorum(group),
            Ok(members) => match hands.next(group, made.wish, &members)? {
                None => return Ok(members),
                Some(step) => {
                    progress.step(&step_words(topology, &step));
                    hands.round(group, &members, &step).await?
                }
            },
            Err(failure) if failure.exit() == Exit::Unreachable => {
                Round::Waits("no leader answers".to_owned(), failure)
            }
            Err(failure) => return Err(failure),
        };
        let is_late = hands.deadline <= Instant::now();
        match round {
            Round::Waits(_, failure) if is_late => return Err(failure),
            Round::Waits(what, _) => progress.waits(&what),
            Round::Done if is_late => return Err(not_over(&made.label)),
            Round::Done => {}
        }
        sleep(LOOK_INTERVAL).await;
    }
}

impl Hands<'_> {
    fn topology(&self) -> &Topology {
        self.cluster.topology()
    }

    /// The first step that is left.
    fn next(&self, group: &Group, wish: Wish, members: &Members) -> Result<Option<Step>, Failure> {
        let now = members_now(members);
        let plan = plan(self.topology(), group.id, &now, wish, self.redundancy);
        let plan = plan.map_err(|refusal| fail(&refusal))?;
        Ok(plan.steps.into_iter().next().map(|planned| planned.step))
    }

    async fn round(&self, group: &Group, members: &Members, step: &Step) -> Result<Round, Failure> {
        match step {
            Step::AwaitEnd => Ok(waits_for_quorum(group)),
            Step::AwaitFit(node, _) => Ok(self.waits_for(group, members, *node)),
            Step::Create(node, kind) | Step::TakeIn(node, kind) => {
                self.take_in(group, members, (*node, *kind)).await
            }
            Step::Turn(..) | Step::ChangeVoters { .. } | Step::Drop(_) => {
                self.change(group, members, &seats_after(members, step)).await
            }
        }
    }

    /// Makes a replica and takes it in. Making it again names the same one, so both are one round.
    async fn take_in(
        &self,
        group: &Group,
        members: &Members,
        (node, kind): (NodeId, ReplicaKind),
    ) -> Result<Round, Failure> {
        let created = Box::pin(self.cluster.client().create_replica(node, group.id, kind)).await;
        let replica = match created {
            Ok(replica) => replica,
            // It left a moment ago and has not heard of it.
            Err(error) if error.code() == Code::MemberExists => {
                let name = node_name(self.topology(), node);
                let what = format!("{name} still has the replica that has left");
                return Ok(Round::Waits(what, cluster::failure(&error)));
            }
            Err(error) => return Err(cluster::failure(&error)),
        };
        let mut seats = seats_of(members);
        let zone = self.topology().node(node).map(|node| node.zone.as_str());
        let rank = zone.map_or(u32::MAX, |zone| group.leader_order.rank_of(zone));
        let rank = u16::try_from(rank).unwrap_or(u16::MAX);
        seats.push(MemberSeat { replica, node, rank, kind, votes: false });
        self.change(group, members, &seats).await
    }

    async fn change(
        &self,
        group: &Group,
        members: &Members,
        seats: &[MemberSeat],
    ) -> Result<Round, Failure> {
        let client = self.cluster.client();
        let asked = Box::pin(client.change_members(group.id, members.since, seats)).await;
        let Err(error) = asked else { return Ok(Round::Done) };
        let failure = cluster::failure(&error);
        match error.code() {
            // The next look shows what is.
            Code::MembersChanged => Ok(Round::Done),
            Code::MemberNotReady => Ok(Round::Waits(error.message().to_owned(), failure)),
            _ => match failure.exit() {
                Exit::OutcomeUnknown => Ok(Round::Done),
                Exit::Unreachable => Ok(Round::Waits(error.message().to_owned(), failure)),
                _ => Err(failure),
            },
        }
    }

    fn waits_for(&self, group: &Group, members: &Members, node: NodeId) -> Round {
        let (name, label) = (node_name(self.topology(), node), group.label());
        let lacks = members.on(node).map_or_else(|| "is no member".to_owned(), lacks);
        let message = format!("the replica of {label} on {name} is not ready: it {lacks}");
        let failure = Failure::new(Code::MemberNotReady, message)
            .with_fix("run the command again, with a longer --wait: it goes on where it stopped");
        Round::Waits(format!("{name} {lacks}"), failure)
    }
}

fn waits_for_quorum(group: &Group) -> Round {
    Round::Waits("a majority has to agree".to_owned(), not_over(&group.label()))
}

fn not_over(label: &str) -> Failure {
    let message = format!("a change of the members of {label} is not over yet");
    Failure::new(Code::DeadlineExceeded, message).with_fix(
        "a majority of the old and of the new voters is needed: `quorate group members` shows who is \
         missing. Run the command again: it goes on where it stopped",
    )
}

/// What a learner lacks before it could vote.
fn lacks(member: &MemberReport) -> String {
    let slot = thousands(member.slot_synced.0);
    match member.heard_ago {
        None => "was not heard by the leader yet".to_owned(),
        Some(_) if member.refilling => "fetches the rows of the group".to_owned(),
        Some(_) if !member.kind.keeps_log() => "does not answer its leader".to_owned(),
        Some(_) => {
            let kib = thousands(member.lag_bytes.div_ceil(1024));
            format!("has the log through slot {slot} and lacks {kib} KiB of it")
        }
    }
}

/// Everybody who is a member once the change under way is over.
fn seats_of(members: &Members) -> Vec<MemberSeat> {
    let seat = |member: &MemberReport| {
        let role = member.role.in_the_end()?;
        let MemberReport { replica, node, rank, kind, .. } = *member;
        let votes = role.wants_vote();
        Some(MemberSeat { replica, node, rank, kind, votes })
    };
    members.members.iter().filter_map(seat).collect()
}

/// Everybody who is to be a member after a step that takes nobody in.
fn seats_after(members: &Members, step: &Step) -> Vec<MemberSeat> {
    let mut seats = seats_of(members);
    match step {
        Step::ChangeVoters { joining, leaving, demoted } => {
            seats.retain(|seat| !seat.votes || !leaving.contains(&seat.node));
            for seat in &mut seats {
                let joins = !seat.votes && joining.contains(&seat.node);
                let stays = seat.votes && !demoted.contains(&seat.node);
                seat.votes = joins || stays;
            }
        }
        Step::Turn(node, kind) => {
            for seat in seats.iter_mut().filter(|seat| !seat.votes && seat.node == *node) {
                seat.kind = *kind;
            }
        }
        Step::Drop(node) => {
            // A voter that is set aside goes too: its place was given to somebody else.
            let is_suspended = |seat: &MemberSeat| {
                let mut all = members.members.iter();
                all.any(|it| it.replica == seat.replica && it.role == MemberRole::Suspended)
            };
            seats.retain(|seat| seat.node != *node || (seat.votes && !is_suspended(seat)));
        }
        Step::AwaitEnd | Step::Create(..) | Step::TakeIn(..) | Step::AwaitFit(..) => {}
    }
    seats
}

/// Lines on stderr: each step once, a wait again every few seconds with what is missing.
struct Progress<'o> {
    out: &'o Output,
    label: String,
    step: Option<String>,
    wait: Option<(String, Instant)>,
}

impl<'o> Progress<'o> {
    fn new(out: &'o Output, label: String) -> Progress<'o> {
        Progress { out, label, step: None, wait: None }
    }

    fn step(&mut self, words: &str) {
        if self.step.as_deref() != Some(words) {
            self.out.note(format_args!("{}: {words}", self.label));
            self.step = Some(words.to_owned());
            self.wait = Some((String::new(), Instant::now()));
        }
    }

    fn waits(&mut self, what: &str) {
        let is_due = |(told, at): &(String, Instant)| {
            LINE_INTERVAL <= at.elapsed() && (told != what || 5 * LINE_INTERVAL <= at.elapsed())
        };
        if self.wait.as_ref().is_none_or(is_due) {
            self.out.note(format_args!("{}: ... {what}", self.label));
            self.wait = Some((what.to_owned(), Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{Ballot, EntryId, ReplicaId, Slot};

    use super::*;

    fn members(roles: &[(u32, MemberRole)]) -> Members {
        let report = |(node, role): &(u32, MemberRole)| MemberReport {
            replica: ReplicaId(u64::from(*node)),
            node: NodeId(*node),
            rank: 0,
            role: *role,
            leads: false,
            slot_synced: Slot(1234),
            heard_ago: Some(Duration::ZERO),
            lag_bytes: 3000,
            refilling: false,
            fit: true,
            kind: ReplicaKind::Full,
        };
        Members {
            since: EntryId { ballot: Ballot::ZERO, slot: Slot(1) },
            chosen: true,
            changing: false,
            members: roles.iter().map(report).collect(),
            slot_last: Slot(1240),
        }
    }

    fn after(roles: &[(u32, MemberRole)], step: &Step) -> Vec<(u32, bool)> {
        let seats = seats_after(&members(roles), step);
        seats.iter().map(|seat| (seat.node.0, seat.votes)).collect()
    }

    #[test]
    fn a_step_asks_for_everybody_who_is_to_be_a_member() {
        // Goal: who is not named by a step stays what it is; a replica that is replaced by another one of
        // its own node is told from it.
        use MemberRole::{Learner, Voter};
        let step = Step::ChangeVoters {
            joining: vec![NodeId(4)],
            leaving: vec![NodeId(1)],
            demoted: vec![NodeId(2)],
        };
        let roles = [(1, Voter), (2, Voter), (3, Voter), (4, Learner), (5, Learner)];
        assert_eq!(after(&roles, &step), [(2, false), (3, true), (4, true), (5, false)]);
        assert_eq!(
            after(&[(1, Voter), (5, Learner), (2, Voter)], &Step::Drop(NodeId(5))),
            [(1, true), (2, true)]
        );
        let turned = seats_after(
            &members(&[(1, Voter), (5, Learner)]),
            &Step::Turn(NodeId(5), ReplicaKind::ReadOnly),
        );
        let kinds: Vec<ReplicaKind> = turned.iter().map(|seat| seat.kind).collect();
        assert_eq!(kinds, [ReplicaKind::Full, ReplicaKind::ReadOnly]);
        let suspended = [(1, MemberRole::Suspended), (2, Voter), (5, Voter)];
        let demoted = Step::ChangeVoters {
            joining: Vec::new(),
            leaving: Vec::new(),
            demoted: vec![NodeId(5)],
        };
        assert_eq!(after(&suspended, &demoted), [(1, true), (2, true), (5, false)]);
        assert_eq!(after(&suspended, &Step::Drop(NodeId(1))), [(2, true), (5, true)]);
        let both = after(&[(1, Voter), (1, Learner), (2, Voter)], &Step::Drop(NodeId(1)));
        assert_eq!(both, [(1, true), (2, true)]);
    }

    #[test]
    fn what_a_learner_lacks_is_said() {
        // Goal: who waits sees whether it moves.
        let mut learner = members(&[(4, MemberRole::Learner)]).members.remove(0);
        assert_eq!(lacks(&learner), "has the log through slot 1,234 and lacks 3 KiB of it");
        learner.refilling = true;
        assert_eq!(lacks(&learner), "fetches the rows of the group");
        learner.heard_ago = None;
        assert_eq!(lacks(&learner), "was not heard by the leader yet");
    }
}
