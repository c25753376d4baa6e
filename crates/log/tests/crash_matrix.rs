//! Goal: wherever the power fails, no synced frame and no stored promise is lost, and nothing that
//! was never written appears.
//!
//! A scripted life of a node is cut after every single step it does on the disk, with every kind of
//! outcome for what was not synced, and again during the recovery from that.

mod common;

use std::collections::BTreeMap;

use common::{Contents, contents_of, contents_read, floors, frame, options, record};
use quorate_log::{
    CrashMode, Frame, Log, LogError, LogMark, LogReader, LogWriter, NodeRecord, Opened,
    PromiseFile, SimDisk, check_floors,
};
use quorate_types::{GroupId, Slot};

/// What the node was told and what it told others.
#[derive(Clone, Default)]
struct Model {
    /// Every frame appended, in order; the last append may have failed.
    frames: Vec<Frame>,
    /// So many of them were synced.
    acked: usize,
    released: BTreeMap<GroupId, Slot>,
    /// The last promise stored, and the last one tried.
    promised: Option<u64>,
    tried: Option<u64>,
}

impl Model {
    /// Which prefix of the appended frames the log holds.
    fn prefix_of(&self, found: &Contents) -> Option<usize> {
        (self.acked..=self.frames.len()).rev().find(|count| {
            let expected = contents_of(&self.frames[..*count]);
            let released = |group, slot| self.released.get(&group).is_some_and(|r| slot <= *r);
            found.iter().all(|(key, body)| expected.get(key) == Some(body))
                && expected.iter().all(|((group, slot), _)| {
                    found.contains_key(&(*group, *slot)) || released(*group, *slot)
                })
        })
    }
}

struct Node {
    writer: LogWriter,
    reader: LogReader,
    promises: PromiseFile,
    /// What the promise file holds.
    record: NodeRecord,
}

/// Starts the node and checks what it finds against the model.
fn start(disk: &SimDisk, model: &mut Model) -> Result<Node, LogError> {
    let (mut promises, opened) = PromiseFile::open(disk.mount())?;
    let found: NodeRecord = match opened {
        Opened::Valid(found) => found,
        Opened::Fresh => {
            assert_eq!(model.promised, None, "a stored promise is gone");
            model.tried = Some(0);
            promises.store(&record(0))?;
            record(0)
        }
        Opened::Unreadable { reason } => {
            panic!("a power cut made the promises unreadable: {reason}")
        }
    };
    let round = found.groups[&GroupId(1)].promised.round;
    let plain = NodeRecord { version: 0, log: LogMark::default(), ..found.clone() };
    assert_eq!(plain, record(round));
    assert!(model.promised.is_none_or(|promised| promised <= round), "a promise regressed");
    assert!(model.tried.is_some_and(|tried| round <= tried), "a promise from nowhere");
    model.promised = Some(round);

    let opened = Log::open_from(disk.mount(), options(), 0xfeed, found.log);
    if let Err(error @ LogError::EndMissing { .. }) = &opened {
        panic!("a power cut takes no end of the log away: {error}");
    }
    let (writer, reader, recovered) = opened?;
    assert_eq!(recovered.damage, [], "a power cut is not damage: {:?}", recovered.decisions);
    check_floors(&found, &recovered.floors).expect("promises are durable before floors");
    let held = contents_read(&reader)?;
    let Some(count) = model.prefix_of(&held) else {
        panic!("lost or invented frames: {:?}\n{:?}", held.keys(), recovered.decisions)
    };
    // What is reported is durable: from here on it must not go away again.
    model.frames.truncate(count);
    model.acked = count;
    let mut node = Node { writer, reader, promises, record: found };
    node.record_segment()?;
    Ok(node)
}

impl Node {
    fn append(&mut self, model: &mut Model, frames: &[Frame]) -> Result<(), LogError> {
        model.frames.extend_from_slice(frames);
        self.writer.append(frames).map(|_| ())
    }

    fn sync(&mut self, model: &mut Model) -> Result<(), LogError> {
        let durable = self.writer.sync()?;
        assert_eq!(durable, self.writer.end());
        self.record_segment()?;
        model.acked = model.frames.len();
        Ok(())
    }

    /// As the log thread does: before anything in a new segment is reported.
    fn record_segment(&mut self) -> Result<(), LogError> {
        if self.writer.mark().segment == self.record.log.segment {
            return Ok(());
        }
        self.record.log = self.writer.mark();
        self.promises.store(&self.record)
    }

