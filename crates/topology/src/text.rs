//! The canonical text of a topology: everything written out, nothing left to a default or a rule.

use std::fmt::Write;

use crate::model::{Group, Node};
use crate::topology::Parts;

/// Writes what `Topology::parse` reads back as the same topology.
pub(crate) fn write(parts: &Parts) -> String {
    let mut out = String::new();
    write_parts(parts, &mut out).expect("writing to a string cannot fail");
    out
}

fn write_parts(parts: &Parts, out: &mut String) -> std::fmt::Result {
    writeln!(out, "[cluster]")?;
    writeln!(out, "name = \"{}\"", parts.name)?;
    writeln!(out, "id = \"{}\"", parts.cluster_id)?;
    writeln!(out, "version = {}", parts.version)?;
    writeln!(out, "lease = \"{}\"", parts.lease)?;
    writeln!(out, "slices = {}", parts.slice_count)?;
    for city in &parts.cities {
        writeln!(out, "\n[[city]]\nname = \"{}\"", city.name)?;
    }
    for idc in &parts.idcs {
        writeln!(out, "\n[[idc]]\nname = \"{}\"\ncity = \"{}\"", idc.name, idc.city)?;
    }
    for zone in &parts.zones {
        writeln!(out, "\n[[zone]]\nname = \"{}\"\nidc = \"{}\"", zone.name, zone.idc)?;
    }
    for node in parts.nodes.values() {
        write_node(node, out)?;
    }
    for table in parts.tables.values() {
        writeln!(out, "\n[[table]]\nid = {}\nname = \"{}\"", table.id.0, table.name)?;
        writeln!(out, "class = \"{}\"", table.class)?;
    }
    for unit in parts.units.values() {
        writeln!(out, "\n[[unit]]\nname = \"{}\"\nkind = \"{}\"", unit.name, unit.kind)?;
        if !unit.slices.is_empty() {
            writeln!(out, "slices = \"{}\"", unit.slices)?;
        }
    }
    for group in parts.groups.values() {
        write_group(group, parts, out)?;
    }
    Ok(())
}

fn write_node(node: &Node, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n[[node]]\nid = {}\nname = \"{}\"", node.id.0, node.name)?;
    writeln!(out, "zone = \"{}\"", node.zone)?;
    writeln!(out, "client = \"{}\"", node.client)?;
    writeln!(out, "peer = \"{}\"", node.peer)?;
    writeln!(out, "admin = \"{}\"", node.admin)
}

fn write_group(group: &Group, parts: &Parts, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n[[group]]\nid = {}\nunit = \"{}\"", group.id.0, group.unit)?;
    if !group.slices.is_empty() {
        writeln!(out, "slices = \"{}\"", group.slices)?;
    }
    writeln!(out, "locality = \"{}\"", group.locality)?;
    writeln!(out, "leader-order = \"{}\"", group.leader_order)?;
    let node_name = |id| parts.nodes.get(&id).map(|node| format!("\"{}\"", node.name));
    let names: Vec<String> =
        group.members.iter().filter_map(|member| node_name(member.node)).collect();
    writeln!(out, "members = [{}]", names.join(", "))
}
