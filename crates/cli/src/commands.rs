//! One file or folder per command. Each has its arguments and a `run`.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod debug;
pub(crate) mod error;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod group;
pub(crate) mod import;
pub(crate) mod kv;
pub(crate) mod ledger;
pub(crate) mod node;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod sim;
pub(crate) mod status;
pub(crate) mod topology;
pub(crate) mod transfer;
pub(crate) mod txn;
pub(crate) mod version;
