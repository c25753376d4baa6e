//! `quorate demo`: a cluster of three real processes on this machine, real data, a steady load, and
//! everything that can happen to a process, followed by a proof that nothing acknowledged is lost.
//!
//! ```text
//!  dataset   the purchases: rows to write, sums to compare with
//!  import    writes the purchases
//!  load      workers that write and read all the time
//!  money     payments within and between units all the time, audits of all accounts
//!  events    kill -9, restart, stop, kill all, restart
//!  verify    reads everything back and compares
//!  report    what the load felt (timeline) and what verify found -- checks which promises hold
//!  show      the report for people                         banner    what --keep leaves behind
//! ```
//!
//! The cluster itself is in `local`. Everything that decides is pure: `timeline`, the comparisons of
//! `verify`, `report`, `checks`.

mod banner;
mod checks;
mod dataset;
mod events;
mod import;
mod load;
mod money;
mod report;
mod show;
mod timeline;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_client::Uid;
use quorate_types::Code;

use self::dataset::Dataset;
use self::events::{Event, Stage};
use self::load::{Load, Promised, WorkerLog};
use self::money::Money;
use self::report::{Findings, Report};
use crate::exit::{Exit, Failure};
use crate::local::cluster::{Cluster, Folder, checkout_folder};
use crate::local::process;
use crate::local::resources::Monitor;
use crate::local::signals::Stop;
use crate::node::Profile;
use crate::output::{Document, Output, thousands};

/// The highest offset with which every port is one.
const PORT_OFFSET_MAX: i64 = 59_000;

/// Runs a whole cluster on this machine, breaks it and checks that nothing is lost.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Three nodes in three IDCs, four units. Imports 69,659 real purchases, runs \
                        reads, transactions and payments between units, kills and stops nodes, and compares everything at the \
                        end. Exit 0 only if nothing acknowledged is lost or duplicated. Takes about a \
                        minute, under 1 GB of memory and disk."
)]
pub(crate) struct DemoArgs {
    /// Leave the cluster running after the report; Ctrl-C stops it
    #[arg(long)]
    keep: bool,
    /// Write the report as JSON to this file too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Added to every port, so that several clusters fit on one machine
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=PORT_OFFSET_MAX)
    )]
    port_offset: u16,
    /// A new or empty folder for the cluster; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Purchases to import instead of those in this program: CSV, plain or gzip
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// How often to go through all events; 0 only imports and checks
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    rounds: u32,
    /// How long to watch the load after each event, in seconds
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

/// Runs `quorate demo`.
pub(crate) async fn run(args: DemoArgs, out: &Output) -> Result<(), Failure> {
    let epoch = Instant::now();
    process::kill_all_on_panic();
    let stop = Stop::listen()?;
    let data_file = args.data_file.clone();
    let loading = tokio::task::spawn_blocking(move || Dataset::load(data_file.as_deref()));
    let dataset = Arc::new(loading.await.map_err(|error| {
        Failure::new(Code::Internal, format!("reading the purchases ended badly: {error}"))
    })??);
    let folder = Folder::open("demo", args.dir.as_deref())?;
    let path = folder.path().display().to_string();
    let mut cluster = match Cluster::prepare(&folder, args.port_offset, Profile::Small, 1) {
        Ok(cluster) => cluster,
        Err(failure) => {
            folder.remove();
            return Err(failure);
        }
    };

    let story = Box::pin(story(&args, &mut cluster, &dataset, epoch, out));
    let told = tokio::select! {
        told = story => told,
        () = stop.asked() => Err(Failure::quiet(Exit::Interrupted)),
    };
    let is_kept = args.keep && told.is_ok();
    if is_kept {
        banner::show(&cluster, dataset.purchases.first(), out);
        stop.asked().await;
        out.note("stopping the nodes one after the other; Ctrl-C again kills them");
    }
    let was_interrupted = told.as_ref().is_err_and(|failure| failure.exit() == Exit::Interrupted);
    let passed = told.as_ref().is_ok_and(|report| report.passed);
    let is_of_use = is_kept || args.dir.is_some() || !(passed || was_interrupted);
    if is_of_use {
        cluster.stop_all().await;
    } else {
        cluster.kill_all().await; // What they could still write down goes with the folder.
    }
    drop(cluster);
    if is_of_use || folder.remove().is_some() {
        out.note(format_args!("cluster file, data and logs of the nodes are in {path}"));
    }
    if told?.passed { Ok(()) } else { Err(Failure::quiet(Exit::Failed)) }
}

