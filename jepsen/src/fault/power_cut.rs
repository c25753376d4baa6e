//! Power cuts: what is not on the device is gone.
//!
//! Every node lives on a file system of its own in an image file. A cut stops the processes, switches
//! the file systems off and copies the images. The nodes then go on with the copies: their page caches,
//! and everything that was never written to the device, are left behind.
//!
//! Before it counts, the method must show that it finds what it looks for: in a control run the
//! servers' syncs do nothing, and acknowledged writes must be missing.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use rand::seq::IndexedRandom;
use serde_json::json;

use super::Order;
use crate::Failure;
use crate::cluster::Node;
use crate::health::{Started, wait_healthy, wait_started};
use crate::host;
use crate::options::Options;
use crate::output::Way;
use crate::report::{Outcome, TITLES};
use crate::trial::{Setup, Trial, rounds_json};
use crate::volume::Volume;

const FAULT: &str = "power-cut";
/// Bytes of the disk of a node. The image is sparse: it takes what was written.
const DISK_BYTES: u64 = 1024 * 1024 * 1024;
/// Load of the control run, before its only cut.
const CONTROL_LOAD: Duration = Duration::from_secs(2);

/// The control run, then the rounds.
pub(crate) async fn run(order: Order<'_>) -> Result<Outcome, Failure> {
    let Order { options, folder, seed } = order;
    std::fs::create_dir_all(folder)?;
    let lacking = Volume::probe(folder)
        .and_then(|()| Ok((host::cut_power_helper(folder)?, host::no_sync_helper(folder)?)));
    let (cut_power, no_sync) = match lacking {
        Ok(helpers) => helpers,
        Err(lacking) => return Ok(Outcome::skipped(FAULT, lacking.0)),
    };
    let control = control(order, &cut_power, &no_sync).await?;
    println!("control run, without syncs: {}", control.line());

    let mut trial = Trial::start(with_disks(options, folder)?, options.full_load(), seed).await?;
    println!("{TITLES}");
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let number = trial.begin_round();
        let count = victims(number);
        let nodes: Vec<Node> =
            Node::ALL.choose_multiple(&mut trial.random, count).copied().collect();
        let load = trial.run_load(options).await;
        cut(&mut trial, &nodes, &cut_power)?;
        let round = trial.recover(&nodes, load).await?;
        println!("{}", round.line());
        rounds.push(round);
    }
    if !control.noticed() {
        trial.note_wrong("the control run lost nothing: a missing sync would go unnoticed".into());
    }
    let mut facts = rounds_json(&rounds);
    facts["control"] = json!({
        "done": control.done, "missing": control.missing, "refused": control.refused,
    });
    trial.finish(FAULT, options.rounds, facts).await
}

/// How many nodes lose their power: one in every third round, otherwise all.
fn victims(round: u64) -> usize {
    if round % 3 == 2 { 1 } else { Node::ALL.len() }
}

fn with_disks(options: &Options, folder: &Path) -> Result<Setup, Failure> {
    let mut setup = Setup::new(options, folder)?;
    for node in Node::ALL {
        setup.add_volume(node, DISK_BYTES)?;
    }
    Ok(setup)
}

/// Cuts the power of these nodes. When this returns, their disks hold what was on the devices, and no
/// process of theirs is left.
fn cut(trial: &mut Trial, nodes: &[Node], helper: &Path) -> Result<(), Failure> {
    let mut words: Vec<OsString> = Vec::new();
    for node in nodes {
        words.push(trial.cluster.pid(*node)?.as_raw_nonzero().to_string().into());
    }
    words.push("--".into());
    let mut struck: Vec<&mut Volume> = trial
        .volumes
        .iter_mut()
        .filter(|(node, _)| nodes.contains(node))
        .map(|(_, it)| it)
        .collect();
    words.extend(struck.iter().map(|volume| volume.mount_point().into()));
    host::run(helper, &words)?;
    // Whatever they still hold in memory dies with them; the disks do not take it any more.
    trial.cluster.end(nodes)?;
    std::thread::scope(|scope| {
        let copying: Vec<_> =
            struck.iter_mut().map(|volume| scope.spawn(|| volume.become_copy())).collect();
        copying.into_iter().try_for_each(|copy| match copy.join() {
            Ok(copied) => copied,
            Err(_) => Err("copying an image panicked".into()),
        })
    })?;
    trial.struck(nodes.len() == Node::ALL.len());
    Ok(())
}

/// What the control run lost.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Control {
    done: u64,
    missing: u64,
    /// Nodes that did not start with what was left, and what they said.
    refused: Vec<String>,
}

impl Control {
    fn noticed(&self) -> bool {
        0 < self.missing || !self.refused.is_empty()
    }

    fn line(&self) -> String {
        let Control { done, missing, refused } = self;
        let verdict = if self.noticed() { "noticed, as it must be" } else { "NOT noticed" };
        let lost = if refused.is_empty() {
            format!("{missing} of {done} acknowledged writes are missing")
        } else {
            format!("after {done} acknowledged writes, refused to start: {}", refused.join("; "))
        };
        format!("{lost}: {verdict}")
    }
}

/// One cut of servers whose syncs do nothing.
async fn control(order: Order<'_>, cut_power: &Path, no_sync: &Path) -> Result<Control, Failure> {
    let Order { options, folder, seed } = order;
    let folder = folder.join("control");
    let mut setup = with_disks(options, &folder)?;
    setup.cluster.set_launcher(Some(no_sync.to_owned()));
    let mut trial = Trial::start(setup, options.full_load(), seed).await?;
    trial.is_quiet = true;
    trial.begin_round();
    tokio::time::sleep(CONTROL_LOAD).await;
    cut(&mut trial, &Node::ALL, cut_power)?;
    let done = trial.ledger.book().tally.done;
    trial.cluster.set_launcher(None);
    trial.cluster.start(&Node::ALL)?;
    let mut refused = Vec::new();
    for node in Node::ALL {
        match wait_started(&mut trial.cluster, &trial.client, node).await? {
            Started::Ready => {}
            Started::Neither => refused.push(format!("{node}: not ready in time")),
            Started::Ended(ending) => refused.push(match ending.way {
                Way::Coded(code) => format!("{node}: {code}"),
                Way::StoppedItself | Way::Crashed => format!("{node}: {}", ending.reason),
            }),
        }
    }
    let mut missing = 0;
    if refused.is_empty() {
        wait_healthy(&mut trial.cluster, &Node::ALL).await?;
    }
    trial.end_load().await?;
    if refused.is_empty() {
        missing = trial.check_all().await?.missing;
    }
    trial.client.close().await;
    trial.cluster.end(&Node::ALL)?;
    for (_, volume) in std::mem::take(&mut trial.volumes) {
        volume.remove()?;
    }
    Ok(Control { done, missing, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_cuts_all_and_one() {
        assert_eq!((1..=3).map(victims).collect::<Vec<_>>(), [3, 1, 3]);
    }

    #[test]
    fn a_control_run_that_loses_nothing_is_not_taken_for_a_proof() {
        let mut control = Control { done: 9, missing: 0, refused: vec![] };
        assert!(!control.noticed());
        control.missing = 1;
        assert!(control.noticed());
        control = Control { done: 9, missing: 0, refused: vec!["n1: LOG_DAMAGED".into()] };
        assert!(control.noticed());
    }
}
