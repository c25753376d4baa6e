//! Reads of many rows: what the second round takes for unchanged, by scripts. Random schedules of
//! several groups are in `cross/looks.rs`.

use quorate_txn::{Deletes, Evaluation};
use quorate_types::limits::{READ_BYTES_MAX, VALUE_BYTES_MAX};
use quorate_types::{
    Code, CutId, FoundRow, Mutation, ReplyBody, Request, RequestBody, RowAddress, RowVersion, Slot,
    TableId, Uid, Value, WantedRow,
};

use crate::common::{GROUP, Leader, bytes, put, row, write};

/// Reads rows with what was told of them before; panics if the answer is none.
fn read(leader: &Leader, known: &[(RowAddress, Option<RowVersion>)]) -> Vec<FoundRow> {
    match ask(leader, known) {
        Evaluation::Read(ReplyBody::Rows(found)) => found.rows,
        other => panic!("{other:?}"),
    }
}

fn ask(leader: &Leader, known: &[(RowAddress, Option<RowVersion>)]) -> Evaluation {
    let wanted = |(at, known): &(RowAddress, Option<RowVersion>)| WantedRow {
        at: at.clone(),
        known: *known,
    };
    let rows = known.iter().map(wanted).collect();
    let body = RequestBody::GetMany { rows, cut: CutId::NONE };
    leader.evaluate(&Request { id: None, body })
}

/// What the first round tells of a row.
fn first(leader: &Leader, at: &RowAddress) -> (RowVersion, Option<Value>) {
    match read(leader, &[(at.clone(), None)]).pop() {
        Some(FoundRow::Is(version, value)) => (version, value),
        other => panic!("{other:?}"),
    }
}

fn is_known(leader: &Leader, at: &RowAddress, version: RowVersion) -> bool {
    read(leader, &[(at.clone(), Some(version))]) == [FoundRow::AsKnown]
}

fn do_it(leader: &mut Leader, mutation: Mutation) {
    leader.run(&write(None, vec![mutation])).expect("nothing refuses it");
}

fn of_user(uid: u64) -> RowAddress {
    RowAddress { uid: Uid(uid), ..row("a") }
}

#[test]
fn a_row_is_as_known_until_it_is_written() {
    // Goal: every write is noticed, the same value too, once it is applied; other rows do not matter.
    let mut leader = Leader::new();
    do_it(&mut leader, put("a", bytes("one")));
    let (version, value) = first(&leader, &row("a"));
    assert_eq!((version.group, value), (GROUP, Some(bytes("one"))));
    do_it(&mut leader, put("b", bytes("one")));
    assert!(is_known(&leader, &row("a"), version));
    let other = RowVersion { group: quorate_types::GroupId(8), ..version };
    assert!(!is_known(&leader, &row("a"), other), "another group said that");
    leader.submit(&write(None, vec![put("a", bytes("one"))]));
    assert!(is_known(&leader, &row("a"), version), "it may never be chosen");
    leader.apply_all();
    let both = [(row("a"), Some(version)), (row("b"), None)];
    let found = read(&leader, &both);
    assert!(found.iter().all(|row| matches!(row, FoundRow::Is(_, Some(_)))), "{found:?}");
}

#[test]
fn a_row_that_came_and_went_is_not_as_known() {
    // Goal: a row that exists neither time is unchanged only if none of its slice was deleted between.
    let mut leader = Leader::new();
    let (version, value) = first(&leader, &row("a"));
    assert_eq!(value, None);
    do_it(&mut leader, put("b", bytes("x")));
    assert!(is_known(&leader, &row("a"), version));
    do_it(&mut leader, Mutation::Put(of_user(7), bytes("x")));
    do_it(&mut leader, Mutation::Delete(of_user(7)));
    assert!(is_known(&leader, &row("a"), version), "that was in another slice");

    do_it(&mut leader, put("a", bytes("x")));
    assert!(!is_known(&leader, &row("a"), version));
    let (there, _) = first(&leader, &row("a"));
    do_it(&mut leader, Mutation::Delete(row("a")));
    assert!(!is_known(&leader, &row("a"), version), "it was there meanwhile");
    assert!(!is_known(&leader, &row("a"), there));
    let (gone, value) = first(&leader, &row("a"));
    assert_eq!(value, None);
    assert!(is_known(&leader, &row("a"), gone));
}

#[test]
fn a_replica_that_starts_takes_its_last_entry_for_a_delete() {
    // Goal: what a leader does not remember it does not deny; a leader that ran all along does remember.
    let mut leader = Leader::new();
    do_it(&mut leader, put("a", bytes("x")));
    do_it(&mut leader, Mutation::Delete(row("a")));
    let (before, _) = first(&leader, &row("a"));
    do_it(&mut leader, put("b", bytes("x")));
    assert!(is_known(&leader, &row("a"), before));
    leader.deletes = Deletes::after(leader.next.prev());
    assert!(!is_known(&leader, &row("a"), before));
    let (after, _) = first(&leader, &row("a"));
    do_it(&mut leader, put("b", bytes("y")));
    assert!(is_known(&leader, &row("a"), after));
    // Rows that exist need no memory.
    let (there, _) = first(&leader, &row("b"));
    leader.deletes = Deletes::after(Slot(1_000));
    assert!(is_known(&leader, &row("b"), there));
}

#[test]
fn an_answer_has_its_limit() {
    // Goal: what would not fit a frame is refused, and rows that are as known cost nothing.
    let mut leader = Leader::new();
    let count = READ_BYTES_MAX / VALUE_BYTES_MAX;
    let large = |uid| RowAddress { table: TableId(1), ..of_user(uid) };
    let rows: Vec<RowAddress> = (0..=count as u64).map(large).collect();
    for at in &rows {
        let value = Value::Bytes(vec![0; VALUE_BYTES_MAX].into());
        do_it(&mut leader, Mutation::Put(at.clone(), value));
    }
    let mut asked: Vec<_> = rows.iter().map(|at| (at.clone(), None)).collect();
    match ask(&leader, &asked) {
        Evaluation::Refuse(error) => assert_eq!(error.code, Code::TxnTooLarge),
        other => panic!("{other:?}"),
    }
    asked[0].1 = Some(first(&leader, &rows[0]).0);
    assert_eq!(read(&leader, &asked).len(), rows.len());
}
