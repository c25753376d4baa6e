//! Where the workload reads and writes: registers and ledgers in every group, and the addresses of the
//! simulated machines.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use quorate_topology::{TableClass, Topology};
use quorate_types::{GroupId, Uid};

use crate::history::KeyId;

/// UIDs tried when looking for one in a group.
const UIDS_MAX: u64 = 100_000;

/// A place of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number in the history.
    pub id: KeyId,
    /// The group.
    pub group: GroupId,
    /// The table.
    pub table: String,
    /// The user.
    pub uid: Uid,
    /// The key of a register; of a ledger the key of its counter.
    pub key: String,
    /// A ledger, not a register.
    pub is_ledger: bool,
}

impl Place {
    /// The key of a row of a ledger.
    #[must_use]
    pub fn row(&self, number: u64) -> String {
        format!("row/{number:020}")
    }

    /// The number of a row of a ledger.
    #[must_use]
    pub fn row_number(key: &[u8]) -> Option<u64> {
        std::str::from_utf8(key).ok()?.strip_prefix("row/")?.parse().ok()
    }
}

/// `registers` registers and one ledger in every group that a table leads to.
#[must_use]
pub fn places(topology: &Topology, registers: u32) -> Vec<Place> {
    let mut places = Vec::new();
    for group in topology.groups() {
        let Some((table, uid)) = a_user_of(topology, group.id) else {
            continue;
        };
        let ledger = std::iter::once(("count".to_owned(), true));
        let keys = (0..registers).map(|i| (format!("register-{i}"), false)).chain(ledger);
        for (key, is_ledger) in keys {
            let id = places.len() as KeyId;
            let (group, table) = (group.id, table.clone());
            places.push(Place { id, group, table, uid, key, is_ledger });
        }
    }
    places
}

/// A table and a user whose rows are in a group.
fn a_user_of(topology: &Topology, group: GroupId) -> Option<(String, Uid)> {
    topology.tables().find_map(|table| {
        let uids = if table.class == TableClass::Unit { 0..UIDS_MAX } else { 0..1 };
        let leads = |uid: &u64| {
            topology.route(table.id, Uid(*uid)).is_ok_and(|route| route.group.id == group)
        };
        uids.into_iter().find(leads).map(|uid| (table.name.clone(), Uid(uid)))
    })
}

/// The first `count` users whose accounts are in a group; none where no slice leads to it.
#[must_use]
pub fn users_of(topology: &Topology, group: GroupId, count: usize) -> Vec<Uid> {
    let has_slices = topology.group(group).is_some_and(|it| !it.slices.is_empty());
    let uids = if has_slices { 1..UIDS_MAX } else { 0..0 };
    let leads = |uid: &Uid| topology.group_of_accounts(*uid).is_ok_and(|it| it.id == group);
    uids.map(Uid).filter(leads).take(count).collect()
}

/// The address of the machine of server `index`.
#[must_use]
pub fn server_ip(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, index as u8 + 1))
}

/// The address of the machine of client `index`.
#[must_use]
pub fn client_ip(index: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 1, index as u8 + 1))
}

/// The topology with every node on a simulated machine of its own.
///
/// # Errors
/// What is wrong with the text.
pub fn on_simulated_machines(text: &str) -> Result<Arc<Topology>, String> {
    let topology = Topology::parse(text).map_err(|error| error.to_string())?;
    let mut text = text.to_owned();
    for (index, node) in topology.nodes().enumerate() {
        for (address, port) in [(&node.client, 6440), (&node.peer, 6441), (&node.admin, 6480)] {
            let simulated = format!("\"{}:{port}\"", server_ip(index));
            text = text.replace(&format!("\"{address}\""), &simulated);
        }
    }
    Topology::parse(&text).map(Arc::new).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets;
    use quorate_types::ClusterId;

    use super::*;

    /// Goal: every group is used, and any cluster file can be simulated.
    #[test]
    fn every_group_has_places_and_every_node_a_machine() {
        let text = presets::three_cities_five_idcs(&presets::Options::demo(ClusterId(7)));
        let topology = on_simulated_machines(&text).unwrap();
        let addresses: Vec<&str> = topology.nodes().map(|node| node.client.as_str()).collect();
        assert_eq!(addresses[4], "10.0.0.5:6440");
        let places = places(&topology, 2);
        for group in topology.groups() {
            assert_eq!(places.iter().filter(|place| place.group == group.id).count(), 3);
        }
    }
}
