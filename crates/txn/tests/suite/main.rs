//! `quorate-txn` from outside: a leader that evaluates, proposes and applies, and other replicas.

mod common;
mod cross;
mod entries;
mod many;
mod model;
mod money;
mod money_bank;
mod money_model;
mod money_search;
mod replicas;
mod sessions;
mod transactions;
mod traps;
