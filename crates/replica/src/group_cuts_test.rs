//! Views at cuts that a leader keeps: where they stand, and how long.

use quorate_store::decode_page;
use quorate_types::{CheckBody, RecordsPage, RowsDigest};

use super::*;

/// A new cut, in one batch between two writes.
fn cut_between_writes(driver: &mut GroupDriver, now: BootTime, fx: &mut Effects) -> CutId {
    let _first = ask(driver, now, put(1), fx);
    let made = ask(driver, now, RequestBody::NewCut, fx);
    let _second = ask(driver, now, put(2), fx);
    choose(driver, now, fx);
    let made = made.try_recv().expect("it is chosen").expect("it is made");
    let ReplyBody::Cut(cut) = made.body else { panic!("{made:?}") };
    assert_eq!(cut, CutId::at(made.at.slot));
    cut
}

/// A transaction of another group writes 7 here, and is in doubt.
fn prepare(driver: &mut GroupDriver, now: BootTime, fx: &mut Effects) -> Attempt {
    let at = RowAddress { table: TableId(1), uid: Uid(1), key: Bytes::from_static(b"k") };
    let part = Part { mutations: vec![Mutation::Put(at, Value::Integer(7))], ..Part::default() };
    let (here, there) = (driver.group, GroupId(2));
    let ballot = Ballot { round: 1, replica: ReplicaId(1) };
    let attempt = Attempt { group: there, ballot, counter: 1 };
    let session = SessionId { group: there, slot: Slot(1) };
    let age = Age { first_ms: 1, session, sequence: 1 };
    let participants = vec![here, there];
    let body = CrossBody::Prepare { attempt, age, watermark: attempt, participants, part };
    let message = CrossMessage { from: there, to: here, cut: CutId::NONE, body };
    driver.receive_cross(now, message, true, fx).expect("nothing fails");
    driver.stage_cross(now).expect("it is staged");
    choose(driver, now, fx);
    attempt
}

/// Asks for a user's rows at a cut.
fn page_at(cut: CutId) -> RequestBody {
    let (prefix, after) = (Bytes::new(), None);
    let range =
        ScanRange { table: TableId(1), uid: Some(Uid(1)), slice: 0, prefix, after, limit: 0 };
    RequestBody::ReadCut(cut, CutRange::Rows(range))
}

