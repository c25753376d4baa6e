//! Reads of many rows: how often each group is asked, what with, and when locks are taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_client::{Client, Code, Uid, Value};
use quorate_types::{
    CutId, FoundRow, FoundRows, GroupId, ReplyBody, RowAddress, RowVersion, Slot, WantedRow,
};

use super::nodes::Nodes;

/// The versions of the rows behind the scripted nodes.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    /// Where each row was changed behind the back of who reads it.
    changed: BTreeMap<RowAddress, Slot>,
    /// So many questions that know a row find the last one changed just before.
    pub(crate) meddle: u32,
    /// The cut that each group has passed.
    pub(crate) cuts: BTreeMap<GroupId, CutId>,
    /// Groups without a majority.
    pub(crate) away: BTreeSet<GroupId>,
    /// Each question: its group, its cut, and how many rows it knows.
    pub(crate) asked: Vec<(GroupId, CutId, usize)>,
}

impl Versions {
    /// The answer of a group, in whose log this slot is next.
    pub(crate) fn answer(
        &mut self,
        (group, slot): (GroupId, Slot),
        wanted: &[WantedRow],
        cut: CutId,
        rows: &mut BTreeMap<RowAddress, Value>,
    ) -> ReplyBody {
        let known = wanted.iter().filter(|row| row.known.is_some()).count();
        self.asked.push((group, cut, known));
        if 0 < known && 0 < self.meddle {
            self.meddle -= 1;
            let last = &wanted.last().expect("it asks for something").at;
            rows.insert(last.clone(), Value::Integer(i64::try_from(slot.0).expect("small")));
            self.changed.insert(last.clone(), slot);
        }
        let passed = self.cuts.get(&group).copied().unwrap_or(CutId::NONE);
        let find = |row: &WantedRow| {
            let slot = self.changed.get(&row.at).copied().unwrap_or(Slot::ZERO);
            let version = RowVersion { group, slot };
            let is_known = row.known == Some(version) && cut <= passed;
            let value = || rows.get(&row.at).cloned();
            if is_known { FoundRow::AsKnown } else { FoundRow::Is(version, value()) }
        };
        ReplyBody::Rows(FoundRows { cut: passed, rows: wanted.iter().map(find).collect() })
    }
}

/// Rows of two groups, each row with the number of its user.
async fn with_rows() -> (Nodes, Client) {
    let (nodes, client) = Nodes::with_client().await;
    for uid in [1, 101, 30] {
        let number = i64::try_from(uid).expect("small");
        client.put("load", Uid(uid), "n", number).await.expect("it is written");
    }
    nodes.world().effects = 0;
    (nodes, client)
}

fn numbers(values: &[Option<Value>]) -> Vec<Option<i64>> {
    let number = |value: &Option<Value>| match value {
        Some(Value::Integer(number)) => Some(*number),
        Some(Value::Bytes(_)) => panic!("it holds bytes"),
        None => None,
    };
    values.iter().map(number).collect()
}

const ALL: [(&str, Uid, &str); 5] = [
    ("load", Uid(30), "n"),
    ("load", Uid(1), "n"),
    ("load", Uid(1), "none"),
    ("load", Uid(101), "n"),
    ("load", Uid(30), "n"),
];

#[tokio::test]
async fn one_group_is_asked_once() {
    // Goal: rows of one unit cost one question, rows that nobody asks for none.
    let (nodes, client) = with_rows().await;
    let found = client.get_many(&[("load", Uid(1), "n"), ("load", Uid(101), "n")]).await;
    assert_eq!(numbers(&found.expect("nothing is wrong")), [Some(1), Some(101)]);
    assert_eq!(nodes.world().versions.asked.len(), 1);
    let nothing: &[(&str, Uid, &str)] = &[];
    assert_eq!(client.get_many(nothing).await.expect("nothing is wrong"), []);
    assert_eq!(nodes.world().versions.asked.len(), 1);
    let many = vec![("load", Uid(1), "n"); 65];
    assert_eq!(client.get_many(&many).await.expect_err("64").code(), Code::TxnTooLarge);
}

