//! The server as this binary sees it: the only file that knows how a node is started.

use std::path::PathBuf;

pub(crate) use quorate_server::Security;

use crate::exit::Failure;

/// How much memory and disk a node may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// A server with a machine of its own.
    #[default]
    Normal,
    /// A laptop or a demo: less memory, smaller log.
    Small,
}

impl Profile {
    /// As on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Profile::Normal => "normal",
            Profile::Small => "small",
        }
    }
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// The cluster file.
    pub(crate) cluster_file: PathBuf,
    /// The name of the node in it.
    pub(crate) node: String,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// How much memory and disk it may use.
    pub(crate) profile: Profile,
    /// How it tells its callers apart.
    pub(crate) security: Security,
}

/// Runs a node until `shutdown` ends and the node has stopped.
///
/// # Errors
/// What keeps the node from starting or running, coded by the server.
pub(crate) async fn serve(
    options: NodeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let profile = match options.profile {
        Profile::Normal => quorate_server::Profile::Normal,
        Profile::Small => quorate_server::Profile::Small,
    };
    let options = quorate_server::ServerOptions {
        cluster_file: options.cluster_file,
        node: options.node,
        data: options.data,
        profile,
        security: options.security,
    };
    Box::pin(quorate_server::serve(options, shutdown)).await.map_err(Failure::from)
}
