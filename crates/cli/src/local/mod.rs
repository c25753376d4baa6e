//! A cluster of real processes on this machine, for the demo and the bench.
//!
//! ```text
//!  cluster    folder, cluster file, ports, the nodes and a client that waits until they serve
//!  process    one node as a child process
//!  health     is the cluster as it should be; leaders sent back home
//!  resources  memory and disk of all of it
//!  signals    Ctrl-C, once and twice
//! ```

pub(crate) mod cluster;
pub(crate) mod health;
pub(crate) mod process;
pub(crate) mod resources;
pub(crate) mod signals;
