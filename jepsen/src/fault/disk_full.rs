//! A full disk: one node has a small disk, and a file takes what is left of it.
//!
//! First the node leads, and less is left than it keeps back: it must hand its leaderships over, and say
//! `DISK_FULL` until then. Then nothing is left: it must end in good order or do without, and the others
//! go on. When there is room again, it comes back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_client::Uid;
use serde_json::{Value, json};

use super::Order;
use crate::Failure;
use crate::cluster::Node;
use crate::health::{Started, wait_healthy, wait_started};
use crate::ledger::Pulse;
use crate::output::Way;
use crate::report::{Outcome, ms, seconds};
use crate::trial::{Setup, Trial};
use crate::volume::Volume;
use crate::workload::TABLE;

const FAULT: &str = "disk-full";
/// Bytes of the small disk.
const DISK_BYTES: u64 = 192 * 1024 * 1024;
/// What the first file leaves: less than a tenth, which a node keeps back.
const LEFT_BYTES: u64 = 12 * 1024 * 1024;
/// Longest wait for another leader: the node looks at its disk every half second when idle.
const STALL_MAX: Duration = Duration::from_secs(5);
/// How long each shortage lasts.
const SPAN: Duration = Duration::from_secs(8);
/// Writes before the disk runs full.
const BEFORE: u64 = 1000;
/// The user whose row is written to see what clients are told.
const PROBE_UID: u64 = 7_000_000;
/// Between two such writes.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// How long that write may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// The word for a write that was acknowledged.
const DONE: &str = "done";
/// The code of a node that takes no writes for want of room.
const DISK_FULL: &str = "DISK_FULL";

/// Both shortages, then room again.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    std::fs::create_dir_all(folder)?;
    if let Err(lacking) = Volume::probe(folder) {
        return Ok(Outcome::skipped(FAULT, lacking.0));
    }
    let node = Node::ALL[0];
    let mut setup = Setup::new(options, folder)?;
    setup.add_volume(node, DISK_BYTES)?;
    let filler = setup.volumes[0].1.mount_point().join("filler");
    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    trial.lead(node).await?;
    trial.begin_round();
    trial.wait_done(BEFORE).await?;

    trial.struck(false);
    fill(&filler, LEFT_BYTES)?;
    let leading = shortage(&mut trial, node, "leads with little room").await?;
    if leading.told.keys().any(|word| word != DONE && word != DISK_FULL) {
        let text = format!("a leader with little room made clients see {:?}", leading.told);
        trial.note_wrong(text);
    }
    for (group, pulse) in &leading.pulses {
        let stall = pulse.stall(leading.ended_at);
        if STALL_MAX < stall {
            let stall = seconds(stall);
            let text = format!("g{group} waited {stall} s for a leader with room");
            trial.note_wrong(text);
        }
    }
    fill(&filler, 0)?;
    let following = shortage(&mut trial, node, "follows with no room").await?;
    for (group, pulse) in &following.pulses {
        if pulse.done == 0 {
            let text = format!("g{group} took no write, though two nodes had room");
            trial.note_wrong(text);
        }
    }
    fs::remove_file(&filler)?;
    let back = come_back(&mut trial, node).await?;
    trial.wait_done(1).await?;
    trial.end_load().await?;
    trial.check_recent().await?;
    let facts =
        json!({ "leading": leading.json(), "following": following.json(), "back_ms": ms(back) });
    trial.finish(FAULT, 1, facts).await
}

/// Writes zeros into a file until so many bytes are left on its disk.
fn fill(path: &Path, left: u64) -> Result<(), Failure> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let zeros = vec![0; 256 * 1024];
    loop {
        let stat = rustix::fs::fstatvfs(&file)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free <= left {
            break;
        }
        let part = usize::try_from(free - left).unwrap_or(usize::MAX).min(zeros.len());
        match file.write_all(&zeros[..part]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
            Err(error) => return Err(error.into()),
        }
    }
    // What is only in memory takes no room yet.
    match file.sync_all() {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error.into()),
        _ => Ok(()),
    }
}

/// What was seen while the disk was short of room.
struct Shortage {
    /// What became of the node.
    node: String,
    /// Answers to a write, by how often.
    told: BTreeMap<String, u64>,
    span: Duration,
    pulses: BTreeMap<u32, Pulse>,
    ended_at: Instant,
}

impl Shortage {
    fn json(&self) -> Value {
        let groups: Vec<Value> = self
            .pulses
            .iter()
            .map(|(group, pulse)| {
                let stall = ms(pulse.stall(self.ended_at));
                json!({ "group": group, "done": pulse.done, "stall_ms": stall })
            })
            .collect();
        json!({ "node": self.node, "told": self.told, "ms": ms(self.span), "groups": groups })
    }
}

/// What clients are told and what becomes of the node while its disk is like this.
async fn shortage(trial: &mut Trial, node: Node, name: &str) -> Result<Shortage, Failure> {
    trial.ledger.reset_pulses();
    let since = Instant::now();
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    // A steady load, not a wait: what is asked for is what happens during all of the span.
    let mut pace = tokio::time::interval(PROBE_EVERY);
    while since.elapsed() < SPAN {
        pace.tick().await;
        let probe = trial.client.with_timeout(PROBE_TIMEOUT);
        let word = match probe.put(TABLE, Uid(PROBE_UID), "probe", "probe").await {
            Ok(_) => DONE.to_owned(),
            Err(error) => {
                error.last_answer().map_or_else(|| error.code(), |last| last.code).to_string()
            }
        };
        *told.entry(word).or_default() += 1;
    }
    let (ended_at, span) = (Instant::now(), since.elapsed());
    let pulses = trial.ledger.book().pulses.clone();
    let word = match trial.cluster.ending(node)? {
        None => "runs".to_owned(),
        Some(ending) => match ending.way {
            Way::Coded(code) => format!("ended {code}"),
            Way::StoppedItself => "stopped itself".to_owned(),
            Way::Crashed => {
                trial.note_wrong(format!("{name}: {node} crashed: {}", ending.reason));
                "CRASHED".to_owned()
            }
        },
    };
    println!("  {node} {name}: it {word}; clients were told {told:?}");
    for (group, pulse) in &pulses {
        println!(
            "    g{group}: {} acknowledged, {} not, waited at most {} s of {} s",
            pulse.done,
            pulse.failed,
            seconds(pulse.stall(ended_at)),
            seconds(span)
        );
    }
    Ok(Shortage { node: word, told, span, pulses, ended_at })
}

/// There is room again: the node is started if it has ended, and all is well.
async fn come_back(trial: &mut Trial, node: Node) -> Result<Duration, Failure> {
    let since = Instant::now();
    if trial.cluster.ending(node)?.is_some() {
        trial.cluster.end(&[node])?;
        trial.cluster.start(&[node])?;
    }
    match wait_started(&mut trial.cluster, &trial.client, node).await? {
        Started::Ready => {}
        other => return Err(format!("{node} did not come back: {other:?}").into()),
    }
    wait_healthy(&mut trial.cluster, &Node::ALL).await?;
    println!("  room again: back after {} s", seconds(since.elapsed()));
    Ok(since.elapsed())
}
