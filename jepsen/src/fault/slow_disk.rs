//! A slow disk: the node that leads every group may suddenly write only little.
//!
//! Twice: first it hardly moves, and leadership must go elsewhere soon. Then, leading again, it limps:
//! slower than its groups would like, and not stuck. How long clients wait and how much is done is
//! measured.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Order;
use crate::Failure;
use crate::cluster::Node;
use crate::health::{leaders, wait_healthy};
use crate::report::{Outcome, ms, seconds};
use crate::throttle::Throttle;
use crate::trial::{Setup, Trial};
use crate::volume::Volume;

const FAULT: &str = "slow-disk";
/// Bytes of the disk of the slow node.
const DISK_BYTES: u64 = 512 * 1024 * 1024;
/// What a limping disk writes in a second.
const LIMPING: u64 = 64 * 1024;
/// What a disk that hardly moves writes in a second.
const HARDLY_MOVING: u64 = 1024;
/// For how long it is slow each time.
const SLOW: Duration = Duration::from_secs(8);
/// Longest that clients may wait for others to take over from a disk that hardly moves.
const STALL_MAX: Duration = Duration::from_secs(5);

/// One slow disk.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    std::fs::create_dir_all(folder)?;
    if let Err(lacking) = Volume::probe(folder) {
        return Ok(Outcome::skipped(FAULT, lacking.0));
    }
    let node = Node::ALL[0];
    let mut setup = Setup::new(options, folder)?;
    setup.add_volume(node, DISK_BYTES)?;
    let (_, volume) = &setup.volumes[0];
    let made = Throttle::create(&volume.device_number()?);
    let checked = made.and_then(|made| made.check_felt(volume.mount_point()).map(|()| made));
    let throttle = match checked {
        Ok(throttle) => throttle,
        Err(lacking) => return Ok(Outcome::skipped(FAULT, lacking.0)),
    };

    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    // Dropped before the trial: a process does not end while its writes wait for a slow disk.
    let mut throttle = throttle;
    trial.lead(node).await?;
    trial.begin_round();
    let before = measure(&mut trial, node, "as it is").await?;
    trial.struck(false);
    throttle.set(HARDLY_MOVING)?;
    throttle.limit(trial.cluster.pid(node)?)?;
    let hardly = measure(&mut trial, node, "hardly moving").await?;
    throttle.lift()?;
    trial.lead(node).await?;
    throttle.set(LIMPING)?;
    let limping = measure(&mut trial, node, "limping").await?;
    drop(throttle);
    for seen in &hardly.groups {
        if STALL_MAX < seen.stall {
            let text = format!("g{} stood for {:?} behind a slow disk", seen.group, seen.stall);
            trial.note_wrong(text);
        }
    }
    if hardly.moved.is_none() {
        trial.note_wrong(format!("{node} went on leading with a disk that hardly moves"));
    }
    wait_healthy(&mut trial.cluster, &Node::ALL).await?;
    trial.wait_done(1).await?;
    trial.end_load().await?;
    trial.check_recent().await?;
    let facts = json!({
        "as_it_is": before.json(), "hardly_moving": hardly.json(), "limping": limping.json(),
    });
    trial.finish(FAULT, 1, facts).await
}

/// What clients saw while the disk was like this.
struct Seen {
    /// When no group was led by the slow node any more.
    moved: Option<Duration>,
    groups: Vec<SeenGroup>,
}

struct SeenGroup {
    group: u32,
    stall: Duration,
    done: u64,
}

impl Seen {
    fn json(&self) -> Value {
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|it| json!({ "group": it.group, "stall_ms": ms(it.stall), "done": it.done }))
            .collect();
        json!({ "moved_ms": self.moved.map(ms), "groups": groups })
    }
}

/// Looks at leaders and pulses for a while.
async fn measure(trial: &mut Trial, node: Node, name: &str) -> Result<Seen, Failure> {
    trial.ledger.reset_pulses();
    let (since, mut moved) = (Instant::now(), None);
    while since.elapsed() < SLOW {
        let led = leaders(&trial.client).await;
        if moved.is_none() && led.len() == 2 && led.values().all(|leader| *leader != node) {
            moved = Some(since.elapsed());
        }
        if let Some(ended) = trial.cluster.ended()? {
            return Err(ended.into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = Instant::now();
    let pulses = trial.ledger.book().pulses.clone();
    let groups: Vec<SeenGroup> = pulses
        .into_iter()
        .map(|(group, pulse)| SeenGroup { group, stall: pulse.stall(now), done: pulse.done })
        .collect();
    let led = match moved {
        Some(after) => format!("led elsewhere after {} s", seconds(after)),
        None => format!("led by {node} all the time"),
    };
    println!("  {name}: {led}");
    for SeenGroup { group, stall, done } in &groups {
        let rate = done / SLOW.as_secs();
        println!(
            "    g{group}: {rate} acknowledged a second, waited at most {} s",
            seconds(*stall)
        );
    }
    Ok(Seen { moved, groups })
}
