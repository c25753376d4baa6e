//! Tables and units: numbers, names, who owns which slices, and whether every table has a home.

use std::collections::BTreeMap;

use quorate_types::{GroupId, SliceId, TableId};

use super::{check_name, limits, refuse_repeats};
use crate::file::{RawFile, RawUnit};
use crate::model::{Group, Table, TableClass, Unit, UnitKind};
use crate::problem::Problems;
use crate::reader::{At, Given};
use crate::slices::SliceSet;

/// A unit as far as it is sound.
pub(super) struct UnitDraft {
    pub(super) kind: UnitKind,
    /// `None` if the text was wrong.
    pub(super) slices: Option<SliceSet>,
    pub(super) line: usize,
    pub(super) path: String,
}

/// The units by name.
pub(super) struct Units {
    pub(super) drafts: BTreeMap<String, UnitDraft>,
    /// `None` if the text was wrong: then no slices can be checked.
    pub(super) slice_count: Option<u16>,
    /// Names of units whose kind is wrong: known, but nothing can be said about them.
    pub(super) unsound: Vec<String>,
}

impl Units {
    /// The units of a file without problems, with their groups.
    pub(super) fn into_units(self, groups: &BTreeMap<GroupId, Group>) -> BTreeMap<String, Unit> {
        let mut units = BTreeMap::new();
        for (name, draft) in self.drafts {
            let of_unit = groups.values().filter(|group| group.unit == name);
            let groups = of_unit.map(|group| group.id).collect();
            let slices = draft.slices.unwrap_or_default();
            units.insert(name.clone(), Unit { name, kind: draft.kind, slices, groups });
        }
        units
    }
}

/// The tables that are sound, by number.
pub(super) fn check_tables(file: &RawFile, problems: &mut Problems) -> BTreeMap<TableId, Table> {
    let ids =
        file.tables.iter().filter_map(|raw| Some((format!("{}.id", raw.path), raw.id.as_ref()?)));
    refuse_repeats(|id| format!("table id {id}"), ids, problems);
    let named = file
        .tables
        .iter()
        .filter_map(|raw| Some((format!("{}.name", raw.path), raw.name.as_ref()?)));
    for (path, name) in named.clone() {
        check_name("table", &path, name, problems);
    }
    refuse_repeats(|name| format!("table name {name:?}"), named, problems);
    if file.tables.is_empty() {
        problems.warning(None, "table", "there is no [[table]]: nothing can be stored");
    }
    let sound = file.tables.iter().filter_map(|raw| {
        let id = TableId(raw.id.as_ref()?.value);
        let name = raw.name.as_ref()?.value.clone();
        Some((id, Table { id, name, class: raw.class.as_ref()?.value }))
    });
    sound.collect()
}

/// The units that are sound; every slice must belong to exactly one of them.
pub(super) fn check_units(
    file: &RawFile,
    tables: &BTreeMap<TableId, Table>,
    problems: &mut Problems,
) -> Units {
    let named = file
        .units
        .iter()
        .filter_map(|raw| Some((format!("{}.name", raw.path), raw.name.as_ref()?)));
    for (path, name) in named.clone() {
        check_unit_name(&path, name, problems);
    }
    refuse_repeats(|name| format!("unit name {name:?}"), named, problems);
    if file.units.is_empty() {
        problems.error(None, "unit", "there is no [[unit]]", None);
    }
    let slice_count =
        file.cluster.as_ref().and_then(|cluster| Some(cluster.slices.as_ref()?.value));
    let mut units = Units { drafts: BTreeMap::new(), slice_count, unsound: Vec::new() };
    for raw in &file.units {
        let Some(name) = &raw.name else { continue };
        match &raw.kind {
            Some(kind) => {
                let slices = unit_slices(raw, &name.value, kind, slice_count, problems);
                let (line, path) = (raw.line, raw.path.clone());
                let draft = UnitDraft { kind: kind.value, slices, line, path };
                units.drafts.entry(name.value.clone()).or_insert(draft);
            }
            None => units.unsound.push(name.value.clone()),
        }
    }
    check_tables_have_units(file, tables, &units, problems);
    check_ownership(file, &units, problems);
    units
}

fn check_unit_name(path: &str, name: &At<String>, problems: &mut Problems) {
    let bytes = name.value.as_bytes();
    let ok = (2..=10).contains(&bytes.len())
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !ok {
        let message = format!("unit name {:?} is not allowed", name.value);
        let hint = "unit names are two capital letters, then up to eight capital letters or \
                    digits, such as RZ00";
        problems.error(Some(name.line), path, message, Some(hint.to_owned()));
    }
}

