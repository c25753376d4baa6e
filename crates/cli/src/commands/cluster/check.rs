//! `quorate cluster check`: asks every node of the cluster file which file it runs with, who it is and which
//! version it has. Exit 0 if all agree, 10 if one does not or does not answer, 6 if nobody answered.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use quorate_client::NodeStatus;
use quorate_topology::{Node, Topology};
use quorate_types::{Code, Error};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fingerprint;
use crate::args;
use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::commands::topology;
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Document, Output, Table, Tone, error_json};

/// Between two rounds of `--wait`.
const ASK_INTERVAL: Duration = Duration::from_millis(300);

/// Asks every node whether it runs with the same cluster file.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file to compare with; that of the node at --endpoints if left out
    #[arg(long, value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// Asks again until every node runs with the same file, at most this long
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    wait: Option<Duration>,
}

/// What a node said.
struct Answer {
    topology: Topology,
    status: NodeStatus,
}

/// A node and what it said.
struct Asked<'t> {
    node: &'t Node,
    answer: Result<Answer, Error>,
}

/// Runs `quorate cluster check`.
pub(crate) async fn run(args: &CheckArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let reference = match &args.cluster {
        Some(path) => topology::read(path)?,
        None => Cluster::open(global).await?.topology().clone(),
    };
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let agree = |asked: &[Asked<'_>]| asked.iter().all(|asked| judge(&reference, asked).is_ok());
    let mut asked = ask_all(global, &reference).await;
    while !agree(&asked) && deadline.is_some_and(|deadline| Instant::now() < deadline) {
        sleep(ASK_INTERVAL).await;
        asked = ask_all(global, &reference).await;
    }
    show(&reference, &asked, out);
    if asked.iter().all(|asked| asked.answer.is_err()) {
        let reasons: Vec<String> = asked
            .iter()
            .filter_map(|asked| {
                Some(format!("{}: {}", asked.node.name, asked.answer.as_ref().err()?.message))
            })
            .collect();
        let message = format!("no node answered: {}", reasons.join("; "));
        return Err(Failure::new(Code::Unreachable, message));
    }
    if agree(&asked) { Ok(()) } else { Err(Failure::quiet(Exit::Unhealthy)) }
}

/// Asks all nodes at once; answers are in order of node.
async fn ask_all<'t>(global: &Global, reference: &'t Topology) -> Vec<Asked<'t>> {
    let asking = reference
        .nodes()
        .map(|node| async move { Asked { node, answer: Box::pin(ask(global, node)).await } });
    asking.collect::<FuturesOrdered<_>>().collect().await
}

/// Asks the node at the address of a node, whoever that is.
async fn ask(global: &Global, node: &Node) -> Result<Answer, Error> {
    let at = Global { endpoints: Some(node.client.clone()), ..global.clone() };
    let opened = Cluster::open(&at).await;
    let cluster = opened.map_err(|failure| match failure.error() {
        Some(error) => error.clone(),
        None => Error::new(Code::Internal, failure.to_string()),
    })?;
    let status = Box::pin(cluster.client().node_status(&node.client)).await;
    let status = status.map_err(|error| cluster::coded(&error))?;
    Ok(Answer { topology: cluster.topology().clone(), status })
}

/// What is wrong with a node, or nothing.
fn judge(reference: &Topology, asked: &Asked<'_>) -> Result<(), String> {
    let answer = match &asked.answer {
        Ok(answer) => answer,
        Err(error) => return Err(error.message.clone()),
    };
    if answer.topology.cluster_id() != reference.cluster_id() {
        return Err(format!("belongs to cluster {}", answer.topology.cluster_id()));
    }
    if answer.status.node != asked.node.id {
        return Err(format!("node {} answers at this address", answer.status.name));
    }
    if answer.topology == *reference {
        return Ok(());
    }
    let mut message = "runs with another file".to_owned();
    if answer.topology.version() != reference.version() {
        message.push_str(&format!(", version {}", answer.topology.version()));
    }
    if let Some(difference) = first_difference(&reference.to_toml(), &answer.topology.to_toml()) {
        message.push_str(&format!(": {difference}"));
    }
    Err(message)
}

/// The first line in which two canonical texts differ, with the section it belongs to.
fn first_difference(wanted: &str, found: &str) -> Option<String> {
    let mut section = "";
    let mut lines = (wanted.lines(), found.lines());
    loop {
        match (lines.0.next(), lines.1.next()) {
            (None, None) => return None,
            (Some(wanted), Some(found)) if wanted == found => {
                if wanted.starts_with('[') {
                    section = wanted;
                }
            }
            (wanted, found) => {
                let of = |line: Option<&str>| match line {
                    None | Some("") => "nothing".to_owned(),
                    Some(line) => format!("`{line}`"),
                };
                return Some(format!("in {section} {} instead of {}", of(found), of(wanted)));
            }
        }
    }
}

