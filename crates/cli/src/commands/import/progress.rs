//! How an import shows that it moves: a bar on a terminal, a line every few seconds otherwise.
//! Always on stderr.

use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Counts the bytes read off a file.
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// A reader, and where its bytes are counted.
    pub(crate) fn new(inner: R) -> (Counted<R>, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        (Counted { inner, count: Arc::clone(&count) }, count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Shows progress.
pub(crate) struct Progress<'o> {
    out: &'o Output,
    /// On a terminal.
    bar: Option<ProgressBar>,
    started: Instant,
    shown: Instant,
    size: u64,
    read: Arc<AtomicU64>,
}

impl<'o> Progress<'o> {
    /// Progress through a file of `size` bytes of which `read` are read.
    pub(crate) fn new(out: &'o Output, size: u64, read: Arc<AtomicU64>) -> Progress<'o> {
        let bar = io::stderr().is_terminal().then(|| bar(size));
        let now = Instant::now();
        Progress { out, bar, started: now, shown: now, size, read }
    }

    /// Tells how many rows are written. Cheap; call it often.
    pub(crate) fn rows(&mut self, written: u64) {
        let read = self.read.load(Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_position(read.min(self.size));
            bar.set_message(words(written, self.started.elapsed()));
            return;
        }
        if LINE_INTERVAL <= self.shown.elapsed() {
            self.shown = Instant::now();
            let percent = (read.saturating_mul(100)).checked_div(self.size).unwrap_or(100).min(100);
            let words = words(written, self.started.elapsed());
            self.out.note(format_args!("{percent} % read, {words}"));
        }
    }

    /// Prints a line without tearing the bar.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.note(text)),
            None => self.out.note(text),
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(size: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr_with_hz(10));
    let template = "{bar:40} {percent:>3} %  {msg}  {eta} left";
    bar.set_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}

fn words(written: u64, elapsed: Duration) -> String {
    format!("{written} rows, {} rows/s", per_second(written, elapsed))
}

/// Rows per second, rounded down.
pub(crate) fn per_second(rows: u64, elapsed: Duration) -> u64 {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    rows.saturating_mul(1000) / ms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_and_rates_never_divide_by_zero() {
        let (mut reader, count) = Counted::new(&b"abcdef"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 6);
        assert_eq!(per_second(10, Duration::ZERO), 10_000);
        assert_eq!(per_second(1_500, Duration::from_secs(3)), 500);
    }
}