/// The values of a user's rows at a cut.
fn rows_at(
    driver: &mut GroupDriver,
    now: BootTime,
    cut: CutId,
    fx: &mut Effects,
) -> Result<Vec<Value>, Code> {
    let answer = ask(driver, now, page_at(cut), fx);
    for read in fx.cut_reads.drain(..) {
        read.run().expect("the twin reads");
    }
    match answer.try_recv().expect("it is answered").map(|reply| reply.body) {
        Ok(ReplyBody::Page(page)) => Ok(page.rows.into_iter().map(|row| row.value).collect()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

/// Goal: a view stands exactly at the entry of its cut, though the batch goes on, and moves no more; it
/// goes when it is released.
#[test]
fn a_view_at_a_cut_stands_between_two_entries_of_a_batch() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let cut = cut_between_writes(&mut driver, now, &mut fx);
    let next = cut_between_writes(&mut driver, now, &mut fx);
    let _later = ask(&mut driver, now, put(3), &mut fx);
    choose(&mut driver, now, &mut fx);
    assert_eq!(rows_at(&mut driver, now, cut, &mut fx), Ok(vec![Value::Integer(1)]));
    assert_eq!(rows_at(&mut driver, now, next, &mut fx), Ok(vec![Value::Integer(1)]));
    let released = ask(&mut driver, now, RequestBody::UnpinCut(cut), &mut fx);
    assert!(released.try_recv().expect("it is answered").is_ok());
    assert_eq!(rows_at(&mut driver, now, cut, &mut fx), Err(Code::CutLost));
    assert_eq!(rows_at(&mut driver, now, next, &mut fx), Ok(vec![Value::Integer(1)]));
}

/// Goal: views are bounded in number and in time: a fifth cut is refused, a view that nobody asked for goes
/// soon, one that was asked for later. Who waits for one hears when the leadership is over.
#[test]
fn views_at_cuts_go_in_the_end() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let cuts: Vec<CutId> = (0..limits::GROUP_CUTS_MAX)
        .map(|_| cut_between_writes(&mut driver, now, &mut fx))
        .collect();
    let refused = ask(&mut driver, now, RequestBody::NewCut, &mut fx);
    let refused = refused.try_recv().expect("it is answered").expect_err("there are enough");
    assert_eq!(refused.code, Code::Overloaded);

    let pinned = ask(&mut driver, now, RequestBody::PinCut(cuts[1]), &mut fx);
    assert!(pinned.try_recv().expect("it is answered").is_ok());
    driver.clean_cuts(now + Duration::from_secs(20), &mut fx).expect("nothing fails");
    assert_eq!(rows_at(&mut driver, now, cuts[0], &mut fx), Err(Code::CutLost));
    assert!(rows_at(&mut driver, now, cuts[1], &mut fx).is_ok());
    let lost = ask(&mut driver, now, RequestBody::PinCut(cuts[0]), &mut fx);
    let lost = lost.try_recv().expect("it is answered").expect_err("the log has passed it");
    assert_eq!(lost.code, Code::CutLost);
    driver.clean_cuts(now + Duration::from_secs(61), &mut fx).expect("nothing fails");
    assert_eq!(rows_at(&mut driver, now, cuts[1], &mut fx), Err(Code::CutLost));

    let last = cut_between_writes(&mut driver, now, &mut fx);
    let waits = ask(&mut driver, now, RequestBody::PinCut(CutId(last.0 + 9)), &mut fx);
    let refused: Answer = Err(Error::new(Code::NotLeader, "another one leads"));
    driver.refuse_cut_waiters(&refused);
    assert_eq!(waits.try_recv().expect("it is answered"), refused);
    assert!(rows_at(&mut driver, now, last, &mut fx).is_ok());
}

/// Another replica leads, at a time when our lease is over: its first batch, and one with this entry, all
/// committed.
fn follow(driver: &mut GroupDriver, now: BootTime, entry: &EntryPayload, fx: &mut Effects) {
    let sent = fx.messages.values().flatten().filter_map(|sent| match &sent.message {
        Message::Accept(accept) => Some(accept.batch.tail()),
        _ => None,
    });
    let tail = sent.max_by_key(|tail| tail.id).expect("a leader sends its batches");
    let ballot = Ballot { round: 2, replica: ReplicaId(2) };
    let log_time = LogTime(now.0);
    let start = Batch::new(BatchKind::StartWork, ballot, tail, log_time, &[Bytes::new()]);
    let payload = [entry.encode()];
    let batch = Batch::new(BatchKind::Entries, ballot, start.tail(), log_time, &payload);
    let slot_committed = batch.last();
    let accepts = [start, batch]
        .map(|batch| Message::Accept(Accept { ballot, batch, slot_committed: tail.id.slot }));
    let (sent_at, slot_releasable) = (now, Slot::ZERO);
    let heartbeat = |slot_committed| Heartbeat {
        ballot,
        sent_at,
        slot_committed,
        slot_releasable,
        slot_secured: Slot::ZERO,
    };
    let [first, second] = accepts;
    for message in [
        Message::Heartbeat(heartbeat(tail.id.slot)),
        first,
        second,
        Message::Heartbeat(heartbeat(slot_committed)),
    ] {
        driver.step(now, Input::Message { from: ReplicaId(2), message }, fx).expect("it follows");
        let (_, write) = *fx.writes.last().expect("something is written");
        driver.step(now, Input::Synced { write }, fx).expect("nothing fails");
        driver.step(now, Input::PromiseSynced { ballot }, fx).expect("nothing fails");
    }
    assert!(driver.serving(now).is_err(), "another one leads");
    assert_eq!(driver.core.slot_applied(), slot_committed);
}

/// Goal: what a replica applied is true whoever leads: its views outlive its leadership, and what was open
/// in one is settled by the entry that it applies as a follower. It keeps no new ones, and refuses who asks for others.
#[test]
fn a_view_at_a_cut_outlives_the_leadership() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects { disk_ok_at: now, ..Effects::default() });
    let settled = cut_between_writes(&mut driver, now, &mut fx);
    let attempt = prepare(&mut driver, now, &mut fx);
    let open = cut_after_writes(&mut driver, now, &mut fx);
    let parked = ask(&mut driver, now, page_at(open), &mut fx);

    let commit = Decide::Commit(attempt, PartReply::default(), CutId::NONE);
    let now = now + 2 * Timing::lan().lease;
    fx.disk_ok_at = now;
    follow(&mut driver, now, &EntryPayload::Cross(CrossEntry::Decide(commit)), &mut fx);

    for read in fx.cut_reads.drain(..) {
        read.run().expect("the twin reads");
    }
    let waited = parked.try_recv().expect("it is settled").expect("the view is kept");
    let ReplyBody::Page(waited) = waited.body else { panic!("{waited:?}") };
    assert_eq!(waited.rows[0].value, Value::Integer(7), "it was prepared before the cut");
    assert_eq!(rows_at(&mut driver, now, open, &mut fx), Ok(vec![Value::Integer(7)]));
    assert_eq!(rows_at(&mut driver, now, settled, &mut fx), Ok(vec![Value::Integer(1)]));
    let pinned = ask(&mut driver, now, RequestBody::PinCut(settled), &mut fx);
    assert!(pinned.try_recv().expect("it is answered").is_ok(), "asked again");
    let released = ask(&mut driver, now, RequestBody::UnpinCut(settled), &mut fx);
    assert!(released.try_recv().expect("it is answered").is_ok());
    assert_eq!(rows_at(&mut driver, now, settled, &mut fx), Err(Code::NotLeader));
}

