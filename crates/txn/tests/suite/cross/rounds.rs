//! Scripts of the two rounds in which rows of several groups are read, where cuts come between.

use quorate_types::{
    BootTime, CutId, FoundRow, FoundRows, Mutation, ReplyBody, Request, RequestBody, RowVersion,
    Value, WantedRow,
};

use super::group::{Caller, Group};
use super::world::account;

const NOW: BootTime = BootTime(1_000_000_000);

/// Asks the leader of a group, and lets it answer.
fn ask(group: &mut Group, body: RequestBody) -> ReplyBody {
    group.leader().ask(NOW, Caller { number: 0, request: Request { id: None, body } });
    group.choose(NOW, usize::MAX);
    let (_, told) = group.leader().told.pop().expect("it is answered");
    told.expect("it leads").expect("it takes effect").body
}

fn put(group: &mut Group, uid: u64, value: i64) {
    let mutations = vec![Mutation::Put(account(uid), Value::Integer(value))];
    let (conditions, reads) = (Vec::new(), Vec::new());
    let _committed = ask(group, RequestBody::Transact { conditions, mutations, reads });
}

fn look(group: &mut Group, uid: u64, known: Option<RowVersion>, cut: CutId) -> FoundRows {
    let rows = vec![WantedRow { at: account(uid), known }];
    match ask(group, RequestBody::GetMany { rows, cut }) {
        ReplyBody::Rows(found) => found,
        other => panic!("{other:?}"),
    }
}

fn version(found: &FoundRows) -> Option<RowVersion> {
    match &found.rows[..] {
        [FoundRow::Is(version, _)] => Some(*version),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_seen_behind_a_cut_is_not_joined_with_what_stands_before_it() {
    // Goal: who saw a write behind a cut in one group does not take a row of another group for known
    // that may still change before that cut; once the other group has passed it, he does.
    let (mut one, mut other) = (Group::new(1), Group::new(2));
    let (here, there) = (0, 1);
    put(&mut one, here, 1);
    put(&mut other, there, 1);
    let ReplyBody::Cut(cut) = ask(&mut one, RequestBody::NewCut) else { panic!("no cut") };
    put(&mut one, here, 2); // Behind the cut.
    let first_here = look(&mut one, here, None, CutId::NONE);
    let first_there = look(&mut other, there, None, CutId::NONE);
    assert_eq!((first_here.cut, first_there.cut), (cut, CutId::NONE));

    let again = look(&mut other, there, version(&first_there), cut);
    let is_unknown = matches!(again.rows[..], [FoundRow::Is(_, Some(Value::Integer(1)))]);
    assert!(is_unknown, "a write that comes now stands before the cut: {again:?}");
    let older = look(&mut other, there, version(&first_there), CutId::NONE);
    assert_eq!(older.rows, [FoundRow::AsKnown], "nobody saw a cut");

    let asking = other.leader().cross.ask_cut(one.id);
    let told = asking.messages.into_iter().next().expect("it asks");
    let telling = one.leader().cross.receive(NOW, told);
    let told = telling.messages.into_iter().next().expect("it answers");
    let passing = other.leader().cross.receive(NOW, told);
    other.leader().carry_out(NOW, passing);
    other.choose(NOW, usize::MAX);
    let again = look(&mut other, there, version(&first_there), cut);
    assert_eq!((again.cut, &again.rows[..]), (cut, &[FoundRow::AsKnown][..]));
    let again = look(&mut one, here, version(&first_here), cut);
    assert_eq!(again.rows, [FoundRow::AsKnown]);
}
