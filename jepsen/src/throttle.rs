//! A limit on how fast one process writes to one device, by a control group of version 1 or 2.
//!
//! Used by `fault/slow_disk.rs`. Lifted when dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::Failure;
use crate::host::{self, Lacking};

/// Where control groups are mounted, by convention.
const ROOT_V1: &str = "/sys/fs/cgroup/blkio";
const ROOT_V2: &str = "/sys/fs/cgroup";

/// A control group with a limit.
#[derive(Debug)]
pub(crate) struct Throttle {
    root: PathBuf,
    group: PathBuf,
    device: String,
    is_v1: bool,
    members: Vec<Pid>,
}

/// Bytes a second at which `check_felt` looks.
const PROBE_BYTES_PER_S: u64 = 64 * 1024;

impl Throttle {
    /// Makes a group for limits on writes to a device, given as `major:minor`.
    pub(crate) fn create(device: &str) -> Result<Throttle, Lacking> {
        let is_v1 = Path::new(ROOT_V1).join("blkio.throttle.write_bps_device").exists();
        let root = PathBuf::from(if is_v1 { ROOT_V1 } else { ROOT_V2 });
        let lacking = |error: std::io::Error| {
            Lacking(format!("needs control groups that limit writes: {}: {error}", root.display()))
        };
        if !is_v1 {
            let controllers =
                fs::read_to_string(root.join("cgroup.controllers")).map_err(lacking)?;
            if !controllers.split_whitespace().any(|controller| controller == "io") {
                return Err(Lacking("needs control groups with the io controller".to_owned()));
            }
            fs::write(root.join("cgroup.subtree_control"), "+io").map_err(lacking)?;
        }
        let group = root.join(format!("quorate-jepsen-{}", std::process::id()));
        fs::create_dir_all(&group).map_err(lacking)?;
        let device = device.to_owned();
        Ok(Throttle { root, group, device, is_v1, members: Vec::new() })
    }

    /// Lets the processes of the group write so many bytes a second.
    pub(crate) fn set(&self, bytes_per_s: u64) -> std::io::Result<()> {
        let (file, rule) = if self.is_v1 {
            ("blkio.throttle.write_bps_device", format!("{} {bytes_per_s}", self.device))
        } else {
            ("io.max", format!("{} wbps={bytes_per_s}", self.device))
        };
        fs::write(self.group.join(file), rule)
    }

    /// Lets them write as they like. What already waits in the kernel goes on under the new limit.
    pub(crate) fn lift(&self) -> std::io::Result<()> {
        self.set(u64::from(u32::MAX))
    }

    /// Writes a file under a limit, to see that there is one: some kernels accept rules and ignore them.
    pub(crate) fn check_felt(&self, folder: &Path) -> Result<(), Lacking> {
        let path = folder.join("throttle.probe");
        self.set(PROBE_BYTES_PER_S)
            .map_err(|error| Lacking(format!("cannot limit writes: {error}")))?;
        let (blocks, began) = (2 * PROBE_BYTES_PER_S / 4096, Instant::now());
        let command = format!(
            "echo $$ > '{}' && exec dd if=/dev/zero of='{}' bs=4096 count={blocks} conv=fdatasync",
            self.group.join("cgroup.procs").display(),
            path.display(),
        );
        let written = host::run("sh", ["-c", &command]);
        let took = began.elapsed();
        let _absent = fs::remove_file(path).is_err();
        written.map_err(|error| Lacking(format!("cannot write under a limit: {error}")))?;
        if took < Duration::from_secs(1) {
            let text = format!("limits on writes are not felt: {blocks} blocks took {took:?}");
            return Err(Lacking(text));
        }
        Ok(())
    }

    /// Limits a process.
    pub(crate) fn limit(&mut self, process: Pid) -> Result<(), Failure> {
        fs::write(self.group.join("cgroup.procs"), process.as_raw_nonzero().to_string())?;
        self.members.push(process);
        Ok(())
    }
}

impl Drop for Throttle {
    /// Moves the processes out and removes the group.
    fn drop(&mut self) {
        let _lifted = self.lift().is_ok();
        for process in &self.members {
            // It may have ended.
            let number = process.as_raw_nonzero().to_string();
            let _ended = fs::write(self.root.join("cgroup.procs"), number).is_err();
        }
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("left behind: {}: {error}", self.group.display());
        }
    }
}