/// From the first start to the report.
async fn story(
    args: &DemoArgs,
    cluster: &mut Cluster,
    dataset: &Arc<Dataset>,
    epoch: Instant,
    out: &Output,
) -> Result<Report, Failure> {
    let monitor = Monitor::start(cluster.file().parent().map(PathBuf::from).unwrap_or_default());
    let say = |what: std::fmt::Arguments<'_>| {
        out.say(format_args!("{:>6.1} s  {what}", epoch.elapsed().as_secs_f64()));
    };
    say(format_args!(
        "start of three nodes in three IDCs, four units [00-24] [25-49] [50-74] [75-99]"
    ));
    cluster.start_missing()?;
    let client = Box::pin(cluster.connect()).await?;

    let rows = thousands(dataset.totals.rows);
    let uids = thousands(dataset.totals.uids);
    say(format_args!("import of {rows} purchases of {uids} customers"));
    let import = Box::pin(import::import(&client, dataset)).await?;
    let rate = dataset.totals.rows.saturating_mul(1000) / timeline::whole_ms(import).max(1);
    let seconds = import.as_secs_f64();
    out.say(format_args!("          imported in {seconds:.1} s ({} rows/s)", thousands(rate)));

    say(format_args!("load of reads and transactions on table {}", load::TABLE));
    let load = Load::start(&client, &dataset.uids(), epoch)?;
    let money = Box::pin(Money::start(&client, &dataset.uids())).await?;
    let watch = Duration::from_secs(args.seconds);
    let stage = Stage::new(cluster, &client, (&load, &money), out, watch);
    let (events, audits): (Vec<Event>, _) = Box::pin(stage.play(args.rounds)).await?;
    let workers = load.stop().await?;
    let money = Box::pin(money.stop(audits)).await?;

    say(format_args!("reading everything back"));
    let tables = tokio::join!(
        Box::pin(verify::read_table(&client, import::TABLE)),
        Box::pin(verify::read_table(&client, load::TABLE))
    );
    let (purchases, found) = verify::compare_purchases(dataset, &tables.0?);
    let load = verify::compare_load(&all_promised(&workers), &tables.1?);
    client.close().await;
    let report = Report::new(Findings {
        rounds: args.rounds,
        elapsed: epoch.elapsed(),
        import,
        input: dataset.totals,
        found,
        purchases,
        load,
        workers: &workers,
        money: &money,
        events: &events,
        peaks: monitor.peaks(),
    });
    publish(&report, args, cluster, out)?;
    Ok(report)
}

/// Prints the report and writes it where it was asked for, and below `target` in a checkout.
fn publish(
    report: &Report,
    args: &DemoArgs,
    cluster: &Cluster,
    out: &Output,
) -> Result<(), Failure> {
    show::show(report, out);
    let usual = checkout_folder("demo").map(|folder| folder.join("report.json"));
    if let Some(usual) = usual.filter(|usual| Some(usual) != args.report.as_ref()) {
        // Nobody asked for this one; a folder that cannot be written to is no failure.
        if report.write(&usual).is_ok() && args.report.is_none() {
            out.say(format_args!("report: {}", usual.display()));
        }
    }
    if let Some(asked) = &args.report {
        report.write(asked)?;
        out.say(format_args!("report: {}", asked.display()));
    }
    let item = serde_json::to_value(report).unwrap_or_default();
    let cluster_id = cluster.topology().cluster_id();
    out.document(&Document::new("demo").of_cluster(cluster_id).item(item));
    Ok(())
}

/// What all workers were promised. No two have a customer in common.
fn all_promised(workers: &[WorkerLog]) -> BTreeMap<Uid, Promised> {
    let promised = workers.iter().flat_map(|worker| &worker.promised);
    promised.map(|(uid, promised)| (*uid, promised.clone())).collect()
}
