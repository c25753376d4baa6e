//! `quorate bench`: a load on a cluster, how fast it went, and what each operation cost beside what
//! physics would allow.
//!
//! ```text
//!  keys      which user is next         work      one request of a workload
//!  payments  the accounts of transfers
//!  drive     closed and open loop, latencies
//!  counters  what the nodes count       device    what the disk and the network do by themselves
//!  report    all of it together         show      for people
//!  idle      the same without requests
//!  hand_over how long callers wait while a leadership moves
//! ```
//!
//! Without `--endpoints` it starts three nodes on this machine, as real processes with real disks.

mod counters;
pub(crate) mod device;
mod drive;
mod hand_over;
mod idle;
mod keys;
mod payments;
mod report;
mod show;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::StreamExt;
use futures::stream;
use quorate_client::{Client, Uid};
use quorate_topology::Topology;
use quorate_topology::presets::Layout;
use quorate_types::money::TRANSFER_BYTES;
use quorate_types::{Code, limits};

use self::counters::Counters;
use self::drive::{Drive, Plan};
use self::keys::Keys;
use self::payments::{Payers, Payments};
use self::report::{Machine, Report, Setting};
use self::work::{Measure, Worker, Workload};
use crate::cli::Global;
use crate::cluster::{table_of, user_of};
use crate::exit::{Exit, Failure};
use crate::local::cluster::{Cluster, Shape};
use crate::local::folder::{Chosen, Folder};
use crate::local::process;
use crate::local::signals::Stop;
use crate::node::Profile;
use crate::output::{Document, Output};

/// The table of a cluster of our own.
const TABLE: &str = "load";
/// The highest offset with which every port is one.
const PORT_OFFSET_MAX: i64 = 59_000;
/// Requests in flight while rows are written beforehand.
const FILL_CALLERS: usize = 512;

/// Measures how fast a cluster is, and what it spends.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Without --endpoints three nodes are started on this machine, with real disks, and \
                  removed afterwards. With --endpoints the rows b0, b1, ... and count of --keys \
                  users of --table are overwritten; transfer needs no table and creates --accounts \
                  accounts of ledger 999000001. Compare figures of one machine only."
)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum)]
    measure: Measure,
    /// Requests in flight; each caller asks again once answered [default: 256, for transfer 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    callers: Option<u64>,
    /// Open loop: requests due each second, whatever the cluster does; at most --callers in flight
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Users asked about
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// The first of them: with 25 users from 75 on, a cluster of our own works in its last RZone alone
    #[arg(long, value_name = "UID", default_value_t = 0)]
    first_user: u64,
    /// Some users come up more often, by Zipf's law with this exponent; without it all alike
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=VALUE_BYTES_MAX))]
    value_bytes: u64,
    /// Accounts of the workload transfer, all in the unit of --first-user
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..=10_000_000))]
    accounts: u64,
    /// All transfers credit one account
    #[arg(long)]
    hot: bool,
    /// Transfers go to as many accounts of another unit
    #[arg(long)]
    far: bool,
    /// Rows of a user in one request of put and txn, rows that a scan reads, transfers of one request;
    /// 1, for scan 10, for transfer 8190
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=BATCH_MAX))]
    batch: Option<u64>,
    /// How long to measure, in seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How long to run before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = crate::args::duration)]
    warm_up: Duration,
    /// The table to write to; a unit table
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// A new or empty folder for a cluster of our own; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How much memory and disk each node of our own may use
    #[arg(long, value_enum, default_value = "normal")]
    profile: Profile,
    /// Added to every port of our own cluster
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=PORT_OFFSET_MAX))]
    port_offset: u16,
    /// Groups of each of the four RZones of our own cluster; the GZone has one more
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    groups_per_unit: u32,
}

/// The users of one RZone of a cluster of our own, from the first on.
const UNIT_USERS: u64 = 25;
/// Most transfers of a request.
const BATCH_MAX: u64 = limits::TRANSFERS_MAX as u64;
/// Most rows of a request.
const ROWS_MAX: u64 = 1000;
const VALUE_BYTES_MAX: u64 = limits::VALUE_BYTES_MAX as u64;

