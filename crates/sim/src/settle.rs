//! After the faults: do the members of every group settle, and hold the same?
//!
//! A change that is under way must end by itself, and whoever lost its disk must be a member again. Where
//! operators changed members meanwhile, they also clean up after themselves: a replica whose disk is gone
//! and that they had added by hand is replaced by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_client::{Client, MemberReport, Members};
use quorate_types::{CheckState, GroupId, MemberRole, MemberSeat, NodeId};
use tokio::time::Instant;

use crate::churn::{rank_of, seats_of};
use crate::options::Options;
use crate::trace::Trace;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long members may take. A node asks again after up to 30 s to be taken in where nobody wanted it.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// When operators clean up.
const HELP_AFTER: Duration = Duration::from_secs(15);
/// How long a check of rows may take.
const CHECK_MAX: Duration = Duration::from_secs(1);
/// How long rows are compared anew until every voter took part. A node that keeps as many views as it may has room for
/// others with its next checkpoint, which may be 5 s away.
const COMPARING_MAX: Duration = Duration::from_secs(8);
/// How long, where a comparison may find rows damaged: their node begins anew without any, and fetches others.
const REPAIRING_MAX: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The members of every group.
    pub members: BTreeMap<GroupId, Members>,
    /// How long it took.
    pub took: Duration,
    /// How often an operator had to help.
    pub helped: u64,
    /// What is wrong.
    pub wrong: Vec<String>,
}

impl Settled {
    /// True if a node may lead a group.
    #[must_use]
    pub fn may_lead(&self, group: GroupId, node: NodeId) -> bool {
        let may_lead = |member: &MemberReport| member.role.votes() && member.kind.may_lead();
        self.on(group, node).is_some_and(may_lead)
    }

    /// True if a node has a member of a group that keeps its log.
    #[must_use]
    pub fn keeps_log(&self, group: GroupId, node: NodeId) -> bool {
        self.on(group, node).is_some_and(|member| member.kind.keeps_log())
    }

    fn on(&self, group: GroupId, node: NodeId) -> Option<&MemberReport> {
        self.members.get(&group)?.on(node)
    }
}

/// Waits until the members of all groups are settled: no change is under way, and everybody could vote.
pub async fn settle(client: &Client, options: &Options, trace: &Trace) -> Settled {
    let started = Instant::now();
    let mut settled = Settled::default();
    let groups: Vec<GroupId> = client.topology().groups().map(|group| group.id).collect();
    for group in groups {
        loop {
            let answer = client.members(group).await;
            if let Ok(members) = &answer
                && is_settled(members)
            {
                settled.members.insert(group, members.clone());
                break;
            }
            if SETTLING_MAX < started.elapsed() {
                let what = format!("the members of {group} do not settle: {answer:?}");
                settled.wrong.push(what);
                break;
            }
            if let Ok(members) = &answer
                && options.has_churn
                && HELP_AFTER < started.elapsed()
                && help(client, group, members).await
            {
                trace.event(&format!("an operator helped {group}"));
                settled.helped += 1;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    settled.took = started.elapsed();
    trace.event("members settled");
    settled
}

/// No change is under way, everybody could vote, and nobody is still set aside.
#[must_use]
pub fn is_settled(members: &Members) -> bool {
    let is_back = |member: &MemberReport| member.fit && member.role != MemberRole::Suspended;
    members.chosen && !members.changing && members.members.iter().all(is_back)
}

/// Replaces a member that does not come back by itself. False if nothing was done.
async fn help(client: &Client, group: GroupId, members: &Members) -> bool {
    let Some(lost) = members.members.iter().find(|member| !member.fit) else { return false };
    let mut seats = seats_of(members);
    let is_other = |seat: &MemberSeat| seat.node == lost.node && seat.replica != lost.replica;
    if seats.iter().any(is_other) {
        // What comes in the place of a voter does so by itself.
        seats.retain(|seat| seat.votes || seat.replica != lost.replica);
    } else if let Ok(replica) = client.create_replica(lost.node, group, lost.kind).await {
        let rank = rank_of(&client.topology(), group, lost.node);
        let MemberReport { node, kind, .. } = *lost;
        seats.push(MemberSeat { replica, node, rank, kind, votes: false });
    }
    seats != seats_of(members) && client.change_members(group, members.since, &seats).await.is_ok()
}

/// Compares the rows of all voters of every group. Says what differs.
pub async fn compare(client: &Client, options: &Options, settled: &Settled) -> Vec<String> {
    let patience = if options.damages { REPAIRING_MAX } else { COMPARING_MAX };
    let mut wrong = Vec::new();
    for group in settled.members.keys() {
        let started = Instant::now();
        let last = loop {
            let report = client.check_group(*group, CHECK_MAX).await;
            let is_equal = report.as_ref().is_ok_and(|report| {
                report.has_majority
                    && report.replicas.iter().all(|(_, state)| *state == CheckState::Agrees)
            });
            if is_equal {
                break None;
            }
            if patience < started.elapsed() {
                break Some(report);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        if let Some(report) = last {
            wrong.push(format!("the replicas of {group} do not hold the same: {report:?}"));
        }
    }
    wrong
}
