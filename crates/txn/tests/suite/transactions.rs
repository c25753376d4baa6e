//! Transactions and reads one by one, each with its answer.

use crate::common::{
    HOME, Leader, Submitted, add, add_above, bytes, put, row, sums, transact, write,
};
use bytes::Bytes;
use quorate_types::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};
use quorate_types::{
    Code, Condition, Error, Mutation, ReplyBody, Request, RequestBody, RowAddress, ScanPage,
    ScanRange, TableId, Uid, Value,
};

/// A leader with an integer row `n` = 10 and a bytes row `b` = "old".
fn prepared() -> Leader {
    let mut leader = Leader::new();
    let rows = vec![put("n", Value::Integer(10)), put("b", bytes("old"))];
    leader.run(&write(None, rows)).expect("puts need nothing");
    leader
}

fn refusal(request: &Request) -> Error {
    match prepared().submit(request) {
        Submitted::Refused(error) => error,
        other => panic!("{request:?} gave {other:?}"),
    }
}

#[test]
fn conditions_decide() {
    // Goal: each condition holds exactly when its row says so, and a failed one says which.
    let cases = [
        (Condition::Exists(row("n")), None),
        (Condition::Exists(row("none")), Some("row t1/42/\"none\" does not exist")),
        (Condition::Absent(row("none")), None),
        (Condition::Absent(row("n")), Some("row t1/42/\"n\" exists")),
        (Condition::Equals(row("n"), Value::Integer(10)), None),
        (Condition::Equals(row("n"), Value::Integer(9)), Some("row t1/42/\"n\" has another value")),
        (Condition::Equals(row("b"), bytes("old")), None),
        (Condition::Equals(row("b"), bytes("new")), Some("row t1/42/\"b\" has another value")),
        (Condition::Equals(row("none"), bytes("")), Some("row t1/42/\"none\" does not exist")),
    ];
    for (condition, message) in cases {
        // The first condition always holds, so the second has number 1.
        let conditions = vec![Condition::Exists(row("n")), condition.clone()];
        let asked = transact(None, conditions, vec![put("x", bytes("written"))], Vec::new());
        let mut leader = prepared();
        let reply = leader.run(&asked);
        match message {
            None => {
                reply.expect("the conditions hold");
                assert_eq!(leader.value(&row("x")), Some(bytes("written")), "{condition:?}");
            }
            Some(message) => {
                let error = reply.expect_err("a condition does not hold");
                assert_eq!((error.code, error.message.as_str()), (Code::ConditionFailed, message));
                assert_eq!(error.facts.get("condition").map(String::as_str), Some("1"));
                assert_eq!(leader.value(&row("x")), None, "{condition:?}");
            }
        }
    }
}

#[test]
fn later_mutations_see_earlier_ones_and_reads_see_none() {
    // Goal: mutations run in order on the same rows; reads return what was there before.
    let mutations = vec![
        add("n", 5),
        add("n", 5),
        Mutation::Delete(row("n")),
        add("n", 1),
        put("b", Value::Integer(7)),
        add("b", -9),
        Mutation::Delete(row("none")),
    ];
    let reads = vec![row("n"), row("b"), row("none"), row("n")];
    let mut leader = prepared();
    let reply = leader.run(&transact(None, Vec::new(), mutations, reads)).expect("it may run");
    let n = Some(Value::Integer(10));
    let body = ReplyBody::Committed {
        reads: vec![n.clone(), Some(bytes("old")), None, n],
        sums: vec![15, 20, 1, -2],
    };
    assert_eq!(reply.body, body);
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(1)));
    assert_eq!(leader.value(&row("b")), Some(Value::Integer(-2)));
    assert_eq!(leader.value(&row("none")), None);
}

#[test]
fn guards_hold_at_their_bounds() {
    // Goal: floors and ceilings are inclusive, sums stay in 64 bits, bytes are never added to.
    let guarded =
        |key, delta, floor, ceiling| Mutation::Add { at: row(key), delta, floor, ceiling };
    let cases = [
        (guarded("n", -10, Some(0), None), Ok(0)),
        (guarded("n", -11, Some(0), None), Err(Code::GuardFailed)),
        (guarded("n", 10, None, Some(20)), Ok(20)),
        (guarded("n", 11, None, Some(20)), Err(Code::GuardFailed)),
        (guarded("n", 1, Some(12), Some(20)), Err(Code::GuardFailed)),
        (guarded("n", i64::MAX - 10, None, None), Ok(i64::MAX)),
        (guarded("n", i64::MAX - 9, None, None), Err(Code::IntegerOverflow)),
        (guarded("none", i64::MIN, None, None), Ok(i64::MIN)),
        (guarded("none", -1, Some(0), None), Err(Code::GuardFailed)),
        (guarded("b", 0, None, None), Err(Code::NotAnInteger)),
    ];
    for (mutation, want) in cases {
        // The put must not take effect where the add does not.
        let asked = write(None, vec![put("x", bytes("x")), mutation.clone()]);
        let mut leader = prepared();
        let reply = leader.run(&asked).map(|reply| reply.body).map_err(|error| error.code);
        assert_eq!(reply, want.map(|sum| sums(&[sum])), "{mutation:?}");
        assert_eq!(leader.value(&row("x")).is_some(), want.is_ok(), "{mutation:?}");
    }
}

