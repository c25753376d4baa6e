//! A cluster of real processes on this machine, for the demo and the bench.
//!
//! ```text
//!  folder     where all of it lives: fresh, named, or kept under a tag
//!  cluster    cluster file, ports, the nodes, their links and a client that waits until they serve
//!  process    one node as a child process
//!  health     is the cluster as it should be; leaders sent back home
//!  resources  memory and disk of all of it
//!  signals    Ctrl-C, once and twice
//! ```

pub(crate) mod cluster;
pub(crate) mod folder;
pub(crate) mod health;
pub(crate) mod process;
pub(crate) mod resources;
pub(crate) mod signals;
