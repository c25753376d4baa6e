//! The log of a server: JSON lines for machines, text for people, on stderr.

use std::io::IsTerminal;

use quorate_types::Code;
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Lines for people.
    Text,
}

impl LogFormat {
    /// Text where a person looks on, JSON otherwise.
    pub(crate) fn default_here() -> LogFormat {
        if std::io::stdout().is_terminal() { LogFormat::Text } else { LogFormat::Json }
    }
}

/// Starts to log. `filter` is a level such as `info`, or levels by module.
///
/// # Errors
/// `CONFIG_INVALID` if the filter cannot be understood.
pub(crate) fn start(format: LogFormat, filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(Code::ConfigInvalid, format!("log filter {filter:?}: {error}")).with_fix(
            "write a level such as info, or levels by module such as info,quorate_log=debug",
        )
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    started.map_err(|error| Failure::new(Code::Internal, format!("cannot start the log: {error}")))
}
