//! `quorate demo`: a cluster of real processes on this machine, in the cities of the reference layout, real
//! data, a steady load in each city, and everything that can happen to a process or a link, followed by a
//! proof that nothing acknowledged is lost.
//!
//! ```text
//!  dataset   the purchases: rows to write, sums to compare with
//!  import    writes the purchases
//!  load      workers that write and read all the time
//!  money     payments within and between units all the time, audits of all accounts
//!  script    verbs with times: the stories of the demo, or one of the user's    verbs   their words
//!  control   orders of people while it runs                                     exec    gives them
//!  events    plays the script, and carries orders out                           hands   break and mend
//!  plan      what a verb means at its moment
//!  leaders   who led what and when
//!  verify    reads everything back and compares
//!  report    what the load felt (timeline) and what verify found -- checks which promises hold
//!  show      the report for people                         banner    what --keep leaves behind
//! ```
//!
//! The cluster itself is in `local`. Everything that decides is pure: `verbs`, `script`, `timeline`, the
//! moves of `leaders`, the comparisons of `verify`, `report`, `checks`.

mod banner;
mod checks;
mod control;
mod dataset;
mod events;
mod exec;
mod hands;
mod import;
mod leaders;
mod load;
mod money;
mod options;
mod plan;
mod report;
mod script;
mod show;
mod timeline;
mod verbs;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_client::{Client, Uid};
use quorate_types::Code;

use self::control::{Control, Orders};
use self::dataset::Dataset;
use self::events::{Played, Stage};
use self::hands::{Hands, links_of};
use self::leaders::LeaderWatch;
use self::load::{Caller, Load, Promised, WorkerLog};
use self::money::Money;
pub(crate) use self::options::DemoArgs;
use self::options::{Action, Setting};
use self::report::{Findings, Report};
use self::script::{Step, distances};
use crate::exit::{Exit, Failure};
use crate::local::cluster::Cluster;
use crate::local::folder::{Folder, checkout_folder};
use crate::local::process;
use crate::local::resources::Monitor;
use crate::local::signals::Stop;
use crate::output::{Document, Output, thousands};

/// Runs `quorate demo`.
pub(crate) async fn run(args: DemoArgs, out: &Output) -> Result<(), Failure> {
    let epoch = Instant::now();
    if let Some(Action::Exec(order)) = &args.action {
        return exec::run(order, out).await;
    }
    if args.print_script {
        out.say(args.story()?.trim_end());
        return Ok(());
    }
    process::kill_all_on_panic();
    let stop = Stop::listen()?;
    let data_file = args.data_file.clone();
    let loading = tokio::task::spawn_blocking(move || Dataset::load(data_file.as_deref()));
    let dataset = Arc::new(loading.await.map_err(|error| {
        Failure::new(Code::Internal, format!("reading the purchases ended badly: {error}"))
    })??);
    let folder = Folder::open("demo", args.folder())?;
    let path = folder.path().display().to_string();
    let prepared = args.setting(&folder, out).and_then(|setting| {
        let steps = args.steps(&setting)?; // Before anything is written.
        let mut cluster = Cluster::prepare(&folder, &setting.shape)?;
        cluster.allow_faults(links_of(distances(setting.shape.layout)));
        Ok((setting, cluster, steps))
    });
    let (setting, mut cluster, steps) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            folder.remove();
            return Err(failure);
        }
    };

    let (control, mut orders) = Control::listen(cluster.folder(), cluster.topology(), out);
    let play = Play { args: &args, setting, steps, dataset: &dataset, epoch, out };
    let story = Box::pin(play.story(&mut cluster, &mut orders));
    let told = tokio::select! {
        told = story => told,
        () = stop.asked() => Err(Failure::quiet(Exit::Interrupted)),
    };
    let is_kept = args.keep && told.is_ok();
    let mut kept = Ok(());
    if is_kept {
        banner::show(&cluster, dataset.purchases.first(), out);
        kept = tokio::select! {
            kept = Box::pin(play.obey(&mut cluster, &mut orders)) => kept,
            () = stop.asked() => Ok(()),
        };
        out.note("stopping the nodes one after the other; Ctrl-C again kills them");
    }
    drop(control);
    let was_interrupted = told.as_ref().is_err_and(|failure| failure.exit() == Exit::Interrupted);
    let passed = told.as_ref().is_ok_and(|report| report.passed);
    let is_of_use = is_kept || args.is_folder_named() || !(passed || was_interrupted);
    if is_of_use {
        cluster.stop_all().await;
    } else {
        cluster.kill_all().await; // What they could still write down goes with the folder.
    }
    drop(cluster);
    if is_of_use || folder.remove().is_some() {
        out.note(format_args!("cluster file, data and logs of the nodes are in {path}"));
    }
    kept?;
    if told?.passed { Ok(()) } else { Err(Failure::quiet(Exit::Failed)) }
}

/// Everything that a demo goes by.
struct Play<'a> {
    args: &'a DemoArgs,
    setting: Setting,
    steps: Vec<Step>,
    dataset: &'a Arc<Dataset>,
    epoch: Instant,
    out: &'a Output,
}