/// Runs `quorate bench`.
pub(crate) async fn run(args: BenchArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let (first, count) = match args.measure {
        // Places among the accounts.
        Measure::Transfer => (0, args.accounts),
        _ => (args.first_user, args.keys),
    };
    let keys = Keys::new(first, count, args.zipf)
        .map_err(|reason| Failure::usage(reason, "leave --zipf out, or write --zipf 0.99"))?;
    check_arguments(&args, global)?;
    let is_transfer = args.measure == Measure::Transfer;
    if is_transfer && global.has_endpoints() {
        let opened = crate::cluster::Cluster::open(global).await?;
        let target = Target { keys, table: String::new(), client: opened.client(), sync: None };
        return measure_as_asked(&args, target, out).await;
    }
    if global.has_endpoints() {
        let Some(table) = args.table.clone() else {
            return Err(Failure::usage(
                "--table is missing: rows of your cluster are going to be overwritten",
                "name a unit table that nobody needs with --table",
            ));
        };
        let opened = crate::cluster::Cluster::open(global).await?;
        check_table(opened.topology(), &table)?;
        let target = Target { keys, table, client: opened.client(), sync: None };
        return measure_as_asked(&args, target, out).await;
    }
    process::kill_all_on_panic();
    let stop = Stop::listen()?;
    let table = args.table.clone().unwrap_or_else(|| TABLE.to_owned());
    let folder = Folder::open("bench", args.dir.as_deref().map_or(Chosen::Fresh, Chosen::Dir))?;
    let path = folder.path().to_owned();
    let shape = Shape {
        layout: Layout::OneCity,
        nodes_per_idc: 1,
        port_offset: args.port_offset,
        profile: args.profile,
        groups_per_unit: args.groups_per_unit,
    };
    let prepared = Cluster::prepare(&folder, &shape)
        .and_then(|cluster| check_table(cluster.topology(), &table).map(|()| cluster));
    let mut cluster = match prepared {
        Ok(cluster) => cluster,
        Err(failure) => {
            folder.remove();
            return Err(failure);
        }
    };
    let story = async {
        let sync = device::sync_latency(&path)
            .map_err(|error| Failure::file("write", &path.join("sync-latency"), &error))?;
        cluster.start_missing()?;
        let client = Box::pin(cluster.connect()).await?.with_timeout(global.timeout);
        if args.measure == Measure::HandOver {
            return Box::pin(hand_over(&args, table, &client, &mut cluster, out)).await;
        }
        let target = Target { keys, table, client: &client, sync: Some(sync) };
        let measured = Box::pin(measure_as_asked(&args, target, out)).await;
        cluster.check_running()?;
        measured
    };
    let told = tokio::select! {
        told = Box::pin(story) => told,
        () = stop.asked() => Err(Failure::quiet(Exit::Interrupted)),
    };
    let is_of_use =
        args.dir.is_some() || told.as_ref().is_err_and(|it| it.exit() != Exit::Interrupted);
    if is_of_use {
        cluster.stop_all().await;
    } else {
        cluster.kill_all().await;
    }
    drop(cluster);
    if is_of_use || folder.remove().is_some() {
        out.note(format_args!("data and logs of the nodes are in {}", path.display()));
    }
    told
}

/// What the parser does not know.
fn check_arguments(args: &BenchArgs, global: &Global) -> Result<(), Failure> {
    let is_transfer = args.measure == Measure::Transfer;
    if !is_transfer && args.batch.is_some_and(|batch| ROWS_MAX < batch) {
        return Err(Failure::usage(
            format!("a request takes at most {ROWS_MAX} rows"),
            "write a smaller --batch",
        ));
    }
    if args.measure == Measure::HandOver && global.has_endpoints() {
        return Err(Failure::usage(
            "hand-over stops nodes, so it measures a cluster of its own",
            "leave --endpoints out",
        ));
    }
    Ok(())
}

/// Moves the leadership of the group of a few users.
async fn hand_over(
    args: &BenchArgs,
    table: String,
    client: &Client,
    cluster: &mut Cluster,
    out: &Output,
) -> Result<(), Failure> {
    let usual = |reason| Failure::usage(reason, "leave --first-user out");
    let keys = Keys::new(args.first_user, args.keys.min(UNIT_USERS), None).map_err(usual)?;
    let value_bytes = usize::try_from(args.value_bytes).unwrap_or(usize::MAX);
    let worker = Worker { client: client.clone(), table, value_bytes, rows: 1, payments: None };
    let callers = args.callers.unwrap_or_else(|| Workload::Put.callers_usual());
    let callers = usize::try_from(callers).unwrap_or(usize::MAX);
    Box::pin(fill(&worker, &keys)).await?;
    hand_over::measure(callers, args.seconds, &worker, &keys, cluster, out).await
}

/// Users have rows in unit tables only.
fn check_table(topology: &Topology, name: &str) -> Result<(), Failure> {
    let table = table_of(topology, name)?;
    user_of(table, Some(Uid(1))).map(drop).map_err(|_| {
        let (name, class) = (&table.name, table.class);
        Failure::usage(
            format!("table {name} has class {class}: its rows belong to no user"),
            "name a table of class unit with --table",
        )
    })
}

