//! Cities, IDCs, zones and nodes: unique names, known parents, addresses that can be dialled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use quorate_types::{GroupId, NodeId};

use super::{check_name, refuse_repeats};
use crate::file::{RawFile, RawNode, RawPlace};
use crate::model::{City, Group, Idc, Node, Zone};
use crate::problem::Problems;
use crate::reader::At;
use crate::suggest;

/// The places that are sound. `zone_names` and `node_names` also hold those that are not, so that
/// one mistake is reported once.
pub(super) struct Places {
    pub(super) cities: Vec<City>,
    pub(super) idcs: Vec<Idc>,
    pub(super) zones: Vec<Zone>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) zone_names: BTreeSet<String>,
    pub(super) node_names: BTreeSet<String>,
    /// Whether every node is in a declared zone and sound: if not, a zone without nodes is no news.
    pub(super) all_nodes_placed: bool,
    /// Where each node is declared, for warnings.
    node_lines: BTreeMap<NodeId, (usize, String)>,
}

pub(super) fn check(file: &RawFile, problems: &mut Problems) -> Places {
    for (kind, items) in [("city", &file.cities), ("idc", &file.idcs), ("zone", &file.zones)] {
        check_names(kind, items, problems);
    }
    for (kind, missing) in [
        ("city", file.cities.is_empty()),
        ("idc", file.idcs.is_empty()),
        ("node", file.nodes.is_empty()),
    ] {
        if missing {
            problems.error(None, kind, format!("there is no [[{kind}]]"), None);
        }
    }
    let cities: Vec<City> = names(&file.cities).map(|name| City { name }).collect();
    let idcs = idcs(file, problems);
    let zones = zones(file, &idcs, problems);
    let zone_names: BTreeSet<String> = match file.zones.is_empty() {
        true => names(&file.idcs).collect(),
        false => names(&file.zones).collect(),
    };
    check_nodes(&file.nodes, &zone_names, problems);
    let mut nodes = BTreeMap::new();
    let mut node_lines = BTreeMap::new();
    for raw in &file.nodes {
        if let Some(node) = node(raw, &zones) {
            let line = raw.id.as_ref().map_or(0, |id| id.line);
            node_lines.insert(node.id, (line, raw.path.clone()));
            nodes.insert(node.id, node);
        }
    }
    let node_names =
        file.nodes.iter().filter_map(|raw| Some(raw.name.as_ref()?.value.clone())).collect();
    let all_nodes_placed = nodes.len() == file.nodes.len();
    Places { cities, idcs, zones, nodes, zone_names, node_names, all_nodes_placed, node_lines }
}

/// Warns about nodes without a replica: they were probably forgotten in a locality.
pub(super) fn warn_about_unused(
    places: &Places,
    groups: &BTreeMap<GroupId, Group>,
    problems: &mut Problems,
) {
    for node in places.nodes.values() {
        if groups.values().any(|group| group.member_on(node.id).is_some()) {
            continue;
        }
        if let Some((line, path)) = places.node_lines.get(&node.id) {
            let message = format!("node {:?} holds no replica of any group", node.name);
            problems.warning(Some(*line), path.clone(), message);
        }
    }
}

fn names(items: &[RawPlace]) -> impl Iterator<Item = String> + Clone + '_ {
    items.iter().filter_map(|item| Some(item.name.as_ref()?.value.clone()))
}

fn check_names(kind: &str, items: &[RawPlace], problems: &mut Problems) {
    let named = || {
        let with_path = |item: &RawPlace| format!("{}.name", item.path);
        items.iter().filter_map(move |item| Some((with_path(item), item.name.as_ref()?)))
    };
    for (path, name) in named() {
        check_name(kind, &path, name, problems);
    }
    refuse_repeats(|name| format!("{kind} name {name:?}"), named(), problems);
}

/// The name of the parent if it is known; a problem if it is not.
fn parent(
    item: &RawPlace,
    (kind, parent_kind): (&str, &str),
    known: &BTreeSet<String>,
    problems: &mut Problems,
) -> Option<String> {
    let parent = item.parent.as_ref()?;
    if known.contains(&parent.value) {
        return Some(parent.value.clone());
    }
    let name = item.name.as_ref().map_or("", |name| name.value.as_str());
    problems.error(
        Some(parent.line),
        format!("{}.{parent_kind}", item.path),
        format!("{kind} {name:?} is in {parent_kind} {:?}, which is not declared", parent.value),
        suggest::hint(&parent.value, &plural(parent_kind), known.iter().map(String::as_str)),
    );
    None
}

fn plural(kind: &str) -> String {
    if kind == "city" { "cities".to_owned() } else { format!("{kind}s") }
}

fn idcs(file: &RawFile, problems: &mut Problems) -> Vec<Idc> {
    let known: BTreeSet<String> = names(&file.cities).collect();
    let mut idcs = Vec::with_capacity(file.idcs.len());
    for item in &file.idcs {
        let city = parent(item, ("idc", "city"), &known, problems);
        if let (Some(name), Some(city)) = (&item.name, city) {
            idcs.push(Idc { name: name.value.clone(), city });
        }
    }
    idcs
}

