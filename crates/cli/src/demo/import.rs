//! Writes the purchases with hundreds of puts in flight.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_client::{Client, Error};
use tokio::task::JoinSet;

use super::dataset::{Dataset, Purchase};
use crate::exit::Failure;

/// The table of the purchases.
pub(super) const TABLE: &str = "purchases";
/// Puts in flight.
const IN_FLIGHT: usize = 384;
/// How long a put is repeated. It may be, whatever became of it: it writes the same row.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before a put is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes every purchase; returns how long that took.
///
/// # Errors
/// If a row cannot be written for [`PATIENCE`].
pub(super) async fn import(client: &Client, dataset: &Arc<Dataset>) -> Result<Duration, Failure> {
    let started = Instant::now();
    let bar = bar(dataset.purchases.len());
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, dataset) = (client.clone(), Arc::clone(dataset));
        let (next, bar) = (Arc::clone(&next), bar.clone());
        writers.spawn(async move {
            while let Some(row) = dataset.purchases.get(next.fetch_add(1, Ordering::Relaxed)) {
                Box::pin(put(&client, row)).await?;
                bar.inc(1);
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        let result = ended.map_err(|error| {
            let message = format!("a writer of the import ended badly: {error}");
            Failure::new(quorate_types::Code::Internal, message)
        })?;
        result.map_err(|error| crate::cluster::failure(&error))?;
    }
    bar.finish_and_clear();
    Ok(started.elapsed())
}

async fn put(client: &Client, row: &Purchase) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.put(TABLE, row.uid, row.key.clone(), row.value.clone()).await {
            Ok(_written) => return Ok(()),
            Err(error) if deadline <= Instant::now() => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn bar(rows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(Some(rows as u64), target);
    let template = "  {bar:40} {pos} of {len} rows, {per_sec}";
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
