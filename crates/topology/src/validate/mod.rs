//! From the file as written to a topology: every name resolved, every rule checked.
//!
//! The checks run in the order places, tables and units, groups, members. Each goes on after a
//! mistake with what can still be used; a topology is built only if there was none at all.

mod groups;
mod members;
mod places;
mod units;

use std::collections::BTreeMap;
use std::fmt::Display;

use crate::file::RawFile;
use crate::problem::Problems;
use crate::reader::At;
use crate::topology::Parts;

/// The limits of a cluster file. Beyond each, the file is refused.
pub mod limits {
    /// Longest cluster file, in bytes.
    pub const CLUSTER_FILE_BYTES_MAX: usize = 1024 * 1024;
    /// Most items of one kind: cities, nodes, tables, groups.
    pub const ITEMS_MAX: usize = 4096;
    /// Most slices of a cluster.
    pub const SLICES_MAX: u16 = 10_000;
    /// Slices where the file says nothing: the last two decimal digits of the UID.
    pub const SLICES_DEFAULT: u16 = 100;
    /// Longest name, in bytes.
    pub const NAME_BYTES_MAX: usize = 63;
    /// Most voters of a group.
    pub const VOTERS_MAX: usize = 7;
}

/// Builds the parts of a topology. `None` if and only if a problem was recorded.
pub(crate) fn build(file: &RawFile, problems: &mut Problems) -> Option<Parts> {
    let places = places::check(file, problems);
    let tables = units::check_tables(file, problems);
    let units = units::check_units(file, &tables, problems);
    let drafts = groups::check(file, &places, &units, problems);
    let groups = members::assign(&drafts, &places, problems);
    places::warn_about_unused(&places, &groups, problems);

    let cluster = file.cluster.as_ref()?;
    if let Some(name) = &cluster.name {
        check_name("cluster", "cluster.name", name, problems);
    }
    if !problems.is_clean() {
        return None;
    }
    let slice_count = cluster.slices.as_ref()?.value;
    Some(Parts::assemble(Parts {
        name: cluster.name.as_ref()?.value.clone(),
        cluster_id: cluster.id?,
        version: cluster.version?,
        lease: cluster.lease?,
        slice_count,
        cities: places.cities,
        idcs: places.idcs,
        zones: places.zones,
        nodes: places.nodes,
        tables,
        units: units.into_units(&groups),
        groups,
        slice_groups: Vec::new(),
        gzone_group: None,
    }))
}

/// Records a name that is empty, too long or has characters that would need quoting elsewhere.
fn check_name(kind: &str, path: &str, name: &At<String>, problems: &mut Problems) {
    let text = name.value.as_str();
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if starts_well && text.bytes().all(plain) && text.len() <= limits::NAME_BYTES_MAX {
        return;
    }
    problems.error(
        Some(name.line),
        path,
        format!("{kind} name {text:?} is not allowed"),
        Some(format!(
            "names have 1 to {} letters, digits, \"-\", \"_\" and \".\", and start with a letter \
             or digit",
            limits::NAME_BYTES_MAX
        )),
    );
}

/// Records the second and each further use of what must be unique. `what` opens the message.
fn refuse_repeats<'a, T: Ord + Display + 'a>(
    what: impl Fn(&T) -> String,
    uses: impl Iterator<Item = (String, &'a At<T>)>,
    problems: &mut Problems,
) {
    let mut first_lines: BTreeMap<&T, usize> = BTreeMap::new();
    for (path, used) in uses {
        if let Some(first_line) = first_lines.get(&used.value) {
            let message =
                format!("{} is used twice; the first is on line {first_line}", what(&used.value));
            problems.error(Some(used.line), path, message, None);
        } else {
            first_lines.insert(&used.value, used.line);
        }
    }
}
