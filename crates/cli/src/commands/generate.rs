//! `quorate generate`: files for the tools around a cluster.

use clap::{Args, ValueEnum};

use crate::monitoring;
use crate::output::Output;

/// Writes files for the tools around a cluster to stdout.
#[derive(Clone, Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to write
    what: What,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Alert rules for Prometheus
    Alerts,
    /// A dashboard for Grafana
    Dashboard,
}

/// Runs `quorate generate`.
pub(crate) fn run(args: &GenerateArgs, out: &Output) {
    let text = match args.what {
        What::Alerts => monitoring::rules(),
        What::Dashboard => monitoring::dashboard(),
    };
    out.raw(text.as_bytes());
}
