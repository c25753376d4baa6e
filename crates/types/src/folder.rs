//! What a node knows of the data folders of its peers.

use crate::ids::Incarnation;

/// The data folder of a peer, as a node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFolder {
    /// Its random number.
    pub incarnation: Incarnation,
    /// What it is to the peer's name.
    pub state: FolderState,
}

/// What a data folder is to the name of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// The first that was met: its replicas have the ids that their groups began with.
    First,
    /// Another one before it was lost: its replicas have ids of their own.
    Reborn,
    /// Two were met as the first, by different nodes: at least one of them forgot promises, and which one
    /// nobody knows. Neither counts.
    Disputed,
}