#[test]
fn refusals_carry_row_and_facts() {
    // Goal: a program finds the numbers of a refusal, a person the row.
    let error = refusal(&write(None, vec![add_above("n", -11, 0)]));
    assert_eq!(error.message, "row t1/42/\"n\" holds 10; adding -11 breaks its floor of 0");
    let facts = [
        ("current", "10"),
        ("delta", "-11"),
        ("floor", "0"),
        ("key", "n"),
        ("table", "t1"),
        ("uid", "42"),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(error.facts, facts.into());

    let error = refusal(&write(None, vec![add("b", 1)]));
    assert_eq!(error.message, "row t1/42/\"b\" holds bytes and cannot be added to");
    let error = refusal(&write(None, vec![add("n", i64::MAX)]));
    let want = format!("row t1/42/\"n\" holds 10; adding {} leaves 64 bits", i64::MAX);
    assert_eq!(error.message, want);
}

#[test]
fn entries_in_flight_are_seen_by_writes_but_not_by_reads() {
    // Goal: guarded adds pipeline on a hot row without ever breaking the floor together, and a read
    // shows applied rows only.
    let mut leader = prepared();
    let withdraw = write(None, vec![add_above("n", -4, 0)]);
    assert!(matches!(leader.submit(&withdraw), Submitted::Proposed(_)));
    assert!(matches!(leader.submit(&withdraw), Submitted::Proposed(_)));
    assert_eq!(leader.submit(&withdraw).code(), Some(Code::GuardFailed));
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(10)));
    let only_reads = transact(None, vec![Condition::Exists(row("n"))], Vec::new(), vec![row("n")]);
    let reads = vec![Some(Value::Integer(10))];
    let body = ReplyBody::Committed { reads, sums: Vec::new() };
    assert_eq!(leader.submit(&only_reads), Submitted::Read(body));

    let replies: Vec<_> = leader.apply_all().into_iter().map(|applied| applied.reply).collect();
    let bodies: Vec<_> = replies.into_iter().map(|reply| reply.expect("applied").body).collect();
    assert_eq!(bodies, [sums(&[6]), sums(&[2])]);
    assert_eq!(leader.value(&row("n")), Some(Value::Integer(2)));
}

#[test]
fn effects_of_a_lost_ballot_are_forgotten() {
    // Goal: after a change of ballot nothing rests on entries that were not chosen.
    let mut leader = prepared();
    leader.submit(&write(None, vec![add("n", -10)]));
    let withdraw = write(None, vec![add_above("n", -1, 0)]);
    assert_eq!(leader.submit(&withdraw).code(), Some(Code::GuardFailed));
    leader.lose_ballot();
    assert_eq!(leader.run(&withdraw).expect("10 are there").body, sums(&[9]));
}

#[test]
fn a_transaction_whose_reads_exceed_an_entry_is_refused() {
    // Goal: a small request cannot make an entry, or a reply, that is larger than any frame takes.
    let mut leader = Leader::new();
    let large = Value::Bytes(vec![7; 400 * 1024].into());
    leader.run(&write(None, vec![put("b", large)])).expect("it fits");
    let reads = vec![row("b"), row("b")];
    let asked = transact(None, Vec::new(), vec![add("n", 1)], reads);
    assert!(leader.run(&asked).is_ok());
    let reads = vec![row("b"), row("b"), row("b")];
    let asked = transact(None, Vec::new(), vec![add("n", 1)], reads);
    assert_eq!(leader.submit(&asked).code(), Some(Code::TxnTooLarge));
    // Read and written together they do not fit either, although each of them does.
    let larger = Value::Bytes(vec![8; 400 * 1024].into());
    let asked = transact(None, Vec::new(), vec![put("c", larger)], vec![row("b"), row("b")]);
    assert_eq!(leader.submit(&asked).code(), Some(Code::TxnTooLarge));
}

