//! Goal: groups of which something is missing can be given up: nothing is written before that is decided, their
//! old frames never come back, and nothing else is touched.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{contents_of, contents_read, frame, open, options};
use quorate_log::{
    CrashMode, DamageKind, HEADER_BYTES, Log, LogError, LogMark, LogOffset, LogReader, LogWriter,
    Recovered, SimDisk,
};
use quorate_types::{GroupId, Slot};

const FIRST: &str = "log/0000000001.seg";
const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);

type Opened = (LogWriter, LogReader, Recovered);

/// Frames of two groups, one after the other, of which the second frame of group 1 is damaged.
fn damaged() -> SimDisk {
    let disk = SimDisk::new();
    let (mut writer, _, _) = open(&disk.mount());
    let frames = [frame(1, 1, 2, 1, 40), frame(2, 1, 1, 2, 40), frame(1, 3, 4, 3, 40)];
    let mut ends = Vec::new();
    for frame in frames.iter().chain([&frame(2, 2, 2, 4, 40)]) {
        ends.push(writer.append(std::slice::from_ref(frame)).expect("it appends"));
        writer.sync().expect("it syncs");
    }
    writer.seal().expect("it seals");
    disk.kill();
    disk.flip_bit(FIRST, ends[1].0 + HEADER_BYTES as u64 + 3, 1);
    disk
}

/// Opens the log and gives these groups up. Returns where they count from.
fn give_up(
    disk: &SimDisk,
    groups: &[GroupId],
    from: &BTreeMap<GroupId, LogOffset>,
) -> (Opened, LogOffset) {
    let mut end = LogOffset(0);
    let opened: Result<Opened, LogError> = Log::open_judged(
        disk.mount(),
        options(),
        7,
        LogMark::default(),
        from.clone(),
        |_, _, at| {
            end = at;
            Ok(groups.iter().copied().collect::<BTreeSet<_>>())
        },
    );
    (opened.expect("the log opens"), end)
}

/// Goal: who judges sees where the damage lies, and reads what there is; what it refuses leaves no trace.
#[test]
fn nothing_is_written_before_the_judgement() {
    let disk = damaged();
    let before = disk.mount().list("log").expect("it lists");
    disk.kill();
    let mut is_judged = false;
    let refused = Log::open_judged(
        disk.mount(),
        options(),
        7,
        LogMark::default(),
        BTreeMap::new(),
        |found, reader, _| {
            is_judged = true;
            assert_eq!(found.damage[0].kind, DamageKind::Frames);
            assert!(!found.end_lost);
            let behind = |group| -> Vec<bool> {
                found.groups[&group].frames.iter().map(|frame| frame.behind_damage).collect()
            };
            assert_eq!((behind(ONE), behind(TWO)), (vec![false], vec![false, true]));
            assert_eq!(reader.read(TWO, Slot(1), 1000).expect("readable").len(), 2);
            Err(LogError::Poisoned { reason: "no".to_owned() })
        },
    );
    assert!(is_judged && refused.is_err());
    disk.kill();
    assert_eq!(disk.mount().list("log").expect("it lists"), before);
}

/// Goal: a group that is given up begins anew, whatever the next starts find of it; the other one stays, also
/// across power cuts in between.
#[test]
fn what_is_given_up_never_comes_back() {
    let disk = damaged();
    let ((_, reader, _), end) = give_up(&disk, &[ONE], &BTreeMap::new());
    let two = [frame(2, 1, 1, 2, 40), frame(2, 2, 2, 4, 40)];
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&two));
    let from = BTreeMap::from([(ONE, end)]);
    // Before anything of it is written again.
    disk.crash_as(CrashMode::DropAll, 3);
    let ((_, reader, _), _) = give_up(&disk, &[], &from);
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&two));
    drop(reader);
    let ((mut again, _, _), _) = give_up(&disk, &[], &from);
    let anew = frame(1, 2, 5, 9, 40);
    again.append(std::slice::from_ref(&anew)).expect("it appends");
    again.sync().expect("it syncs");
    disk.kill();
    let ((_, reader, found), _) = give_up(&disk, &[], &from);
    let all = [two[0].clone(), two[1].clone(), anew];
    assert_eq!(contents_read(&reader).expect("readable"), contents_of(&all));
    assert!(found.groups[&ONE].frames[0].behind_damage, "what only an earlier start saw is behind");
}

/// Goal: a newest segment that is cut short may have lost frames of everybody, and says so.
#[test]
fn an_end_that_is_cut_off_is_lost() {
    let disk = damaged();
    disk.mount().open(FIRST).expect("there").set_len(2000).expect("it cuts");
    disk.kill();
    let mut is_lost = false;
    let opened: Result<Opened, LogError> = Log::open_judged(
        disk.mount(),
        options(),
        7,
        LogMark::default(),
        BTreeMap::new(),
        |found, _, _| {
            is_lost = found.end_lost;
            Ok(BTreeSet::new())
        },
    );
    assert!(opened.is_ok() && is_lost);
}