/// Goal: how something open at a cut ended may be among what a snapshot brings, and then nobody learns it:
/// such a view goes, one in which nothing is open stays.
#[test]
fn open_views_go_when_a_snapshot_comes() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let settled = cut_between_writes(&mut driver, now, &mut fx);
    prepare(&mut driver, now, &mut fx);
    let open = cut_after_writes(&mut driver, now, &mut fx);
    driver.lose_open_views();
    assert_eq!(rows_at(&mut driver, now, open, &mut fx), Err(Code::CutLost));
    assert!(rows_at(&mut driver, now, settled, &mut fx).is_ok());
}

/// The records of a page for a backup.
fn records_at(
    driver: &mut GroupDriver,
    now: BootTime,
    cut: CutId,
    fx: &mut Effects,
) -> Result<RecordsPage, Code> {
    let range = CutRange::Records { after: None, bytes: 0 };
    let answer = ask(driver, now, RequestBody::ReadCut(cut, range), fx);
    for read in fx.cut_reads.drain(..) {
        read.run().expect("the twin reads");
    }
    match answer.try_recv().expect("it is answered").map(|reply| reply.body) {
        Ok(ReplyBody::Records(page)) => Ok(page),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    }
}

/// Goal: a view that backups read stays for longer than others, but not for ever, nor do more than two of a
/// group; a page says up to which entry of the log it holds anything.
#[test]
fn a_view_that_a_backup_reads_stays_for_longer() {
    let start = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects::default());
    let cuts: Vec<CutId> = (0..limits::GROUP_CUTS_HELD_MAX + 1)
        .map(|_| cut_between_writes(&mut driver, start, &mut fx))
        .collect();
    for cut in &cuts {
        let page = records_at(&mut driver, start, *cut, &mut fx).expect("it is kept");
        assert_eq!(page.upto.0, cut.0, "nothing is in doubt");
        assert_eq!(decode_page(page.records).expect("a page").len(), 1, "one row, no session");
    }
    let at = |seconds| start + Duration::from_secs(seconds);
    driver.clean_cuts(at(1), &mut fx).expect("nothing fails");
    driver.clean_cuts(at(61), &mut fx).expect("nothing fails");
    let kept: Vec<bool> =
        cuts.iter().map(|cut| rows_at(&mut driver, at(61), *cut, &mut fx).is_ok()).collect();
    assert_eq!(kept, [true, true, false]);
    // Only one of them is read on, until nobody may any more.
    let mut last = 61;
    while records_at(&mut driver, at(last), cuts[0], &mut fx).is_ok() {
        driver.clean_cuts(at(last), &mut fx).expect("nothing fails");
        last += 100;
    }
    assert!((7200..7500).contains(&last), "{last}");
    assert_eq!(rows_at(&mut driver, at(last), cuts[1], &mut fx), Err(Code::CutLost));
}

