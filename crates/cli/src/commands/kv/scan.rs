//! `kv scan`: the rows of one user, or of a whole table, page by page.

use clap::Args;
use quorate_client::{Scan, ScannedRow, TableScan};
use quorate_types::limits;

use crate::cli::Global;
use crate::cluster::{self, Cluster};
use crate::exit::Failure;
use crate::output::{Document, Output, Table};
use crate::reading::ReadArgs;
use crate::values;

/// Rows printed unless `--limit` or `--all` says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Arguments of `kv scan`.
#[derive(Clone, Debug, Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    place: super::Place,
    /// Only keys that start with this; needs --uid, or a table whose rows belong to no user
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Most rows to print [default: 100]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print every row
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Most rows to ask for at once
    #[arg(
        long,
        value_name = "ROWS",
        default_value_t = limits::SCAN_ROWS_MAX as u64,
        value_parser = clap::value_parser!(u64).range(1..=limits::SCAN_ROWS_MAX as u64)
    )]
    page_size: u64,
    #[command(flatten)]
    reading: ReadArgs,
}

enum Pages {
    OfUser(Scan),
    OfTable(TableScan),
}

impl Pages {
    async fn next(&mut self) -> Result<Option<Vec<ScannedRow>>, quorate_client::Error> {
        match self {
            Pages::OfUser(scan) => Box::pin(scan.next_page()).await,
            Pages::OfTable(scan) => Box::pin(scan.next_page()).await,
        }
    }
}

/// Runs `quorate kv scan`.
pub(super) async fn run(args: ScanArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    let limit = match (args.all, args.limit) {
        (true, _) => usize::MAX,
        (false, Some(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        (false, None) => LIMIT_DEFAULT,
    };
    let cluster = Cluster::open_near(global, args.reading.near()).await?;
    let table = cluster.table(&args.place.table)?.name.clone();
    let mut pages = pages(&args, limit, &cluster)?;

    let mut count = 0;
    let mut has_more = false;
    let mut items = Vec::new();
    let mut shown = Table::new(&["UID", "KEY", "TYPE", "VALUE"]);
    while let Some(rows) = pages.next().await.map_err(|error| cluster::failure(&error))? {
        has_more = limit - count < rows.len();
        for row in rows.iter().take(limit - count) {
            count += 1;
            if out.is_json() {
                items.push(values::row_json(&table, row.uid, &row.key, Some(&row.value)));
            } else {
                shown.row([
                    row.uid.to_string(),
                    values::show_bytes(&row.key),
                    values::type_word(&row.value).to_owned(),
                    values::show_value(&row.value),
                ]);
            }
        }
        if count == limit || out.is_broken() {
            has_more = has_more || more_follow(&mut pages).await;
            break;
        }
    }
    out.table(&shown);
    let mut document = Document::new("rows").of_cluster(cluster.topology().cluster_id());
    document.items = items;
    out.document(&document);
    if has_more {
        out.note(format_args!(
            "{count} rows are shown and more exist; --limit N or --all shows them"
        ));
    } else if out.is_terminal() {
        out.note(format_args!("{count} rows"));
    }
    Ok(())
}

/// Whether the scan goes on after a page that reached the limit exactly.
async fn more_follow(pages: &mut Pages) -> bool {
    pages.next().await.is_ok_and(|page| page.is_some())
}

fn pages(args: &ScanArgs, limit: usize, cluster: &Cluster) -> Result<Pages, Failure> {
    let page_size = usize::try_from(args.page_size).unwrap_or(limits::SCAN_ROWS_MAX);
    let page_size = page_size.min(limit.saturating_add(1));
    let table = cluster.table(&args.place.table)?;
    let client = args.reading.of(cluster.client());
    let is_sharded = table.class == quorate_topology::TableClass::Unit;
    if is_sharded && args.place.uid.is_none() {
        if !args.prefix.is_empty() {
            return Err(Failure::usage(
                "a prefix is about the keys of one user",
                "say which user with --uid, or leave out --prefix",
            ));
        }
        return Ok(Pages::OfTable(client.scan_table(&table.name).page_size(page_size)));
    }
    let uid = cluster::user_of(table, args.place.uid)?;
    let scan = client.scan(&table.name, uid).page_size(page_size);
    Ok(Pages::OfUser(scan.prefix(args.prefix.clone().into_bytes())))
}
