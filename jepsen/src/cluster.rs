//! Three server processes on this machine: started, killed, started again.
//!
//! Used by `main.rs`. Knows the command line of `quorate server` and nothing else of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nodes of the cluster.
const NODES: u16 = 3;
/// Ports of a node, for clients, peers and administration.
const PORTS: u16 = 3;

/// The processes and where they live.
pub(crate) struct Cluster {
    binary: PathBuf,
    folder: PathBuf,
    base_port: u16,
    children: Vec<Child>,
}

impl Cluster {
    /// Writes the cluster file. Starts nothing.
    pub(crate) fn new(binary: &Path, folder: &Path, base_port: u16) -> io::Result<Cluster> {
        fs::write(folder.join("cluster.toml"), cluster_file(base_port))?;
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Ok(Cluster { binary, folder, base_port, children: Vec::new() })
    }

    /// Where clients go.
    pub(crate) fn endpoints(&self) -> String {
        let addresses: Vec<String> =
            (0..NODES).map(|index| format!("127.0.0.1:{}", self.base_port + 10 * index)).collect();
        format!("quorate://{}", addresses.join(","))
    }

    /// Fails if somebody else has one of our ports: killed processes must be ours.
    pub(crate) fn check_ports(&self) -> io::Result<()> {
        for node in 0..NODES {
            for port in (0..PORTS).map(|index| self.base_port + 10 * node + index) {
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
                    let message = format!("port {port}: {error}; choose others with --base-port");
                    io::Error::new(error.kind(), message)
                })?;
            }
        }
        Ok(())
    }

    /// Starts every node. Their output is appended to one file each.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        assert!(self.children.is_empty(), "the cluster runs already");
        for node in 1..=NODES {
            let path = self.folder.join(format!("n{node}.log"));
            let mut log = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(log, "--- started by the kill loop")?;
            let child = Command::new(&self.binary)
                .arg("server")
                .arg("--cluster")
                .arg(self.folder.join("cluster.toml"))
                .args(["--node", &format!("n{node}")])
                .arg("--data")
                .arg(self.folder.join(format!("n{node}")))
                .args(["--profile", "small"])
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?;
            self.children.push(child);
        }
        Ok(())
    }

    /// SIGKILL to all, then waits until all are gone. An error if one had ended by itself.
    pub(crate) fn kill_all(&mut self) -> io::Result<()> {
        let ended = self.ended()?;
        for child in &mut self.children {
            child.kill()?;
        }
        for child in &mut self.children {
            child.wait()?;
        }
        self.children.clear();
        match ended {
            None => Ok(()),
            Some(what) => Err(io::Error::other(what)),
        }
    }

    /// A node that ended without being asked to.
    pub(crate) fn ended(&mut self) -> io::Result<Option<String>> {
        for (index, child) in self.children.iter_mut().enumerate() {
            if let Some(status) = child.try_wait()? {
                let node = index + 1;
                return Ok(Some(format!("n{node} ended by itself: {status}; see n{node}.log")));
            }
        }
        Ok(None)
    }

    /// Asks every node to stop, and waits. An error if one does not end well and in time.
    pub(crate) fn stop(&mut self, patience: Duration) -> io::Result<()> {
        for child in &self.children {
            // The standard library has no SIGTERM; every shell has.
            let status =
                Command::new("sh").args(["-c", &format!("kill {}", child.id())]).status()?;
            if !status.success() {
                return Err(io::Error::other(format!("kill ended with {status}")));
            }
        }
        let deadline = Instant::now() + patience;
        for (index, child) in self.children.iter_mut().enumerate() {
            let node = index + 1;
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if deadline < Instant::now() {
                    return Err(io::Error::other(format!("n{node} did not stop in {patience:?}")));
                }
                std::thread::sleep(Duration::from_millis(20));
            };
            if !status.success() {
                return Err(io::Error::other(format!("n{node} was told to stop and {status}")));
            }
        }
        self.children.clear();
        Ok(())
    }
}

impl Drop for Cluster {
    /// Leaves no process behind, however the run ends.
    fn drop(&mut self) {
        for child in &mut self.children {
            let _gone = child.kill().and_then(|()| child.wait());
        }
    }
}

fn cluster_file(base_port: u16) -> String {
    let mut text = String::from(
        "[cluster]\nname = \"kill-loop\"\nid = \"0c5d7e1f2a3b4c5d6e7f8091a2b3c4d5\"\nlease = \"lan\"\n\n\
         [[city]]\nname = \"sh\"\n",
    );
    for (index, letter) in (0..NODES).zip('a'..) {
        let client = base_port + 10 * index;
        text += &format!(
            "\n[[idc]]\nname = \"sh-{letter}\"\ncity = \"sh\"\n\n\
             [[node]]\nid = {}\nzone = \"sh-{letter}\"\nclient = \"127.0.0.1:{client}\"\n\
             peer = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\n",
            index + 1,
            client + 1,
            client + 2,
        );
    }
    text += "\n[[table]]\nid = 1\nname = \"purchases\"\nclass = \"unit\"\n";
    for (group, slices, order) in [(1, "00-49", "sh-a;sh-b,sh-c"), (2, "50-99", "sh-b;sh-a,sh-c")] {
        text += &format!(
            "\n[[unit]]\nname = \"RZ0{0}\"\nkind = \"rzone\"\nslices = \"{slices}\"\n\n\
             [[group]]\nid = {group}\nunit = \"RZ0{0}\"\nlocality = \"F@sh-a,F@sh-b,F@sh-c\"\n\
             leader-order = \"{order}\"\n",
            group - 1,
        );
    }
    text
}