/// Goal: rows that are found to be wrong are shown to nobody from that step on: views at cuts go, settled ones and those
/// that a backup reads too, and who waits for one is told; nothing more is given to other nodes, and others are
/// fetched from those only who agree. A verdict of a minority, or one that says the same, does nothing.
#[test]
fn no_view_of_rows_in_quarantine_is_kept() {
    let now = BootTime(2 * SECOND);
    let (mut driver, mut fx) = (leader(), Effects { disk_ok_at: now, ..Effects::default() });
    let settled = cut_between_writes(&mut driver, now, &mut fx);
    records_at(&mut driver, now, settled, &mut fx).expect("a backup reads it");
    prepare(&mut driver, now, &mut fx);
    let open = cut_after_writes(&mut driver, now, &mut fx);
    let parked = ask(&mut driver, now, page_at(open), &mut fx);
    let now = now + 2 * Timing::lan().lease;
    fx.disk_ok_at = now;
    follow(&mut driver, now, &EntryPayload::Check, &mut fx);
    let (group, here) = (driver.group, driver.options.paxos.replica);
    let ballot = Ballot { round: 2, replica: ReplicaId(2) };
    let at = EntryId { ballot, slot: driver.core.slot_applied() };
    let digest = |hash| RowsDigest { slices: vec![(SliceId(0), hash)], rest: 0 };
    driver.hashed(now, at, Some(digest(1)), &mut fx).expect("nothing fails");
    let mut hears = |driver: &mut GroupDriver, hash, agreeing: &[u64]| {
        let agreeing = agreeing.iter().map(|id| ReplicaId(*id)).collect();
        let body = CheckBody::Verdict { majority: digest(hash), agreeing };
        let message = CheckMessage { group, from: ReplicaId(2), to: here, at, body };
        driver.receive_check(now, message, &mut fx).expect("nothing fails");
        (std::mem::take(&mut fx.switches), std::mem::take(&mut fx.withdrawn))
    };
    let is_read = |driver: &GroupDriver, cut| {
        let range = CutRange::Records { after: None, bytes: 0 };
        let reply = ReplyTo::new(None, |_| {});
        driver.cuts.ready.read(group, cut, &range, reply).is_ok()
    };

    for (hash, agreeing) in [(2, &[2][..]), (1, &[1, 2, 3])] {
        let (switches, withdrawn) = hears(&mut driver, hash, agreeing);
        assert!(switches.is_empty() && withdrawn.is_empty());
    }
    assert!(driver.has_view_for(&page_at(settled)) && driver.has_view_for(&page_at(open)));
    assert!(is_read(&driver, settled) && parked.try_recv().is_err());

    let (mut switches, withdrawn) = hears(&mut driver, 2, &[2, 3]);
    let lost = parked.try_recv().expect("it is told").expect_err("the rows are wrong");
    assert_eq!(lost.code, Code::CutLost);
    assert!(!driver.has_view_for(&page_at(settled)) && !driver.has_view_for(&page_at(open)));
    assert!(!is_read(&driver, settled) && !is_read(&driver, open));
    assert_eq!(rows_at(&mut driver, now, settled, &mut fx), Err(Code::NotLeader));
    assert_eq!(driver.cuts.status(now).views, 0);
    assert_eq!(withdrawn, [group], "whoever is given the rows is given no more");
    assert!(driver.core.rows_missing() && driver.check_status(now).is_diverged);
    for wanted in &fx.refills {
        assert_eq!(wanted.sources, [NodeId(2), NodeId(3)]);
    }
    assert!(driver.refill_status().is_under_way && fx.refills.len() == 1);
    let switch = switches.pop().filter(|_| switches.is_empty()).expect("one");
    assert!(!driver.store.is_quarantined(group));
    assert!(switch.run().expect("the twin works").is_none());
    assert!(driver.store.is_quarantined(group), "a restart knows");
}
