//! The certificates and rights of a node, from the folder it was given, and again whenever a file in it
//! changes. Real processes only.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quorate_tls::{Paths, Tls};
use quorate_topology::{Node, Topology};
use quorate_types::{Code, Error, Identity, Who};
use tracing::{error, info, warn};

use crate::context::NodeContext;
use crate::rights::Rights;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate that ends within this is spoken of once a day.
const ENDS_SOON: Duration = Duration::from_secs(21 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a node is given so that it can tell its callers apart.
#[derive(Debug)]
pub struct NodeSecurity {
    /// Its certificates.
    pub tls: Tls,
    /// What clients may do.
    pub rights: Rights,
}

/// Reads the folder of a node.
///
/// # Errors
/// `CERTIFICATE_INVALID` or `CONFIG_INVALID` with the file and what is wrong with it.
pub(crate) fn open(dir: &Path, topology: &Topology, node: &Node) -> Result<NodeSecurity, Error> {
    let paths = Paths::of_node(dir, &node.name);
    let file = paths.certificate.display().to_string();
    let tls = Tls::open(paths)?;
    let identity = tls.identity();
    let expected = Identity { cluster: topology.cluster_id(), who: Who::Node(node.id) };
    if identity != expected {
        let message = format!("{file} is of {identity}, node {} is {expected}", node.name);
        return Err(Error::new(Code::CertificateInvalid, message).with("file", file));
    }
    let rights = read_rights(&rights_file(dir), topology)?;
    Ok(NodeSecurity { tls, rights })
}

fn rights_file(dir: &Path) -> PathBuf {
    dir.join("rights.toml")
}

fn read_rights(path: &Path, topology: &Topology) -> Result<Rights, Error> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!(
            "{name} cannot be read: {error}; it says what clients may do, `quorate cert create-ca` \
             makes one"
        );
        Error::new(Code::ConfigInvalid, message).with("file", &name)
    })?;
    Rights::parse(&name, &text, topology)
}

/// Changes whenever the file does.
fn stamp(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

/// Looks at the files until the node stops. What cannot be used leaves in use what was read before, and is
/// said once for each change.
pub(crate) async fn watch(context: Arc<NodeContext>, dir: PathBuf) {
    let (Some(tls), Some(access)) = (context.tls.clone(), context.access.as_ref()) else { return };
    let rights = rights_file(&dir);
    let mut seen = stamp(&rights);
    let mut complaint = None;
    let mut warned_at: Option<SystemTime> = None;
    loop {
        tokio::select! {
            biased;
            () = context.stopped() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match tls.refresh() {
            Ok(true) => info!(seconds_left = seconds_left(&tls), "certificates read again"),
            Ok(false) => {}
            Err(reason) if complaint.as_ref() == Some(&reason) => {}
            Err(reason) => {
                error!(%reason, "the certificates on disk cannot be used, the old ones stay in use");
                complaint = Some(reason);
            }
        }
        let now = stamp(&rights);
        if now != seen {
            seen = now;
            match read_rights(&rights, &context.topology) {
                Ok(rights) => {
                    access.set_rights(rights);
                    info!(target: "audit", file = %rights_file(&dir).display(), "rights read again");
                }
                Err(reason) => {
                    error!(%reason, "the rights on disk cannot be used, the old ones stay in use");
                }
            }
        }
        let now = SystemTime::now();
        let is_due = warned_at.is_none_or(|at| now.duration_since(at).is_ok_and(|age| DAY < age));
        let left = tls.not_after().duration_since(now).unwrap_or_default();
        if left < ENDS_SOON && is_due {
            warned_at = Some(now);
            warn!(hours_left = left.as_secs() / 3600, "the certificate of this node ends soon");
        }
    }
}

/// How long the certificate of this node is still valid.
pub(crate) fn seconds_left(tls: &Tls) -> u64 {
    tls.not_after().duration_since(SystemTime::now()).unwrap_or_default().as_secs()
}