fn show(reference: &Topology, asked: &[Asked<'_>], out: &Output) {
    if !out.is_json() {
        out.say(format_args!(
            "cluster {} ({}), version {}, fingerprint {}",
            reference.name(),
            reference.cluster_id(),
            reference.version(),
            fingerprint(reference)
        ));
        out.table(&table(reference, asked));
    }
    let mut document = Document::new("cluster-check").of_cluster(reference.cluster_id());
    document.items = asked.iter().map(|asked| asked_json(reference, asked)).collect();
    document.errors = asked
        .iter()
        .filter_map(|asked| Some(error_json(asked.answer.as_ref().err()?, None)))
        .collect();
    out.document(&document);
}

fn table(reference: &Topology, asked: &[Asked<'_>]) -> Table {
    let mut table = Table::new(&["NODE", "CLIENT", "VERSION", "FINGERPRINT", "FILE"]);
    for asked in asked {
        let (version, digits) = match &asked.answer {
            Ok(answer) => (answer.status.version.clone(), fingerprint(&answer.topology)),
            Err(_) => ("-".to_owned(), "-".to_owned()),
        };
        let file = match judge(reference, asked) {
            Ok(()) => Cell::toned(Tone::Good, "same"),
            Err(message) => Cell::toned(Tone::Bad, message),
        };
        table.row([
            asked.node.name.as_str().into(),
            asked.node.client.as_str().into(),
            version.into(),
            digits.into(),
            file,
        ]);
    }
    table
}

fn asked_json(reference: &Topology, asked: &Asked<'_>) -> Value {
    let answer = asked.answer.as_ref().ok(); // Why there is none stands in `reason` below.
    json!({
        "node": asked.node.name,
        "node_id": asked.node.id.0,
        "client": asked.node.client,
        "answers": answer.is_some(),
        "same_file": judge(reference, asked).is_ok(),
        "reason": judge(reference, asked).err(),
        "fingerprint": answer.map(|answer| fingerprint(&answer.topology)),
        "topology_version": answer.map(|answer| answer.topology.version().to_string()),
        "version": answer.map(|answer| answer.status.version.clone()),
    })
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::{ClusterId, Incarnation, NodeId};

    use super::*;

    fn topology(change: impl Fn(String) -> String) -> Topology {
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        Topology::parse(&change(text)).expect("valid")
    }

    fn judged(theirs: Topology, node: u32) -> Result<(), String> {
        let reference = topology(|text| text);
        let status = NodeStatus {
            cluster: theirs.cluster_id(),
            node: NodeId(node),
            name: format!("n{node}"),
            incarnation: Incarnation(1),
            version: "0.1.0".to_owned(),
            topology_version: theirs.version(),
            uptime: Duration::from_secs(1),
            draining: false,
            ready: true,
            disk_free_bytes: 1,
            disk_total_bytes: 1,
            log_bytes: 0,
            groups: Vec::new(),
            notices: Vec::new(),
        };
        let asked = Asked {
            node: reference.node_by_name("n2").expect("a node"),
            answer: Ok(Answer { topology: theirs, status }),
        };
        judge(&reference, &asked)
    }

    #[test]
    fn a_node_with_another_file_is_named_with_the_first_difference() {
        // Goal: who sees a difference also sees where it is, and a comment is none.
        assert_eq!(judged(topology(|text| format!("# ours\n{text}")), 2), Ok(()));
        let moved = topology(|text| text.replace("127.0.0.1:6461", "127.0.0.1:7461"));
        assert_eq!(
            judged(moved, 2).expect_err("another address"),
            "runs with another file: in [[node]] `peer = \"127.0.0.1:7461\"` instead of \
             `peer = \"127.0.0.1:6461\"`"
        );
        let newer = topology(|text| text.replace("version = 1", "version = 2"));
        assert!(
            judged(newer, 2).expect_err("newer").starts_with("runs with another file, version 2")
        );
    }

    #[test]
    fn a_node_at_the_wrong_address_and_one_of_another_cluster_are_named() {
        // Goal: exchanged addresses and a stranger's node do not pass for ours.
        assert_eq!(
            judged(topology(|text| text), 3).expect_err("not n2"),
            "node n3 answers at this address"
        );
        let other = ClusterId(7).to_string();
        let stranger = topology(|text| text.replace(&other, &ClusterId(8).to_string()));
        assert!(
            judged(stranger, 2).expect_err("a stranger").starts_with("belongs to cluster 0000")
        );
    }

    #[test]
    fn a_line_more_or_less_is_a_difference() {
        // Goal: the end of one text is not taken for equality.
        assert_eq!(first_difference("[a]\nx\n", "[a]\nx\n"), None);
        let found = first_difference("[a]\nx\n", "[a]\nx\ny\n");
        assert_eq!(found.as_deref(), Some("in [a] `y` instead of nothing"));
    }
}