#[tokio::test]
async fn several_groups_are_asked_twice() {
    // Goal: values come in the order asked for; the second round begins after the first and names all
    // that was told in it.
    let (nodes, client) = with_rows().await;
    let found = client.get_many(&ALL).await.expect("nothing is wrong");
    assert_eq!(numbers(&found), [Some(30), Some(1), None, Some(101), Some(30)]);
    let known: Vec<usize> = nodes.world().versions.asked.iter().map(|it| it.2).collect();
    assert_eq!((known[..2].iter().sum::<usize>(), known[2..].iter().sum()), (0, ALL.len()));
    let groups: BTreeSet<GroupId> = nodes.world().versions.asked.iter().map(|it| it.0).collect();
    assert_eq!((groups.len(), known.len()), (2, 4));
}

#[tokio::test]
async fn what_changes_is_read_again() {
    // Goal: a round that finds something new is the first one of the next two; whoever meets only
    // changes takes locks, and sees the last of them.
    let (nodes, client) = with_rows().await;
    for (meddle, questions) in [(1, 6), (2, 6), (3, 8), (4, 8)] {
        nodes.world().versions.asked.clear();
        nodes.world().versions.meddle = meddle;
        let found = client.get_many(&ALL).await.expect("it is whole in the end");
        let now = numbers(&client.get_many(&ALL).await.expect("nothing changes"));
        assert_eq!(numbers(&found), now, "after {meddle} changes");
        let asked = nodes.world().versions.asked.len() - 4;
        assert_eq!(asked, questions, "after {meddle} changes");
        assert_eq!(nodes.world().effects, 0);
    }
    nodes.world().versions.meddle = u32::MAX;
    let found = client.get_many(&ALL).await.expect("locks keep it whole");
    assert_eq!(nodes.world().effects, 1, "one transaction");
    nodes.world().versions.meddle = 0;
    let now = numbers(&client.get_many(&ALL).await.expect("nothing changes"));
    assert_eq!(numbers(&found), now);
}

#[tokio::test]
async fn who_saw_a_cut_asks_all_groups_for_it() {
    // Goal: the second round names the greatest cut of the first, and a group that has not passed it
    // is asked again.
    let (nodes, client) = with_rows().await;
    let ahead = client.route("load", Uid(30)).expect("it has one").group;
    let behind = client.route("load", Uid(1)).expect("it has one").group;
    nodes.world().versions.cuts.insert(ahead, CutId(7));
    client.get_many(&ALL).await.expect("locks are taken in the end");
    assert_eq!(nodes.world().effects, 1, "one transaction");
    let cuts: Vec<CutId> = nodes.world().versions.asked.iter().map(|it| it.1).collect();
    assert_eq!(cuts[..2], [CutId::NONE; 2]);
    assert_eq!(cuts[2..], [CutId(7); 6]);

    nodes.world().versions.asked.clear();
    nodes.world().versions.cuts.insert(behind, CutId(8));
    client.get_many(&ALL).await.expect("locks are taken in the end");
    nodes.world().versions.cuts.insert(ahead, CutId(8));
    nodes.world().versions.asked.clear();
    client.get_many(&ALL).await.expect("nothing is wrong");
    assert_eq!(nodes.world().versions.asked.len(), 4, "everybody has passed it");
}

#[tokio::test]
async fn no_locks_are_taken_while_a_group_is_away() {
    // Goal: a read of a group that does not answer ends with its deadline. A transaction would lock rows
    // of the other groups for as long as that one is away.
    let (nodes, client) = with_rows().await;
    let group = client.route("load", Uid(1)).expect("it has one").group;
    nodes.world().versions.away.insert(group);
    let hurried = client.with_timeout(Duration::from_millis(200));
    let error = hurried.get_many(&ALL).await.expect_err("one group does not answer");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(nodes.world().effects, 0, "a transaction was sent");
    nodes.world().versions.away.clear();
    let found = client.get_many(&ALL).await.expect("everybody is back");
    assert_eq!(numbers(&found), [Some(30), Some(1), None, Some(101), Some(30)]);
    assert_eq!(nodes.world().effects, 0);
}
