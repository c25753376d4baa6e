//! Everything the binary prints, in one place: text and tables for people, documents for programs.
//!
//! ```text
//!  -o table, terminal      tables fitted to the width, colours unless --no-color or NO_COLOR
//!  -o table, pipe or file  the same tables as tab-separated lines
//!  -o json                 stdout holds exactly one document; text for people goes to stderr
//! ```
//!
//! Printing never fails at the call: the first error of stdout is kept, and [`Output::finish`]
//! reports it at the end. A reader that closes the pipe early is no error.

mod document;
mod figures;
mod table;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_types::Code;

pub(crate) use document::{API_VERSION, Document, error_json, retry_word, rfc3339};
pub(crate) use figures::thousands;
pub(crate) use table::{Cell, Table, Tone};

use crate::exit::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; tab-separated when stdout is no terminal.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Where a command prints. Shared by reference; all methods take `&self`.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    is_terminal: bool,
    has_color: bool,
    /// Set once a document was printed, so that a failure does not print a second one.
    has_document: AtomicBool,
    /// The first error of stdout.
    broken: Mutex<Option<io::Error>>,
}

impl Output {
    /// An output on this process's stdout and stderr. `no_color` adds to the `NO_COLOR` variable.
    #[must_use]
    pub(crate) fn new(format: Format, no_color: bool) -> Output {
        let is_terminal = io::stdout().is_terminal();
        let wants_color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let has_color = is_terminal && wants_color && !no_color;
        Output {
            format,
            is_terminal,
            has_color,
            has_document: AtomicBool::new(false),
            broken: Mutex::new(None),
        }
    }

    /// Whether stdout holds one JSON document and nothing else.
    #[must_use]
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person looks at stdout.
    #[must_use]
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether colours may be used on stdout.
    #[must_use]
    pub(crate) fn has_color(&self) -> bool {
        self.has_color
    }

    /// A line for people: stdout, or stderr when stdout is kept for a document.
    pub(crate) fn say(&self, text: impl Display) {
        if self.is_json() {
            eprint_line(&text.to_string());
        } else {
            self.write(format!("{text}\n").as_bytes());
        }
    }

    /// A remark that is no part of the result: always stderr.
    pub(crate) fn note(&self, text: impl Display) {
        eprint_line(&text.to_string());
    }

    /// A warning: always stderr.
    pub(crate) fn warn(&self, text: impl Display) {
        eprint_line(&format!("warning: {text}"));
    }

    /// A table for people. With `-o json` it is not printed: the document has the data.
    pub(crate) fn table(&self, table: &Table) {
        if self.is_json() {
            return;
        }
        let text = if self.is_terminal { table.fitted(self.has_color) } else { table.tabbed() };
        self.write(text.as_bytes());
    }

    /// The document of the command. Without `-o json` it is not printed.
    pub(crate) fn document(&self, document: &Document) {
        if !self.is_json() {
            return;
        }
        self.has_document.store(true, Ordering::Relaxed);
        let mut text = document.to_text(std::time::SystemTime::now());
        text.push('\n');
        self.write(text.as_bytes());
    }

    /// Bytes of a result as they are, such as a value or a line of CSV.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        self.write(bytes);
    }

    /// `text` in the colour of `tone`, if colours may be used.
    #[must_use]
    pub(crate) fn paint(&self, tone: Tone, text: impl Display) -> String {
        match tone.ansi().filter(|_| self.has_color) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_string(),
        }
    }

    /// Prints why a command failed: stderr for people, and with `-o json` a document of kind `error`
    /// unless the command printed its own.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Some(error) = failure.error() else { return };
        eprint_line(&failure.to_string());
        eprint_line(&format!("quorate error {} explains", error.code));
        if !self.has_document.load(Ordering::Relaxed) {
            let mut document = Document::new("error");
            document.errors.push(error_json(error, failure.fix()));
            self.document(&document);
        }
    }

    /// Whether nobody reads stdout any more: long output may stop.
    #[must_use]
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.lock().is_ok_and(|broken| broken.is_some())
    }

    /// Flushes and reports the first error of stdout.
    ///
    /// # Errors
    /// `DISK_FAILED` if something printed was lost. A closed pipe is no error.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        if let Err(error) = io::stdout().flush() {
            self.keep(error);
        }
        let broken = self.broken.lock().ok().and_then(|mut broken| broken.take());
        match broken {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(Code::DiskFailed, format!("cannot write to stdout: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, bytes: &[u8]) {
        if self.is_broken() {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes) {
            drop(stdout);
            self.keep(error);
        }
    }

    fn keep(&self, error: io::Error) {
        if let Ok(mut broken) = self.broken.lock() {
            broken.get_or_insert(error);
        }
    }
}

/// A line to stderr.
fn eprint_line(text: &str) {
    // Harmless: results go to stdout, whose errors are kept, and of a closed stderr nobody can be told.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