fn zones(file: &RawFile, idcs: &[Idc], problems: &mut Problems) -> Vec<Zone> {
    if file.zones.is_empty() {
        let zone_of = |idc: &Idc| Zone {
            name: idc.name.clone(),
            idc: idc.name.clone(),
            city: idc.city.clone(),
        };
        return idcs.iter().map(zone_of).collect();
    }
    let known: BTreeSet<String> = names(&file.idcs).collect();
    let mut zones = Vec::with_capacity(file.zones.len());
    for item in &file.zones {
        let Some(idc_name) = parent(item, ("zone", "idc"), &known, problems) else { continue };
        let idc = idcs.iter().find(|idc| idc.name == idc_name);
        if let (Some(name), Some(idc)) = (&item.name, idc) {
            let (name, city) = (name.value.clone(), idc.city.clone());
            zones.push(Zone { name, idc: idc_name, city });
        }
    }
    zones
}

fn check_nodes(nodes: &[RawNode], zone_names: &BTreeSet<String>, problems: &mut Problems) {
    let at = |node: &RawNode, key: &str| format!("{}.{key}", node.path);
    let ids = nodes.iter().filter_map(|node| Some((at(node, "id"), node.id.as_ref()?)));
    refuse_repeats(|id| format!("node id {id}"), ids, problems);
    let named = nodes.iter().filter_map(|node| Some((at(node, "name"), node.name.as_ref()?)));
    for (path, name) in named.clone() {
        check_name("node", &path, name, problems);
    }
    refuse_repeats(|name| format!("node name {name:?}"), named, problems);
    for node in nodes {
        refuse_name_of_other(node, problems);
        if let Some(zone) = &node.zone
            && !zone_names.contains(&zone.value)
        {
            let name = node.name.as_ref().map_or("", |name| name.value.as_str());
            problems.error(
                Some(zone.line),
                at(node, "zone"),
                format!("node {name:?} is in zone {:?}, which is not declared", zone.value),
                suggest::hint(&zone.value, "zones", zone_names.iter().map(String::as_str)),
            );
        }
    }
    check_addresses(nodes, problems);
}

/// Nodes print as `n3`; a node 2 of that name would make every message ambiguous.
fn refuse_name_of_other(node: &RawNode, problems: &mut Problems) {
    let (Some(id), Some(name)) = (&node.id, &node.name) else { return };
    let digits = name.value.strip_prefix('n').unwrap_or_default();
    if digits.parse::<u32>().is_ok_and(|number| number != id.value) {
        let message =
            format!("node {} has the name {:?}, the name of node {digits}", id.value, name.value);
        let hint = format!("call it \"n{}\", or something without a number", id.value);
        problems.error(Some(name.line), format!("{}.name", node.path), message, Some(hint));
    }
}

fn check_addresses(nodes: &[RawNode], problems: &mut Problems) {
    let mut addresses: Vec<(String, &At<String>)> = Vec::new();
    for node in nodes {
        for (key, address) in
            [("client", &node.client), ("peer", &node.peer), ("admin", &node.admin)]
        {
            let Some(address) = address else { continue };
            let path = format!("{}.{key}", node.path);
            if let Err(reason) = check_address(&address.value) {
                let message = format!("{key} address {:?} {reason}", address.value);
                let hint = Some("write \"host:port\", as other nodes dial it".to_owned());
                problems.error(Some(address.line), path, message, hint);
            } else {
                addresses.push((path, address));
            }
        }
    }
    refuse_repeats(|address| format!("address {address:?}"), addresses.into_iter(), problems);
}

fn check_address(text: &str) -> Result<(), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    let port_ok = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| 0 < port);
    if !port_ok {
        return Err("has a port outside 1 to 65535");
    }
    if let Some(inner) = host.strip_prefix('[') {
        let ip = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        return dialable(ip.ok_or("has a broken IPv6 address")?.is_unspecified());
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return dialable(ip.is_unspecified());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let host_ok = !host.is_empty() && host.len() <= 253 && host.bytes().all(plain);
    if host_ok { Ok(()) } else { Err("has a broken host name") }
}

fn dialable(unspecified: bool) -> Result<(), &'static str> {
    if unspecified { Err("cannot be dialled") } else { Ok(()) }
}

fn node(raw: &RawNode, zones: &[Zone]) -> Option<Node> {
    let zone_name = &raw.zone.as_ref()?.value;
    let zone = zones.iter().find(|zone| zone.name == *zone_name)?;
    Some(Node {
        id: NodeId(raw.id.as_ref()?.value),
        name: raw.name.as_ref()?.value.clone(),
        zone: zone.name.clone(),
        idc: zone.idc.clone(),
        city: zone.city.clone(),
        client: raw.client.as_ref()?.value.clone(),
        peer: raw.peer.as_ref()?.value.clone(),
        admin: raw.admin.as_ref()?.value.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_accepted_if_they_can_be_dialled() {
        for good in ["127.0.0.1:6440", "db-1.pay.example:1", "[::1]:6440", "localhost:65535"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1",
            ":6440",
            "h:0",
            "h:65536",
            "h:+1",
            "h:",
            "0.0.0.0:1",
            "[::]:1",
            "[::1:6440",
            "::1:6440",
            "a b:1",
            "http://h:1",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
