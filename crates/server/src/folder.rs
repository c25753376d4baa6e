//! Whose data folder this is: asked before a node is started, by whoever prepares a machine.

use std::path::Path;
use std::sync::Arc;

use quorate_log::{Opened, PromiseFile, RealDisk};
use quorate_topology::Topology;
use quorate_types::{Code, Error, NodeId};

use crate::node::{check_owner, log_error};

/// Stands in a data folder while it is filled from a backup.
pub(crate) const FILLING: &str = "RESTORING";

/// Refuses a data folder that was being filled from a backup and is not whole.
///
/// # Errors
/// `RESTORE_UNFINISHED`.
pub(crate) fn check_filled(data: &Path) -> Result<(), Error> {
    if !data.join(FILLING).exists() {
        return Ok(());
    }
    let message = format!("{} was being filled from a backup and is not whole", data.display());
    Err(Error::new(Code::RestoreUnfinished, message))
}

/// What a data folder holds for a node that is to be started on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFolder {
    /// No node was started on it yet. It exists now.
    Fresh,
    /// The node's own data.
    OfThisNode,
}

/// Looks into a data folder, and makes it if it does not exist. Nobody else may use it meanwhile.
///
/// # Errors
/// `DATA_FOLDER_LOCKED` if a process uses it, `CLUSTER_MISMATCH` or `NODE_MISMATCH` if it is another
/// node's, `RESTORE_UNFINISHED`, `PROMISES_UNREADABLE`, `FORMAT_UNKNOWN`, `DISK_FAILED`.
pub fn look_into(data: &Path, topology: &Topology, node: NodeId) -> Result<DataFolder, Error> {
    let disk = RealDisk::open(data).map_err(|error| log_error(&error))?;
    check_filled(data)?;
    let (_, opened) = PromiseFile::open(Arc::new(disk)).map_err(|error| log_error(&error))?;
    match opened {
        Opened::Fresh => Ok(DataFolder::Fresh),
        Opened::Valid(record) => {
            check_owner(&record, topology, node)?;
            Ok(DataFolder::OfThisNode)
        }
        Opened::Unreadable { reason } => {
            let message = format!("the promise file is unreadable: {reason}");
            Err(Error::new(Code::PromisesUnreadable, message))
        }
    }
}