    fn promise(&mut self, model: &mut Model, round: u64) -> Result<(), LogError> {
        self.record = NodeRecord { log: self.writer.mark(), ..record(round) };
        model.tried = Some(round);
        self.promises.store(&self.record)?;
        model.promised = Some(round);
        self.writer.set_floors(floors(&self.record));
        Ok(())
    }

    fn release(&mut self, model: &mut Model, group: u32, upto: u64) -> Result<(), LogError> {
        model.released.insert(GroupId(group), Slot(upto));
        self.writer.release(GroupId(group), Slot(upto))?;
        let segment = self.writer.mark().segment;
        self.writer.free_oldest()?;
        assert_eq!(self.writer.mark().segment, segment, "copied to where the promise file knows");
        Ok(())
    }

    /// Several groups, one of which rests from the beginning on, syncs of several appends, rolls, cuts of
    /// suffixes, releases, promises.
    fn live(&mut self, model: &mut Model) -> Result<(), LogError> {
        let mut mark = 0;
        let mut make = |group, first, last, bytes| {
            mark += 1;
            frame(group, first, last, mark, bytes)
        };
        self.append(model, &[make(1, 1, 3, 90), make(4, 1, 2, 80), make(2, 1, 1, 700)])?;
        self.sync(model)?;
        self.promise(model, 1)?;
        self.append(model, &[make(1, 4, 10, 1200), make(3, 5, 9, 40)])?;
        self.append(model, &[make(2, 2, 4, 333)])?;
        self.sync(model)?;
        self.writer.seal()?;
        // Cuts the middle of a frame, then a whole one, then goes on.
        self.append(model, &[make(1, 6, 8, 500)])?;
        self.append(model, &[make(1, 9, 9, 10), make(1, 6, 7, 800), make(2, 5, 5, 10)])?;
        self.sync(model)?;
        self.promise(model, 5)?;
        self.append(model, &[make(3, 10, 12, 1500), make(1, 8, 20, 1500), make(2, 6, 6, 1500)])?;
        self.release(model, 1, 7)?;
        self.sync(model)?;
        self.release(model, 2, 5)?;
        self.release(model, 3, 9)?;
        self.append(model, &[make(2, 6, 7, 2000)])?;
        self.append(model, &[make(1, 21, 21, 2000)])?;
        self.sync(model)?;
        self.release(model, 3, 12)?;
        self.release(model, 1, 20)?;
        self.promise(model, 6)?;
        self.writer.roll()?;
        self.append(model, &[make(3, 13, 13, 3000), make(3, 14, 14, 3000), make(3, 14, 15, 99)])?;
        self.sync(model)?;
        self.writer.seal()?;
        self.release(model, 2, 7)?;
        self.append(model, &[make(1, 22, 22, 64), make(2, 8, 8, 64)])?;
        assert_eq!(Some(model.frames.len()), model.prefix_of(&contents_read(&self.reader)?));
        let segments = self.writer.stats().segments;
        assert!(segments < 5, "the group that rests keeps {segments} segments");
        Ok(())
    }

    /// A short life after a recovery.
    fn live_on(&mut self, model: &mut Model, mark: u64) -> Result<(), LogError> {
        self.append(model, &[frame(9, mark, mark, mark, 50), frame(8, mark, mark, mark, 600)])?;
        self.sync(model)?;
        self.promise(model, 10 + mark)?;
        self.append(model, &[frame(9, mark + 1, mark + 1, mark, 30)])
    }
}

fn whole_life(disk: &SimDisk, model: &mut Model) -> Result<(), LogError> {
    let mut node = start(disk, model)?;
    node.live(model)
}

/// Lives until the given step. Returns whether it was reached.
fn life_until(step: u64) -> Option<(SimDisk, Model)> {
    let (disk, mut model) = (SimDisk::new(), Model::default());
    disk.stop_after(step);
    let done = whole_life(&disk, &mut model);
    assert!(done.is_ok() || disk.is_stopped(), "only the stop makes it fail: {done:?}");
    disk.is_stopped().then_some((disk, model))
}

#[test]
fn a_power_cut_after_every_step_loses_nothing() {
    let mut runs = 0;
    for step in 0.. {
        if life_until(step).is_none() {
            break;
        }
        for mode in CrashMode::ALL {
            for seed in 0..6 {
                let (disk, mut model) = life_until(step).expect("it stopped before");
                disk.crash_as(mode, seed);
                let mut node = start(&disk, &mut model).expect("it starts");
                node.live_on(&mut model, 1).expect("it lives on");
                disk.crash_as(mode, seed + 100);
                start(&disk, &mut model).expect("it starts again");
                runs += 1;
            }
        }
    }
    assert!(3_000 < runs, "the script has become too short: {runs} runs");
    println!("{runs} power cuts");
}