/// The slices of one unit; `None` if they are wrong or cannot be known.
fn unit_slices(
    raw: &RawUnit,
    name: &str,
    kind: &At<UnitKind>,
    slice_count: Option<u16>,
    problems: &mut Problems,
) -> Option<SliceSet> {
    match (kind.value, &raw.slices) {
        (UnitKind::RZone, Given::Is(text)) => {
            parse_slices(text, &format!("{}.slices", raw.path), slice_count, problems)
        }
        (UnitKind::RZone, Given::Absent) => {
            let message = format!("unit {name:?} is an rzone without slices");
            let hint = "write the slices it owns, such as slices = \"00-24\"".to_owned();
            problems.error(Some(raw.line), format!("{}.slices", raw.path), message, Some(hint));
            None
        }
        (UnitKind::GZone, Given::Is(text)) => {
            let message = format!("unit {name:?} is a gzone and owns no slices");
            let hint = Some("remove the key".to_owned());
            problems.error(Some(text.line), format!("{}.slices", raw.path), message, hint);
            None
        }
        (UnitKind::CZone, _) => {
            let message = format!("unit {name:?}: czones are not served by this version");
            let hint = "global tables are read at the gzone; remove the unit".to_owned();
            problems.error(Some(kind.line), format!("{}.kind", raw.path), message, Some(hint));
            None
        }
        (UnitKind::GZone, Given::Absent) => Some(SliceSet::default()),
        (UnitKind::RZone | UnitKind::GZone, Given::Wrong) => None,
    }
}

/// Parses slices and records what is wrong with them.
pub(super) fn parse_slices(
    text: &At<String>,
    path: &str,
    slice_count: Option<u16>,
    problems: &mut Problems,
) -> Option<SliceSet> {
    match SliceSet::parse(&text.value, slice_count?) {
        Ok(slices) => Some(slices),
        Err(reason) => {
            problems.error(Some(text.line), path, reason, None);
            None
        }
    }
}

/// Every table needs a unit of the kind that holds its class.
fn check_tables_have_units(
    file: &RawFile,
    tables: &BTreeMap<TableId, Table>,
    units: &Units,
    problems: &mut Problems,
) {
    if !units.unsound.is_empty() {
        return; // A unit whose kind is wrong may be the one that is missed.
    }
    let has = |kind| units.drafts.values().any(|draft| draft.kind == kind);
    for raw in &file.tables {
        let (Some(id), Some(class)) = (&raw.id, &raw.class) else { continue };
        let Some(table) = tables.get(&TableId(id.value)) else { continue };
        let wanted = match class.value {
            TableClass::Unit => UnitKind::RZone,
            TableClass::Home | TableClass::Global => UnitKind::GZone,
        };
        if has(wanted) {
            continue;
        }
        problems.error(
            Some(class.line),
            format!("{}.class", raw.path),
            format!(
                "table {:?} has class {class}, but there is no {wanted}",
                table.name,
                class = class.value
            ),
            Some(format!("declare a [[unit]] with kind = \"{wanted}\"")),
        );
    }
}

/// One GZone at most; each slice in exactly one RZone.
fn check_ownership(file: &RawFile, units: &Units, problems: &mut Problems) {
    let of_kind = |kind| units.drafts.iter().filter(move |(_, draft)| draft.kind == kind);
    let mut gzones: Vec<(&String, &UnitDraft)> = of_kind(UnitKind::GZone).collect();
    gzones.sort_by_key(|(_, draft)| draft.line);
    for (name, draft) in gzones.iter().skip(1) {
        let message = format!("unit {name:?} is a second gzone, after {:?}", gzones[0].0);
        let hint = Some("a cluster has one gzone".to_owned());
        problems.error(Some(draft.line), format!("{}.kind", draft.path), message, hint);
    }
    let mut rzones: Vec<(&String, &UnitDraft)> = of_kind(UnitKind::RZone).collect();
    rzones.sort_by_key(|(_, draft)| draft.line);
    let all_known = rzones.iter().all(|(_, draft)| draft.slices.is_some());
    let Some(slice_count) = units.slice_count else { return };
    if rzones.is_empty() || !all_known || !units.unsound.is_empty() {
        return;
    }
    let mut owners: Vec<Option<&String>> = vec![None; usize::from(slice_count)];
    for (name, draft) in &rzones {
        let mut shared: BTreeMap<&String, Vec<SliceId>> = BTreeMap::new();
        for slice in draft.slices.iter().flat_map(SliceSet::iter) {
            match &mut owners[usize::from(slice.0)] {
                Some(other) => shared.entry(*other).or_default().push(slice),
                free => *free = Some(*name),
            }
        }
        for (other, slices) in shared {
            let slices: SliceSet = slices.into_iter().collect();
            let message =
                format!("{} of unit {name:?} belong to unit {other:?} too", slices.words());
            problems.error(Some(draft.line), format!("{}.slices", draft.path), message, None);
        }
    }
    let free = (0..slice_count).map(SliceId).filter(|slice| owners[usize::from(slice.0)].is_none());
    let free: SliceSet = free.collect();
    if !free.is_empty() {
        let line = file.cluster.as_ref().and_then(|cluster| Some(cluster.slices.as_ref()?.line));
        let message = format!("{} belong to no unit", free.words());
        let hint = Some("give them to a [[unit]] of kind \"rzone\"".to_owned());
        problems.error(line, "cluster.slices", message, hint);
    }
}

const _: () = assert!(limits::SLICES_MAX < SliceId::UNSHARDED.0);
