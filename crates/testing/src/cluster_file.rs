//! The cluster file of a cluster of one node.

use std::fmt::{self, Write};

use quorate_topology::TableClass;
use quorate_types::ClusterId;

/// What there is to choose.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) tables: Vec<(String, TableClass)>,
    /// Units with the slices they own, such as `00-49`.
    pub(crate) units: Vec<(String, String)>,
}

impl Layout {
    /// The text. Whether the names are allowed is for `Topology::parse` to say.
    pub(crate) fn text(&self, cluster: ClusterId, ports: [u16; 3]) -> String {
        let mut out = String::new();
        self.write(&mut out, cluster, ports).expect("writing to a string cannot fail");
        out
    }

    fn write(&self, out: &mut String, cluster: ClusterId, ports: [u16; 3]) -> fmt::Result {
        let [client, peer, admin] = ports;
        writeln!(out, "[cluster]\nname = \"testing\"\nid = \"{cluster}\"\nlease = \"off\"")?;
        out.write_str("[[city]]\nname = \"here\"\n[[idc]]\nname = \"here-a\"\ncity = \"here\"\n")?;
        writeln!(out, "[[node]]\nid = 1\nzone = \"here-a\"\nclient = \"127.0.0.1:{client}\"")?;
        writeln!(out, "peer = \"127.0.0.1:{peer}\"\nadmin = \"127.0.0.1:{admin}\"")?;
        for (index, (name, class)) in self.tables.iter().enumerate() {
            writeln!(out, "[[table]]\nid = {}\nname = {name:?}\nclass = \"{class}\"", index + 1)?;
        }
        for (index, (name, slices)) in self.units.iter().enumerate() {
            writeln!(out, "[[unit]]\nname = {name:?}\nkind = \"rzone\"\nslices = {slices:?}")?;
            write_group(out, index + 1, name)?;
        }
        let is_unsharded = |(_, class): &(String, TableClass)| *class != TableClass::Unit;
        if self.tables.iter().any(is_unsharded) {
            out.write_str("[[unit]]\nname = \"GZ\"\nkind = \"gzone\"\n")?;
            write_group(out, self.units.len() + 1, "GZ")?;
        }
        Ok(())
    }
}

fn write_group(out: &mut String, id: usize, unit: &str) -> fmt::Result {
    writeln!(out, "[[group]]\nid = {id}\nunit = {unit:?}\nlocality = \"F@here-a\"")
}

#[cfg(test)]
mod tests {
    use quorate_topology::Topology;

    use super::*;

    #[test]
    fn what_is_chosen_makes_a_cluster() {
        // Goal: every class of table has a place, whatever the units.
        for class in [TableClass::Unit, TableClass::Home, TableClass::Global] {
            let layout = Layout {
                tables: vec![("rows".to_owned(), TableClass::Unit), ("other".to_owned(), class)],
                units: vec![
                    ("RZ00".to_owned(), "00-09".to_owned()),
                    ("RZ01".to_owned(), "10-99".to_owned()),
                ],
            };
            let text = layout.text(ClusterId(7), [1001, 1002, 1003]);
            let topology = Topology::parse(&text).expect("it is valid");
            let groups = if class == TableClass::Unit { 2 } else { 3 };
            assert_eq!(topology.groups().count(), groups, "{text}");
        }
    }
}
