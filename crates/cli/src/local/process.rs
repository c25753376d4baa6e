//! One node as a child process: started with this binary's `server` command, killed or stopped by
//! signal, and never left behind.
//!
//! A process that ends in good order ends its nodes by dropping them. Two ends drop nothing, a panic
//! (which aborts) and the second Ctrl-C; [`kill_all`] is for them.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_types::{Code, Link};
use rustix::process::{Pid, Signal, kill_process};

use crate::certificates;
use crate::config::FILE_VARIABLE;
use crate::exit::Failure;
use crate::node::Profile;

/// Between two looks whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// A killed process is gone within this.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The processes that run, or have ended and are not waited for yet: their numbers are not reused.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process numbers of the nodes that run.
pub(crate) fn running_pids() -> Vec<Pid> {
    running().clone()
}

/// Kills every node at once.
pub(crate) fn kill_all() {
    for pid in running().iter() {
        // One that has ended by itself is as good.
        let _ = kill_process(*pid, Signal::KILL);
    }
}

/// From now on a panic kills the nodes before it ends this process.
pub(crate) fn kill_all_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        kill_all();
        before(panic);
    }));
}

/// What a node is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    /// The cluster file.
    pub(crate) cluster_file: &'a Path,
    /// The name of the node.
    pub(crate) node: &'a str,
    /// Its data folder.
    pub(crate) data: &'a Path,
    /// Where its output goes; appended to.
    pub(crate) log: &'a Path,
    /// How much memory and disk it may take.
    pub(crate) profile: Profile,
    /// Its threads for requests and peers.
    pub(crate) threads: NonZeroUsize,
    /// What it does to its links at first; `None`: nothing, and nobody may ask for it.
    pub(crate) links: Option<&'a [Link]>,
}

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    child: Child,
    pid: Pid,
}

impl NodeProcess {
    /// Starts a node.
    ///
    /// # Errors
    /// If the log cannot be written or the process cannot be started.
    pub(crate) fn start(start: Start<'_>) -> Result<NodeProcess, Failure> {
        let opened = OpenOptions::new().create(true).append(true).open(start.log);
        let log = opened.map_err(|error| Failure::file("write", start.log, &error))?;
        let log_too = log.try_clone().map_err(|error| Failure::file("write", start.log, &error))?;
        let cannot = |error: std::io::Error| {
            Failure::new(Code::Internal, format!("cannot start node {}: {error}", start.node))
        };
        let program = std::env::current_exe().map_err(cannot)?;
        let mut command = Command::new(program);
        // All nodes are on this machine, and nobody else reaches them. No file says otherwise.
        for variable in certificates::VARIABLES.iter().chain([&FILE_VARIABLE]) {
            command.env_remove(variable);
        }
        command.args(["server", "--insecure"]);
        if let Some(links) = start.links {
            command.arg("--allow-faults");
            if !links.is_empty() {
                command.args(["--links", &Link::text_of(links)]);
            }
        }
        let child = command
            .arg("--cluster")
            .arg(start.cluster_file)
            .args(["--node", start.node])
            .arg("--data")
            .arg(start.data)
            .args(["--profile", start.profile.word()])
            .args(["--threads", &start.threads.to_string()])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0) // Ctrl-C is for this process; it decides what its nodes do.
            .spawn()
            .map_err(cannot)?;
        let pid = Pid::from_child(&child);
        running().push(pid);
        Ok(NodeProcess { child, pid })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        running().retain(|pid| *pid != self.pid);
        Some(status)
    }

    /// Sends a signal; one that has ended by itself takes none.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// Waits until it has ended; `None` if it has not within the limit.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if deadline <= Instant::now() {
                return None;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(KILL_LIMIT).await;
    }

    /// Stops it with SIGTERM, and with SIGKILL at the limit. True if it stopped by itself without an
    /// error.
    pub(crate) async fn stop(mut self, limit: Duration) -> bool {
        self.signal(Signal::TERM);
        match self.wait(limit).await {
            Some(status) => status.success(),
            None => {
                self.kill().await;
                false
            }
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.signal(Signal::KILL);
        // A killed process ends at once; only one stuck in the kernel would not.
        let _ = self.child.wait();
        running().retain(|pid| *pid != self.pid);
    }
}
