//! Drives the groups of a node: events in, outputs carried out in order, waiters answered.