fn scan(leader: &mut Leader, range: ScanRange) -> ScanPage {
    match leader.submit(&Request { id: None, body: RequestBody::Scan(range) }) {
        Submitted::Read(ReplyBody::Page(page)) => page,
        other => panic!("a scan gave {other:?}"),
    }
}

fn range(uid: Option<u64>, prefix: &'static str) -> ScanRange {
    let (table, uid) = (TableId(1), uid.map(Uid));
    ScanRange { table, uid, slice: 42, prefix: prefix.into(), after: None, limit: 0 }
}

/// Keys of all pages, and how many pages there were.
fn scan_all(leader: &mut Leader, mut range: ScanRange) -> (Vec<(u64, String)>, usize) {
    let mut keys = Vec::new();
    for pages in 1..=SCAN_ROWS_MAX {
        let page = scan(leader, range.clone());
        let text = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        keys.extend(page.rows.iter().map(|row| (row.uid.0, text(&row.key))));
        match page.next {
            None => return (keys, pages),
            next => range.after = next,
        }
    }
    panic!("the scan does not come to an end");
}

#[test]
fn scans_walk_a_user_or_a_slice() {
    // Goal: a scan returns exactly its rows in order, whatever the page size.
    let mut leader = Leader::new();
    let at = |table: TableId, uid: u64, key: &'static str| {
        let at = RowAddress { table, uid: Uid(uid), key: key.into() };
        Mutation::Put(at, bytes("v"))
    };
    let one = TableId(1);
    let rows = vec![
        at(one, 42, "a1"),
        at(one, 42, "a2"),
        at(one, 42, "b1"),
        at(one, 142, "a3"),
        at(one, 43, "a4"),
        at(TableId(2), 42, "a5"),
        at(HOME, 0, "a6"),
    ];
    leader.run(&write(None, rows)).expect("puts need nothing");
    let pairs = |pairs: &[(u64, &str)]| -> Vec<(u64, String)> {
        pairs.iter().map(|(uid, key)| (*uid, (*key).to_owned())).collect()
    };
    for limit in [1, 2, 3, 0] {
        let limited = |range: ScanRange| ScanRange { limit, ..range };
        let (keys, _) = scan_all(&mut leader, limited(range(Some(42), "")));
        assert_eq!(keys, pairs(&[(42, "a1"), (42, "a2"), (42, "b1")]));
        let (keys, _) = scan_all(&mut leader, limited(range(Some(42), "a")));
        assert_eq!(keys, pairs(&[(42, "a1"), (42, "a2")]));
        let (keys, _) = scan_all(&mut leader, limited(range(None, "")));
        assert_eq!(keys, pairs(&[(42, "a1"), (42, "a2"), (42, "b1"), (142, "a3")]));
        let home = ScanRange { table: HOME, ..range(Some(0), "") };
        assert_eq!(scan_all(&mut leader, limited(home)).0, pairs(&[(0, "a6")]));
    }
    let after = Some((Uid(42), Bytes::from_static(b"zz")));
    let beyond = ScanRange { after, ..range(Some(42), "a") };
    assert_eq!(scan(&mut leader, beyond), ScanPage::default());
    let after = Some((Uid(42), Bytes::from_static(b"A")));
    let before = ScanRange { after, ..range(Some(42), "b") };
    assert_eq!(scan_all(&mut leader, before).0, pairs(&[(42, "b1")]));
}

#[test]
fn pages_end_at_their_limits() {
    // Goal: a page holds at most SCAN_ROWS_MAX rows and about SCAN_BYTES_MAX bytes, and the resume
    // token loses nothing.
    let mut leader = Leader::new();
    let rows = SCAN_ROWS_MAX + 1;
    for number in 0..rows {
        let at = RowAddress { key: format!("{number:05}").into(), ..row("") };
        leader.submit(&write(None, vec![Mutation::Put(at, Value::Integer(1))]));
    }
    leader.apply_all();
    let (keys, pages) = scan_all(&mut leader, range(Some(42), ""));
    assert_eq!((keys.len(), pages), (rows, 2));
    assert!(keys.is_sorted());

    for number in 0..5 {
        let at = RowAddress { key: format!("{number}").into(), uid: Uid(242), ..row("") };
        let value = Value::Bytes(vec![0; SCAN_BYTES_MAX * 2 / 5].into());
        leader.run(&write(None, vec![Mutation::Put(at, value)])).expect("it fits");
    }
    let (keys, pages) = scan_all(&mut leader, range(Some(242), ""));
    assert_eq!((keys.len(), pages), (5, 3));
}
