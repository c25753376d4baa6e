//! `quorate check clock`: how fast the boot clocks of the nodes run, beside this machine's, and what
//! their wall clocks show.
//!
//! Leases rest on one thing only: that boot clocks run at nearly the same rate. That is measured, with an
//! error of the two round trips over the time between. Wall clocks are shown for people: nothing of the
//! protocol depends on them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use quorate_client::{Client, Tls};
use quorate_server::options::timing;
use quorate_topology::{Node, Topology};

use super::findings::{Finding, Severity};
use crate::args;
use crate::scrape::{metrics, sum};

/// Measures the clocks.
#[derive(Clone, Debug, Args)]
pub(super) struct ClockArgs {
    /// How long to measure: the error shrinks with it
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = args::duration)]
    lasts: Duration,
}

/// The clocks of one node at one moment of this machine.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The middle of the round trip, since the start of the measurement.
    at_s: f64,
    /// Half the round trip: the answer was made within this of the middle.
    error_s: f64,
    boot_s: f64,
    /// The node's wall clock minus this machine's.
    wall_offset_s: f64,
}

/// What was measured of one node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clock {
    pub(super) node: String,
    /// Parts per million that its boot clock runs faster than this machine's, and the error of that;
    /// or why it is not known.
    pub(super) rate_ppm: Result<(f64, f64), String>,
    /// Seconds that its wall clock is ahead of this machine's, and the error of that.
    pub(super) wall_offset_s: Option<(f64, f64)>,
}

/// Measures every node, and judges the rates.
pub(super) async fn look(client: &Client, args: &ClockArgs) -> (Vec<Finding>, Vec<Clock>) {
    let (topology, tls) = (client.topology(), client.tls());
    let started_at = Instant::now();
    let nodes: Vec<&Node> = topology.nodes().collect();
    let ask_all = || {
        let tls = tls.as_ref();
        futures::future::join_all(nodes.iter().map(move |node| sample(node, tls, started_at)))
    };
    let first = ask_all().await;
    tokio::time::sleep(args.lasts).await;
    let second = ask_all().await;
    let measured = nodes.iter().zip(first.into_iter().zip(second));
    let clocks: Vec<Clock> = measured.map(|(node, pair)| clock(&node.name, pair)).collect();
    (judge(&topology, &clocks), clocks)
}

async fn sample(node: &Node, tls: Option<&Tls>, started_at: Instant) -> Result<Sample, String> {
    let before = started_at.elapsed();
    let text = metrics(&node.admin, tls).await.map_err(|error| error.to_string())?;
    let after = started_at.elapsed();
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let error_s = (after - before).as_secs_f64() / 2.0;
    Ok(Sample {
        at_s: before.as_secs_f64() + error_s,
        error_s,
        boot_s: sum(&text, "quorate_boot_clock_seconds"),
        wall_offset_s: sum(&text, "quorate_wall_clock_seconds") - (here.as_secs_f64() - error_s),
    })
}

fn clock(node: &str, pair: (Result<Sample, String>, Result<Sample, String>)) -> Clock {
    let node = node.to_owned();
    match pair {
        (Ok(first), Ok(second)) => {
            let span = (second.at_s - first.at_s).max(f64::MIN_POSITIVE);
            let rate = ((second.boot_s - first.boot_s) / span - 1.0) * 1e6;
            let error = (first.error_s + second.error_s) / span * 1e6;
            let wall_offset_s = Some((second.wall_offset_s, second.error_s));
            Clock { node, rate_ppm: Ok((rate, error)), wall_offset_s }
        }
        (Err(error), _) | (_, Err(error)) => {
            Clock { node, rate_ppm: Err(error), wall_offset_s: None }
        }
    }
}

/// Two clocks that surely differ by more than half of what the margin of a lease allows are a warning,
/// by all of it critical. A rate that is not known is said, and no more.
fn judge(topology: &Topology, clocks: &[Clock]) -> Vec<Finding> {
    let mut found = Vec::new();
    let about = |severity, check, what, meaning, action: &str, nodes: &[&str]| Finding {
        severity,
        check,
        what,
        meaning,
        action: action.to_owned(),
        nodes: nodes.iter().filter_map(|n| topology.node_by_name(n)).map(|n| n.id).collect(),
        groups: BTreeSet::new(),
    };
    for clock in clocks {
        if let Err(error) = &clock.rate_ppm {
            let what = format!("the clock of {} was not measured: {error}", clock.node);
            let meaning = "nothing is known about its rate";
            let action = "make its admin port reachable from here";
            found.push(about(Severity::Warning, "clock", what, meaning, action, &[&clock.node]));
        }
    }
    let known = clocks.iter().filter_map(|clock| Some((clock, *clock.rate_ppm.as_ref().ok()?)));
    let slowest = known.clone().min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
    let fastest = known.max_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
    let times = timing(topology.lease());
    if let (Some((slow, slow_ppm)), Some((fast, fast_ppm))) = (slowest, fastest)
        && topology.lease().length().is_some()
    {
        let allowed = times.lease_margin.as_secs_f64() / times.lease.as_secs_f64() * 1e6;
        let surely = fast_ppm.0 - slow_ppm.0 - fast_ppm.1 - slow_ppm.1;
        if allowed / 2.0 < surely {
            let severity = if allowed < surely { Severity::Critical } else { Severity::Warning };
            let what = format!(
                "the boot clock of {} runs at least {surely:.0} ppm faster than that of {}",
                fast.node, slow.node
            );
            let meaning = "a lease bears the margin's share of its length, and no more";
            let action = "take leadership from both and repair the machine, or set lease = \"off\"";
            found.push(about(severity, "clock", what, meaning, action, &[&fast.node, &slow.node]));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::judge::tests::topology;

    fn sampled(at_s: f64, boot_s: f64) -> Result<Sample, String> {
        Ok(Sample { at_s, error_s: 0.001, boot_s, wall_offset_s: 2.0 })
    }

    #[test]
    fn rates_are_told_with_their_error_and_judged_by_the_margin() {
        // Goal: only what is surely wrong is a finding, and the error of the measurement is said.
        let good = clock("n1", (sampled(0.0, 100.0), sampled(10.0, 110.0)));
        let (rate, error) = good.rate_ppm.clone().unwrap();
        assert!(rate.abs() < 1.0 && (error - 200.0).abs() < 1.0, "{rate} {error}");
        let fast = clock("n2", (sampled(0.0, 100.0), sampled(10.0, 110.8)));
        let mad = clock("n3", (sampled(0.0, 100.0), sampled(10.0, 112.0)));
        let silent = clock("n3", (Err("refused".to_owned()), sampled(0.0, 0.0)));
        let topology = topology();
        let severities = |clocks: &[Clock]| -> Vec<Severity> {
            judge(&topology, clocks).into_iter().map(|finding| finding.severity).collect()
        };
        assert_eq!(severities(&[good.clone(), good.clone()]), []);
        assert_eq!(severities(&[good.clone(), fast]), [Severity::Warning]);
        assert_eq!(severities(&[good.clone(), mad]), [Severity::Critical]);
        assert_eq!(severities(&[good, silent]), [Severity::Warning]);
    }
}
