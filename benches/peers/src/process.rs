//! A child process that does not outlive the value that holds it, and whose output goes to a file.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// A process that was asked to end and has not is killed after this.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// The last lines of its output that are shown of a process that ended badly.
const LINES_SHOWN: usize = 5;

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With SIGKILL: it has nothing to tidy up.
    Kill,
    /// With SIGTERM first: it has processes of its own.
    Ask,
}

/// A running process. Dropping it ends it and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ending: Ending,
}

impl Process {
    /// Starts a process. Variables whose names begin with `prefix` are settings of its program and are
    /// not handed down: only what the command line says counts.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        command: &mut Command,
        prefix: &str,
        (stdout, stderr): (File, File),
        ending: Ending,
    ) -> io::Result<Process> {
        for (name, _) in std::env::vars_os() {
            if begins_with(&name, prefix) {
                command.env_remove(name);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0) // Ctrl-C is for us; we end what we started.
            .spawn()?;
        Ok(Process { child, ending })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system does not say.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If the system does not say.
    pub(crate) async fn end(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks it to end. True if it did within the limit.
    fn has_obeyed(&mut self) -> bool {
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_err() {
            return false;
        }
        let asked = Instant::now();
        while asked.elapsed() < ASK_LIMIT {
            if matches!(self.ended(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(Some(_))) {
            return; // Its number may belong to another process by now.
        }
        if self.ending == Ending::Ask && self.has_obeyed() {
            return;
        }
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn begins_with(name: &OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// The end of what a process wrote into a file.
pub(crate) fn last_lines(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> (File, File) {
        let open = || File::options().write(true).open("/dev/null").unwrap();
        (open(), open())
    }

    #[test]
    fn a_dropped_process_is_gone() {
        for ending in [Ending::Kill, Ending::Ask] {
            let process =
                Process::start(Command::new("sleep").arg("60"), "NO_", null(), ending).unwrap();
            let pid = Pid::from_child(&process.child);
            drop(process);
            assert!(rustix::process::test_kill_process(pid).is_err(), "{ending:?}");
        }
    }

    #[test]
    fn only_the_end_of_an_output_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1\n2\n3\n4\n5\n6\n").unwrap();
        assert_eq!(last_lines(file.path()), "2\n3\n4\n5\n6");
        assert_eq!(last_lines(Path::new("/no/such/file")), "");
    }
}