#[test]
fn a_power_cut_during_recovery_loses_nothing() {
    let mut runs = 0;
    for step in 0.. {
        if life_until(step).is_none() {
            break;
        }
        for (seed, mode) in CrashMode::ALL.into_iter().enumerate() {
            for second in 0.. {
                let (disk, mut model) = life_until(step).expect("it stopped before");
                // The first death alternates: a killed process leaves more that is not durable.
                let seed = seed as u64 + step + second;
                match seed % 2 {
                    0 => disk.kill(),
                    _ => disk.crash_as(mode, seed),
                }
                disk.stop_after(second);
                let recovered = start(&disk, &mut model).is_ok();
                disk.crash_as(mode, seed + 1);
                let mut node = start(&disk, &mut model).expect("it starts");
                node.live_on(&mut model, 1).expect("it lives on");
                runs += 1;
                if recovered {
                    break;
                }
            }
        }
    }
    assert!(5_000 < runs, "the script has become too short: {runs} runs");
    println!("{runs} double crashes");
}

#[test]
fn any_sequence_of_kills_and_cuts_loses_nothing() {
    for seed in 0..400_u64 {
        let (disk, mut model) = life_until(20 + seed % 60).expect("the script is longer");
        for round in 0..8 {
            let dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(round) >> 40;
            match dice % 3 {
                0 => disk.kill(),
                _ => disk.crash(seed + u64::from(round)),
            }
            disk.stop_after(dice % 40);
            if let Ok(mut node) = start(&disk, &mut model) {
                let _ = node.live_on(&mut model, 1 + u64::from(round) * 2);
            }
        }
        disk.crash(seed);
        start(&disk, &mut model).expect("it starts");
    }
}

#[test]
fn a_killed_process_loses_nothing_it_was_told_even_if_power_fails_later() {
    // Frames above the last known sync are readable after a kill but may not be on the disk: once
    // reported they must be.
    for seed in 0..50 {
        let (disk, mut model) = (SimDisk::new(), Model::default());
        let mut node = start(&disk, &mut model).expect("it starts");
        node.append(&mut model, &[frame(1, 1, 1, 0, 100)]).expect("it appends");
        disk.kill();
        start(&disk, &mut model).expect("it starts");
        assert_eq!(model.acked, 1, "a kill keeps the page cache");
        disk.crash_as(CrashMode::DropAll, seed);
        start(&disk, &mut model).expect("it starts");
        assert_eq!(model.acked, 1, "what was reported is durable");
    }
}

#[test]
fn a_frame_is_kept_until_the_one_that_cuts_it_is_durable() {
    let (disk, mut model) = (SimDisk::new(), Model::default());
    let mut node = start(&disk, &mut model).expect("it starts");
    node.append(&mut model, &[frame(1, 1, 3, 0, 100)]).expect("it appends");
    node.sync(&mut model).expect("it syncs");
    node.writer.roll().expect("it rolls");
    node.append(&mut model, &[frame(1, 1, 1, 1, 100)]).expect("it appends");
    node.release(&mut model, 2, 1).expect("it releases");
    disk.crash_as(CrashMode::DropAll, 0);
    start(&disk, &mut model).expect("it starts");
    assert_eq!(model.acked, 1, "the cut never happened");
}

#[test]
fn a_failed_sync_stops_the_writer_for_ever_and_invents_nothing() {
    let (disk, mut model) = (SimDisk::new(), Model::default());
    let mut node = start(&disk, &mut model).expect("it starts");
    node.append(&mut model, &[frame(1, 1, 1, 0, 100)]).expect("it appends");
    disk.set_fail_syncs(true);
    assert!(matches!(node.writer.sync(), Err(LogError::Io { .. })));
    disk.set_fail_syncs(false);
    assert!(matches!(node.writer.sync(), Err(LogError::Poisoned { .. })), "no second try");
    assert!(matches!(node.writer.append(&[]), Err(LogError::Poisoned { .. })));
    disk.kill();
    // The frame is readable and was never written: recovery must write it before it reports it.
    start(&disk, &mut model).expect("it starts");
    assert_eq!(model.acked, 1);
    disk.crash(1);
    start(&disk, &mut model).expect("it starts");
}