impl Play<'_> {
    /// From the first start to the report.
    async fn story(&self, cluster: &mut Cluster, orders: &mut Orders) -> Result<Report, Failure> {
        let Play { dataset, epoch, out, .. } = self;
        let monitor = Monitor::start(cluster.folder().to_owned());
        self.say(format_args!("start of {}", self.setting.words()));
        cluster.start_missing()?;
        let client = Box::pin(cluster.connect()).await?;
        if self.setting.is_used_again {
            let removed = Box::pin(load::clear(&client)).await?;
            self.say(format_args!("data of an earlier run; {removed} rows of its load removed"));
        }
        let import = Box::pin(self.import(&client)).await?;

        let callers = Box::pin(callers(cluster, &client)).await?;
        let cities: Vec<&str> =
            callers.iter().map(|(city, _)| city.as_str()).filter(|city| !city.is_empty()).collect();
        let clients = match cities.as_slice() {
            [] => String::new(),
            cities => format!(" by clients in {}", cities.join(", ")),
        };
        self.say(format_args!("load of reads and transactions{clients}"));
        let leaders = LeaderWatch::start(&client, *epoch);
        let pause = load::pause(callers.len());
        let load = Load::start(&callers, &dataset.uids(), *epoch)?;
        let money = Box::pin(Money::start(&client, &dataset.uids(), pause)).await?;
        let stage = Stage {
            hands: Hands::new(cluster, &client),
            load: &load,
            money: &money,
            out,
            watch: Duration::from_secs(self.args.seconds),
            played: Played::default(),
        };
        let played = Box::pin(stage.play(&self.steps, orders)).await?;
        let workers = load.stop().await?;
        let money = Box::pin(money.stop(played.audits)).await?;
        let seen = leaders.seen();

        self.say(format_args!("reading everything back"));
        let tables = tokio::join!(
            Box::pin(verify::read_table(&client, import::TABLE)),
            Box::pin(verify::read_table(&client, load::TABLE)),
            Box::pin(verify::read_table(&client, load::GLOBAL_TABLE))
        );
        let (purchases, found) = verify::compare_purchases(dataset, &tables.0?);
        let of_units = verify::compare_load(&all_promised(&workers, false), &tables.1?);
        let of_workers = verify::rows_of_workers(tables.2?);
        let global = verify::compare_load(&all_promised(&workers, true), &of_workers);
        client.close().await;
        for (_, client) in callers {
            client.close().await;
        }
        let report = Report::new(Findings {
            preset: self.setting.shape.layout.word(),
            topology: cluster.topology(),
            rounds: self.args.rounds,
            elapsed: epoch.elapsed(),
            import,
            input: dataset.totals,
            found,
            purchases,
            load: of_units.and(&global),
            workers: &workers,
            money: &money,
            events: &played.events,
            seen: &seen,
            not_home: &played.not_home,
            pause,
            peaks: monitor.peaks(),
        });
        self.publish(&report, cluster)?;
        Ok(report)
    }

    /// Writes the purchases; returns how long that took.
    async fn import(&self, client: &Client) -> Result<Duration, Failure> {
        let totals = self.dataset.totals;
        let (rows, uids) = (thousands(totals.rows), thousands(totals.uids));
        self.say(format_args!("import of {rows} purchases of {uids} customers"));
        let import = Box::pin(import::import(client, self.dataset)).await?;
        let rate = totals.rows.saturating_mul(1000) / timeline::whole_ms(import).max(1);
        let (seconds, rate) = (import.as_secs_f64(), thousands(rate));
        self.out.say(format_args!("          imported in {seconds:.1} s ({rate} rows/s)"));
        Ok(import)
    }

    /// Carries out what people ask for once the story is over, until nobody can ask any more.
    async fn obey(&self, cluster: &mut Cluster, orders: &mut Orders) -> Result<(), Failure> {
        let client = Box::pin(cluster.connect_to_any()).await?;
        let mut hands = Hands::new(cluster, &client);
        loop {
            let order = orders.next().await;
            if order.verb == verbs::Verb::Status {
                let status = hands.status().await;
                order.answer(Ok(status));
                continue;
            }
            let act = match Box::pin(hands.plan(&order.verb)).await {
                Ok(act) => act,
                Err(reason) => {
                    order.answer(Err(reason));
                    continue;
                }
            };
            self.say(format_args!("{}", act.words));
            Box::pin(hands.act(&act)).await?;
            let settled = Box::pin(hands.settle(events::SERVE_LIMIT)).await?;
            let well = match settled {
                Ok(()) => "what can serve serves".to_owned(),
                Err(missing) => format!("not well yet: {missing}"),
            };
            order.answer(Ok(vec![act.words, well, hands.survives()]));
        }
    }

    /// Prints the report and writes it where it was asked for, and below `target` in a checkout.
    fn publish(&self, report: &Report, cluster: &Cluster) -> Result<(), Failure> {
        let (args, out) = (self.args, self.out);
        show::show(report, out);
        let usual: Option<PathBuf> =
            checkout_folder("demo").map(|folder| folder.join("report.json"));
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

    fn say(&self, what: std::fmt::Arguments<'_>) {
        self.out.say(format_args!("{:>6.1} s  {what}", self.epoch.elapsed().as_secs_f64()));
    }
}

/// A client in each city; where there is one city, the client that is there already.
async fn callers(cluster: &Cluster, client: &Client) -> Result<Vec<Caller>, Failure> {
    let cities = cluster.topology().cities();
    if cities.len() <= 1 {
        return Ok(vec![(String::new(), client.clone())]);
    }
    let mut callers = Vec::with_capacity(cities.len());
    for city in cities {
        callers.push((city.name.clone(), cluster.client_in(&city.name).await?));
    }
    Ok(callers)
}

/// What all workers were promised, on the GZone or on RZones. No two have a customer in common.
fn all_promised(workers: &[WorkerLog], is_global: bool) -> BTreeMap<Uid, Promised> {
    let workers = workers.iter().filter(|worker| worker.is_global == is_global);
    let promised = workers.flat_map(|worker| &worker.promised);
    promised.map(|(uid, promised)| (*uid, promised.clone())).collect()
}
