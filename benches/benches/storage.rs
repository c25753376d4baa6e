//! What storage costs: writing frames, syncing them, finding them again after a start, and a checkpoint
//! of rows into RocksDB. On the disk of the folder for temporary files, so figures are the machine's.
//!
//! `cargo bench -p quorate-benches --bench storage -- --quick`

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quorate_log::{Disk, Frame, Log, LogOptions, LogWriter, RealDisk};
use quorate_store::{Change, Durability, Keyspace, Rocks, RocksOptions, Row, Store};
use quorate_types::{GroupId, SliceId, Slot, TableId, Uid, Value};
use tempfile::TempDir;

const GROUP: GroupId = GroupId(1);
/// Frames of one write, each a batch of 64 entries of 280 bytes.
const FRAMES: u64 = 16;
const FRAME_BYTES: usize = 64 * 280;
/// Frames of a log that is opened again: 64 MiB.
const RECOVERED_FRAMES: u64 = 64 * 1024 * 1024 / FRAME_BYTES as u64;
/// Rows of a checkpoint.
const ROWS: u64 = 100_000;
const VALUE_BYTES: usize = 256;

fn frame(slot: u64) -> Frame {
    let body = Bytes::from(vec![slot as u8; FRAME_BYTES]);
    Frame { group: GROUP, first: Slot(slot), last: Slot(slot), body }
}

fn open(folder: &TempDir) -> LogWriter {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(folder.path()).expect("a folder of ours"));
    Log::open(disk, LogOptions::default(), 1).expect("the log opens").0
}

/// Appends the frames behind `last`, and releases those before, so that the log stays small.
fn append(writer: &mut LogWriter, last: &mut u64) {
    let frames: Vec<Frame> = (*last + 1..=*last + FRAMES).map(frame).collect();
    writer.append(&frames).expect("there is room");
    writer.release(GROUP, Slot(*last)).expect("the disk works");
    *last += FRAMES;
}

fn log(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("log, 16 frames of 18 kB");
    benches.throughput(Throughput::Bytes(FRAMES * FRAME_BYTES as u64));
    let folder = tempfile::tempdir().expect("a folder");
    let (mut writer, mut last) = (open(&folder), 0);
    benches.bench_function("append", |bencher| bencher.iter(|| append(&mut writer, &mut last)));
    benches.bench_function("append and sync", |bencher| {
        bencher.iter(|| {
            append(&mut writer, &mut last);
            writer.sync().expect("the disk works");
        });
    });
    benches.finish();

    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = open(&folder);
    for slot in 1..=RECOVERED_FRAMES {
        writer.append(&[frame(slot)]).expect("there is room");
    }
    writer.seal().expect("the disk works");
    drop(writer);
    let mut benches = criterion.benchmark_group("log, start");
    benches.throughput(Throughput::Bytes(RECOVERED_FRAMES * FRAME_BYTES as u64));
    benches.sample_size(10).measurement_time(Duration::from_secs(5));
    benches.bench_function("recovery of 64 MiB", |bencher| bencher.iter(|| open(&folder)));
    benches.finish();
}

/// A change of every row, in an order that is not theirs.
fn changes(round: u64) -> impl Iterator<Item = Vec<Change>> {
    (0..ROWS).map(move |number| {
        let uid = Uid(number.wrapping_mul(61_803_398_877) % ROWS);
        let key = Keyspace::first(GROUP).row(SliceId((uid.0 % 100) as u16), TableId(2), uid, b"b0");
        let value = Value::Bytes(Bytes::from(vec![round as u8; VALUE_BYTES]));
        let row = Row { slot: Slot(number), value };
        vec![Change { key, value: Some(row.encode()) }]
    })
}

fn store(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Rocks::open(folder.path(), &RocksOptions::normal()).expect("RocksDB opens");
    let store = Store::open(Arc::new(engine), [GROUP]).expect("a new store");
    let mut slot = Slot::ZERO;
    let mut round = 0;
    let mut fill = || {
        round += 1;
        for change in changes(round) {
            slot = slot.next();
            store.apply(GROUP, slot, change);
        }
    };
    let mut benches = criterion.benchmark_group("store, 100,000 rows of 256 B");
    benches.throughput(Throughput::Elements(ROWS));
    benches.sample_size(10).measurement_time(Duration::from_secs(5));
    let checkpoint = || {
        let begun = store.begin_checkpoint(Vec::new).expect("rows have changed");
        store.write_checkpoint(&begun, Durability::Buffered).expect("RocksDB writes");
        store.finish_checkpoint(begun);
    };
    benches.bench_function("apply", |bencher| {
        bencher.iter_batched(
            || {
                if 0 < store.changed_bytes() {
                    checkpoint();
                }
            },
            |()| fill(),
            BatchSize::PerIteration,
        );
    });
    benches.bench_function("checkpoint", |bencher| {
        bencher.iter_batched(&mut fill, |()| checkpoint(), BatchSize::PerIteration);
    });
    benches.finish();
}

criterion_group!(benches, log, store);
criterion_main!(benches);
