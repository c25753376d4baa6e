//! Cities, IDCs, zones, nodes, tables, units, slice map and groups: the cluster file, its rules and
//! its answers.
//!
//! ```text
//!  cluster.toml --reader, file--> raw items with lines --validate--> Topology
//!                                                                      |-- route     who serves a UID
//!                                                                      |-- explain   and why, in words
//!                                                                      |-- survival  what may be lost
//!                                                                      |-- change    other members, step by step
//!                                                                      `-- text      back to TOML
//! ```
//!
//! A [`Topology`] is a value: parsed, checked and never changed. Servers and clients hold the same
//! one, because a server hands out the text it was started with ([`Topology::text`]) and a client
//! parses it again. Nothing here does I/O, reads a clock, draws a random number or depends on the
//! order of a hash map, so that every process computes the same answers from the same file.
//!
//! Start reading at `model.rs`; the file format is described in `docs/TOPOLOGY.md`.

pub mod change;
mod explain;
mod file;
mod locality;
mod model;
pub mod new_file;
pub mod presets;
mod problem;
mod reader;
pub mod recovery;
mod route;
mod slices;
mod suggest;
pub mod survival;
mod text;
mod topology;
mod validate;
mod voters;
mod words;

pub use explain::{ExplainedMember, Explanation};
pub use locality::{LeaderOrder, Locality, Placement};
pub use model::{
    City, Group, Idc, LeaseProfile, Member, Node, Table, TableClass, Unit, UnitKind, Zone,
};
pub use problem::{PROBLEMS_MAX, Problem, TopologyError};
pub use quorate_types::ReplicaKind;
pub use route::{Route, RouteError};
pub use slices::{SliceSet, slice_label};
pub use survival::{ClusterSurvival, Level, Loss, Survives, survives, what_may_still_be_lost};
pub use topology::{FILE_NAME_DEFAULT, Topology};
pub use validate::limits;
pub use voters::{WrongKinds, check_voters};
