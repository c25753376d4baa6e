//! Whether the rows of a backup belong where a new cluster would look for them.

use quorate_topology::{Group, Topology, UnitKind};

use crate::error::BackupError;
use crate::manifest::Manifest;

/// Refuses a cluster that a backup cannot become: one with the same id, or with other tables, slices or
/// groups. Cities, nodes, units and where replicas stand may differ.
///
/// # Errors
/// `SameCluster`, `Layout` with everything that differs, `Damaged` if the manifest holds no cluster file.
pub fn check_layout(manifest: &Manifest, new: &Topology) -> Result<(), BackupError> {
    if manifest.is_of(new.cluster_id()) {
        return Err(BackupError::SameCluster { cluster: manifest.cluster.id.clone() });
    }
    let old = Topology::parse(&manifest.cluster.file).map_err(|error| BackupError::Damaged {
        id: manifest.id.clone(),
        object: crate::manifest::MANIFEST.to_owned(),
        reason: format!("its cluster file is none: {error}"),
    })?;
    let parts: Vec<_> = manifest.groups.iter().map(super::GroupPart::id).collect();
    let groups: Vec<_> = old.groups().map(|group| group.id).collect();
    if parts != groups {
        return Err(BackupError::Damaged {
            id: manifest.id.clone(),
            object: crate::manifest::MANIFEST.to_owned(),
            reason: "its groups are not those of its cluster file".to_owned(),
        });
    }
    let differences = differences(&old, new);
    if differences.is_empty() {
        return Ok(());
    }
    Err(BackupError::Layout { differences: differences.join("; ") })
}

fn differences(old: &Topology, new: &Topology) -> Vec<String> {
    let mut found = Vec::new();
    if old.slice_count() != new.slice_count() {
        found.push(format!("{} slices became {}", old.slice_count(), new.slice_count()));
    }
    for table in old.tables() {
        match new.table(table.id) {
            Some(same) if same == table => {}
            Some(other) => found.push(format!(
                "table {} was {} of class {}, now {} of class {}",
                table.id.0, table.name, table.class, other.name, other.class
            )),
            None => found.push(format!("table {} ({}) is gone", table.id.0, table.name)),
        }
    }
    for table in new.tables().filter(|table| old.table(table.id).is_none()) {
        found.push(format!("table {} ({}) is new: add it later", table.id.0, table.name));
    }
    for group in old.groups() {
        match new.group(group.id) {
            Some(same) if serves_same(old, group, new, same) => {}
            Some(_) => found.push(format!("group {} holds other slices", group.id)),
            None => found.push(format!("group {} is gone", group.id)),
        }
    }
    for group in new.groups().filter(|group| old.group(group.id).is_none()) {
        found.push(format!("group {} is new", group.id));
    }
    found
}

/// True if two groups hold the same slices, or both what is in no slice.
fn serves_same(old: &Topology, one: &Group, new: &Topology, other: &Group) -> bool {
    let kind = |topology: &Topology, group: &Group| -> Option<UnitKind> {
        topology.unit(&group.unit).map(|unit| unit.kind)
    };
    one.slices == other.slices && kind(old, one) == kind(new, other)
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;
    use crate::manifest::{Cluster, FORMAT, GroupPart};

    fn file(cluster: u128) -> String {
        one_city_three_idcs(&Options::demo(ClusterId(cluster)))
    }

    fn manifest(text: String) -> Manifest {
        let topology = Topology::parse(&text).unwrap();
        let part = |group: &Group| GroupPart {
            group: group.id.0,
            unit: group.unit.clone(),
            upto: 1,
            log_time_ms: 0,
            records: 0,
            bytes: 0,
            sha256: String::new(),
            objects: Vec::new(),
        };
        let id = topology.cluster_id().to_string();
        Manifest {
            format: FORMAT,
            id: "x".to_owned(),
            created: String::new(),
            made_by: String::new(),
            cluster: Cluster { id, name: topology.name().to_owned(), file: text },
            cut: 1,
            sha256: String::new(),
            groups: topology.groups().map(part).collect(),
            ledgers: Vec::new(),
        }
    }

    fn refused(text: &str) -> String {
        let new = Topology::parse(text).expect("it is a cluster file");
        check_layout(&manifest(file(1)), &new).expect_err("it does not fit").to_string()
    }

    #[test]
    fn only_a_new_cluster_with_the_same_tables_and_slices_fits() {
        // Goal: no two clusters have one id, and no row lies where nobody looks for it.
        let same = Topology::parse(&file(1)).unwrap();
        let error = check_layout(&manifest(file(1)), &same).unwrap_err();
        assert!(matches!(error, BackupError::SameCluster { .. }), "{error}");
        check_layout(&manifest(file(1)), &Topology::parse(&file(2)).unwrap()).unwrap();

        let elsewhere = file(2).replace("name = \"purchases\"", "name = \"sales\"");
        assert!(refused(&elsewhere).contains("was purchases of class unit"), "{elsewhere}");
        let moved = file(2).replace("\"00-24\"", "\"00-23\"").replace("\"25-49\"", "\"24-49\"");
        assert_ne!(moved, file(2));
        assert!(refused(&moved).contains("holds other slices"), "{moved}");
    }
}