/// What is asked, and whom.
struct Target<'a> {
    keys: Keys,
    table: String,
    client: &'a Client,
    /// What the disk of a cluster of our own needs for a sync.
    sync: Option<Duration>,
}

async fn measure_as_asked(
    args: &BenchArgs,
    target: Target<'_>,
    out: &Output,
) -> Result<(), Failure> {
    match args.measure.workload() {
        Some(workload) => measure(args, workload, target, out).await,
        None => idle::measure(args.warm_up, args.seconds, target.client, out).await,
    }
}

/// Fills, warms up, measures and reports.
async fn measure(
    args: &BenchArgs,
    workload: Workload,
    target: Target<'_>,
    out: &Output,
) -> Result<(), Failure> {
    let Target { keys, table, client, sync } = target;
    let topology = client.topology();
    let rows = args.batch.unwrap_or_else(|| workload.rows_usual());
    let payments = match workload {
        Workload::Transfer => {
            let BenchArgs { first_user: first, accounts: count, hot, far, .. } = *args;
            let payers = Payers { first, count, hot, far };
            Some(Arc::new(Payments::new(&topology, payers, keys.clone())?))
        }
        Workload::Put
        | Workload::Get
        | Workload::Scan
        | Workload::Txn
        | Workload::Pay
        | Workload::PayFar => None,
    };
    let value_bytes = match workload {
        Workload::Transfer => TRANSFER_BYTES,
        _ => usize::try_from(args.value_bytes).unwrap_or(usize::MAX),
    };
    let worker = Worker { client: client.clone(), table, value_bytes, rows, payments };
    let callers = args.callers.unwrap_or_else(|| workload.callers_usual());
    let callers = usize::try_from(callers).unwrap_or(usize::MAX);
    let address = topology.nodes().next().map(|node| node.client.clone()).unwrap_or_default();
    // Only for comparison: without it the report has fewer bounds. A node that nobody reaches is noticed
    // by the requests themselves.
    let round_trip = device::round_trip(&address).await.ok();
    if workload.needs_rows() {
        let count = args.keys;
        out.note(format_args!("writing {rows} rows of each of {count} users first"));
        Box::pin(fill(&worker, &keys)).await?;
    }
    if let Some(payments) = &worker.payments {
        out.note(format_args!("creating {} accounts first", payments.accounts().count()));
        Box::pin(create_accounts(client, payments)).await?;
    }
    let plan = Plan { workload, worker, keys, callers, rate: args.rate };
    let mut drive = Drive::start(&plan)?;
    tokio::time::sleep(args.warm_up).await;
    let before = Counters::read(client).await?;
    drive.count();
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let after = Counters::read(client).await?;
    let measured = drive.end().await?;
    client.close().await;

    let setting = Setting {
        workload: workload.word(),
        callers,
        rate: args.rate,
        keys: if workload == Workload::Transfer { args.accounts } else { args.keys },
        zipf: args.zipf,
        value_bytes: plan.worker.value_bytes,
        batch: rows,
        nodes: topology.nodes().count(),
        groups: topology.groups().count(),
    };
    let machine = Machine { sync, round_trip };
    let report = Report::new(setting, &measured, after - before, machine);
    show::show(&report, out);
    let item = serde_json::to_value(&report).unwrap_or_default();
    out.document(&Document::new("bench").of_cluster(topology.cluster_id()).item(item));
    if measured.calls == 0 {
        let first = report.failed.first().map_or("nothing was answered", |it| it.first.as_str());
        return Err(Failure::new(Code::Unreachable, format!("no request ended well: {first}"))
            .with_fix("quorate status says how the cluster is"));
    }
    Ok(())
}

/// Creates the accounts of transfers.
async fn create_accounts(client: &Client, payments: &Payments) -> Result<(), Failure> {
    let creates = payments.accounts().map(|at| Payments::create(client, at));
    let mut creating = stream::iter(creates).buffer_unordered(FILL_CALLERS);
    while let Some(created) = creating.next().await {
        created.map_err(|error| crate::cluster::failure(&error))?;
    }
    Ok(())
}

/// Writes the rows of all users.
async fn fill(worker: &Worker, users: &Keys) -> Result<(), Failure> {
    let writes = users.all().map(|uid| worker.put(uid));
    let mut writing = stream::iter(writes).buffer_unordered(FILL_CALLERS);
    while let Some(written) = writing.next().await {
        written.map_err(|error| crate::cluster::failure(&error))?;
    }
    Ok(())
}
