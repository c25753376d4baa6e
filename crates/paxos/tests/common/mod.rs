//! A cluster of pure replicas with disks, clocks and links, moved by events. The explorer draws the
//! events from a seed, the golden scripts write them down; both see the same cluster.

pub mod calm;
pub mod cluster;
pub mod event;
pub mod links;
pub mod members;
pub mod node;
pub mod operator;
