//! What a user of `--keep` needs to play with the cluster.

use super::dataset::Purchase;
use super::import::TABLE;
use crate::local::cluster::Cluster;
use crate::output::Output;

/// Prints where everything is, with lines to copy.
pub(super) fn show(cluster: &Cluster, example: Option<&Purchase>, out: &Output) {
    for line in lines(cluster, example) {
        out.say(line);
    }
}

fn lines(cluster: &Cluster, example: Option<&Purchase>) -> Vec<String> {
    let topology = cluster.topology();
    let program = program();
    let mut lines = vec![
        String::new(),
        format!(
            "The cluster {} goes on running. Ctrl-C stops it; its data stays.",
            topology.name()
        ),
        String::new(),
    ];
    for node in topology.nodes() {
        let (name, idc) = (&node.name, &node.idc);
        let (client, admin) = (&node.client, &node.admin);
        lines.push(format!("  {name} in {idc}  client {client}  admin http://{admin}"));
    }
    lines.push(format!("  cluster file  {}", cluster.file().display()));
    lines.push(String::new());
    lines.push(format!("  export QUORATE_ENDPOINTS={}", cluster.endpoints()));
    lines.push(format!("  {program} status"));
    if let Some(purchase) = example {
        let (uid, key) = (purchase.uid.0, String::from_utf8_lossy(&purchase.key));
        lines.push(format!("  {program} kv get --table {TABLE} --uid {uid} {key}"));
    }
    let admin = topology.nodes().next().map(|node| node.admin.as_str()).unwrap_or_default();
    lines.push(format!("  curl http://{admin}/readyz"));
    lines
}

/// How this program was called, so that the lines can be copied.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "quorate".to_owned())
}
