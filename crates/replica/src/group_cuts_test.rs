//! Views at cuts that a leader keeps: where they stand, and how long.

use quorate_store::decode_page;
use quorate_types::RecordsPage;

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

/// The values of a user's rows at a cut.
fn rows_at(
    driver: &mut GroupDriver,
    now: BootTime,
    cut: CutId,
    fx: &mut Effects,
) -> Result<Vec<Value>, Code> {
    let (prefix, after) = (Bytes::new(), None);
    let range =
        ScanRange { table: TableId(1), uid: Some(Uid(1)), slice: 0, prefix, after, limit: 0 };
    let answer = ask(driver, now, RequestBody::ReadCut(cut, CutRange::Rows(range)), fx);
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
/// soon, one that was asked for later, and with its leader all go.
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
    let refused: Answer = Err(Error::new(Code::NotLeader, "another one leads"));
    let waits = ask(&mut driver, now, RequestBody::PinCut(CutId(last.0 + 9)), &mut fx);
    driver.lose_cuts(&refused);
    assert_eq!(waits.try_recv().expect("it is answered"), refused);
    assert_eq!(rows_at(&mut driver, now, last, &mut fx), Err(Code::CutLost));
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
