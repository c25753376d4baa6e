//! etcd's turn: a cluster of three processes, the load, and whether its leader stayed.

mod cluster;
mod load;
mod wire;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub(crate) use self::cluster::version;
use self::cluster::{Cluster, ClusterError};
use self::load::LoadError;
use crate::turn::{Figures, Load, Workload};

/// Why etcd's turn gave no figures.
#[derive(Debug, Error)]
pub(crate) enum EtcdError {
    /// The cluster did not start or did not stay.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The load could not be carried through.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// How etcd is started and asked.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The binary.
    pub(crate) program: PathBuf,
    /// Added to every port.
    pub(crate) port_offset: u16,
    /// HTTP/2 connections.
    pub(crate) connections: NonZeroUsize,
    /// Whether these go to all nodes in turn, not only to the leader.
    pub(crate) is_spread: bool,
}

/// Runs one turn. All data lie in `dir` while it runs.
///
/// # Errors
/// If etcd does not start, or no request ends well.
pub(crate) async fn turn(setting: &Setting, load: Load, dir: &Path) -> Result<Figures, EtcdError> {
    let mut cluster = Cluster::start(&setting.program, setting.port_offset, dir)?;
    let before = cluster.leadership().await?;
    let addresses =
        if setting.is_spread { cluster.addresses() } else { vec![cluster.address(before.leader)] };
    let channels = wire::connect_all(&addresses, setting.connections.get().min(load.callers))
        .await
        .map_err(LoadError::from)?;
    if load.workload == Workload::Get {
        load::fill(load, &channels).await?;
        cluster.settle().await?;
    }
    let mut figures = load::run(load, &channels).await?;
    let after = cluster.leadership().await?;
    let elections = after.term.saturating_sub(before.term);
    if 0 < elections {
        figures.remarks.push(format!("etcd began {elections} elections meanwhile"));
    }
    Ok(figures)
}
