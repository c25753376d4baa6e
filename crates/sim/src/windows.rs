//! Windows with a single copy, as an operator sees them: whenever a leader says that all that count but one are
//! set aside, the loss ledger must say so too, at the end and for good.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_client::{Client, MemberReport, Members};
use quorate_types::{EntryId, GroupId, LossEntry, LossKind, MemberRole, ReplicaId};
use tokio::time::Instant;

use crate::trace::Trace;
use crate::workload::Ending;

/// Between two looks at all groups.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Between two calls for a ledger that nobody answered.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// A chosen membership of a group with one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    group: GroupId,
    since: EntryId,
    copy: ReplicaId,
}

/// Looks until it is time to end. Says what it saw.
pub async fn watch(client: Client, trace: Trace, ending: Ending) -> BTreeSet<Window> {
    let groups: Vec<GroupId> = client.topology().groups().map(|group| group.id).collect();
    let mut seen = BTreeSet::new();
    while !ending.is_set() {
        for group in &groups {
            let Ok(members) = client.members(*group).await else { continue };
            let Some(copy) = single_copy(&members) else { continue };
            let window = Window { group: *group, since: members.since, copy };
            if seen.insert(window) {
                trace.event(&format!("{copy} of {group} is the only copy since {}", members.since));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    seen
}

/// The only member that counts and keeps the log, while others are set aside and that is chosen.
fn single_copy(members: &Members) -> Option<ReplicaId> {
    let logs = || members.members.iter().filter(|member| member.kind.keeps_log());
    let is_away = |member: &MemberReport| member.role == MemberRole::Suspended;
    let mut copies = logs().filter(|member| member.role.votes_after());
    let copy = copies.next().filter(|_| copies.next().is_none())?;
    let is_window = members.chosen && !members.changing && logs().any(is_away);
    is_window.then_some(copy.replica)
}

/// What the ledgers say at the end.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Windows in the ledgers.
    pub recorded: u64,
    /// Those that are missing, and those that nobody closed.
    pub wrong: Vec<String>,
}

/// Compares what was seen with the ledgers, once all groups are whole again.
pub async fn judge(client: Client, seen: BTreeSet<Window>, patience: Duration) -> Judged {
    let groups: Vec<GroupId> = client.topology().groups().map(|group| group.id).collect();
    let mut judged = Judged::default();
    for group in groups {
        let entries = match ledger(&client, group, patience).await {
            Ok(entries) => entries,
            Err(error) => {
                judged.wrong.push(format!("the ledger of {group} cannot be read: {error}"));
                continue;
            }
        };
        let windows = || entries.iter().filter(|it| it.loss.kind == LossKind::SingleCopy);
        judged.recorded += windows().count() as u64;
        for open in windows().filter(|entry| entry.closed.is_none()) {
            judged.wrong.push(format!("{group} is whole, and its ledger says it is not: {open:?}"));
        }
        for window in seen.iter().filter(|window| window.group == group) {
            if !entries.iter().any(|entry| covers(entry, window)) {
                judged.wrong.push(format!("not in the ledger: {window:?}; it has {entries:?}"));
            }
        }
    }
    judged
}

/// A new leader logs the same membership again: the window goes on.
fn covers(entry: &LossEntry, window: &Window) -> bool {
    let begins = entry.opened.slot <= window.since.slot;
    let ends = entry.closed.is_some_and(|(closed, _)| closed.slot <= window.since.slot);
    entry.loss.kind == LossKind::SingleCopy && entry.loss.kept == [window.copy] && begins && !ends
}

async fn ledger(
    client: &Client,
    group: GroupId,
    patience: Duration,
) -> Result<Vec<LossEntry>, quorate_client::Error> {
    let started = Instant::now();
    loop {
        let answer = client.losses(group).await;
        if answer.is_ok() || patience < started.elapsed() {
            return answer;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
