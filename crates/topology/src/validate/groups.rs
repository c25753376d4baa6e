//! Groups: their units, slices, localities and leader orders. Which node holds which replica is
//! decided after this, in `members.rs`.

use std::collections::BTreeMap;

use quorate_types::GroupId;
use quorate_types::limits::GROUP_MEMBERS_MAX;

use super::places::Places;
use super::units::{UnitDraft, Units, parse_slices};
use super::{limits, refuse_repeats};
use crate::file::{RawFile, RawGroup};
use crate::locality::{LeaderOrder, Locality};
use crate::model::UnitKind;
use crate::problem::Problems;
use crate::reader::{At, Given};
use crate::slices::SliceSet;
use crate::suggest;
use crate::voters::check_voters;

/// A group that is sound but has no members yet.
pub(super) struct GroupDraft<'f> {
    pub(super) id: GroupId,
    pub(super) unit: String,
    pub(super) slices: SliceSet,
    pub(super) locality: Locality,
    pub(super) leader_order: LeaderOrder,
    /// The nodes the file names, if it does.
    pub(super) members: Option<&'f At<Vec<At<String>>>>,
    pub(super) line: usize,
    pub(super) path: &'f str,
}

/// The groups that are sound, in order of number.
pub(super) fn check<'f>(
    file: &'f RawFile,
    places: &Places,
    units: &Units,
    problems: &mut Problems,
) -> Vec<GroupDraft<'f>> {
    let ids =
        file.groups.iter().filter_map(|raw| Some((format!("{}.id", raw.path), raw.id.as_ref()?)));
    refuse_repeats(|id| format!("group id {id}"), ids, problems);

    let slices: Vec<Option<SliceSet>> =
        file.groups.iter().map(|raw| group_slices(raw, file, units, problems)).collect();
    check_coverage(file, units, &slices, problems);

    let mut drafts = Vec::with_capacity(file.groups.len());
    for (raw, slices) in file.groups.iter().zip(slices) {
        let locality = locality(raw, places, problems);
        let leader_order = leader_order(raw, locality.as_ref(), problems);
        if let (Some(id), Some(unit), Some(slices), Some(locality), Some(leader_order)) =
            (&raw.id, &raw.unit, slices, locality, leader_order)
        {
            drafts.push(GroupDraft {
                id: GroupId(id.value),
                unit: unit.value.clone(),
                slices,
                locality,
                leader_order,
                members: raw.members.as_ref(),
                line: raw.line,
                path: &raw.path,
            });
        }
    }
    drafts.sort_by_key(|draft| draft.id);
    drafts
}

/// `group 3`, or `the group` if even its number is wrong.
fn label(raw: &RawGroup) -> String {
    raw.id.as_ref().map_or_else(|| "the group".to_owned(), |id| format!("group {}", id.value))
}

/// The slices of one group; `None` if they are wrong or cannot be known.
fn group_slices(
    raw: &RawGroup,
    file: &RawFile,
    units: &Units,
    problems: &mut Problems,
) -> Option<SliceSet> {
    let unit_name = raw.unit.as_ref()?;
    let Some(unit) = units.drafts.get(&unit_name.value) else {
        if !units.unsound.contains(&unit_name.value) {
            problems.error(
                Some(unit_name.line),
                format!("{}.unit", raw.path),
                format!("{} is of unit {:?}, which is not declared", label(raw), unit_name.value),
                suggest::hint(&unit_name.value, "units", units.drafts.keys().map(String::as_str)),
            );
        }
        return None;
    };
    let path = format!("{}.slices", raw.path);
    match (&raw.slices, unit.kind) {
        (Given::Is(text), UnitKind::RZone) => {
            let slices = parse_slices(text, &path, units.slice_count, problems)?;
            let foreign = slices.difference(unit.slices.as_ref()?);
            if !foreign.is_empty() {
                let message = format!(
                    "{} holds {}, which unit {:?} does not own",
                    label(raw),
                    foreign.words(),
                    unit_name.value
                );
                problems.error(Some(text.line), path, message, None);
                return None;
            }
            Some(slices)
        }
        (Given::Is(text), UnitKind::GZone) => {
            let message =
                format!("{} is of gzone {:?}, which owns no slices", label(raw), unit_name.value);
            problems.error(Some(text.line), path, message, Some("remove the key".to_owned()));
            None
        }
        (Given::Absent, UnitKind::RZone) => {
            let group_count = groups_of(file, &unit_name.value).count();
            if 1 < group_count {
                let message = format!(
                    "{} does not say which slices it holds, and unit {:?} has {group_count} groups",
                    label(raw),
                    unit_name.value
                );
                let hint = "slices may be left out only where a unit has one group".to_owned();
                problems.error(Some(raw.line), path, message, Some(hint));
                return None;
            }
            unit.slices.clone()
        }
        (Given::Absent, UnitKind::GZone) => Some(SliceSet::default()),
        (Given::Wrong, _) | (_, UnitKind::CZone) => None,
    }
}

fn groups_of<'f>(
    file: &'f RawFile,
    unit: &'f str,
) -> impl Iterator<Item = (usize, &'f RawGroup)> + 'f {
    let is_of_unit = move |raw: &RawGroup| raw.unit.as_ref().is_some_and(|name| name.value == unit);
    file.groups.iter().enumerate().filter(move |(_, raw)| is_of_unit(raw))
}

/// Each slice of a unit in exactly one of its groups; a GZone has one group.
fn check_coverage(
    file: &RawFile,
    units: &Units,
    slices: &[Option<SliceSet>],
    problems: &mut Problems,
) {
    for (name, unit) in &units.drafts {
        let groups: Vec<(usize, &RawGroup)> = groups_of(file, name).collect();
        match unit.kind {
            UnitKind::CZone => continue, // Refused already.
            _ if groups.is_empty() => {
                let message = format!("unit {name:?} has no group");
                let hint = Some(format!("declare a [[group]] with unit = \"{name}\""));
                problems.error(Some(unit.line), unit.path.clone(), message, hint);
            }
            UnitKind::GZone => {
                for (_, raw) in groups.iter().skip(1) {
                    let message = format!("{} is a second group of gzone {name:?}", label(raw));
                    let hint = Some("a gzone has one group".to_owned());
                    problems.error(Some(raw.line), format!("{}.unit", raw.path), message, hint);
                }
            }
            UnitKind::RZone => check_unit_coverage((name, unit), &groups, slices, problems),
        }
    }
}

fn check_unit_coverage(
    (name, unit): (&str, &UnitDraft),
    groups: &[(usize, &RawGroup)],
    slices: &[Option<SliceSet>],
    problems: &mut Problems,
) {
    let Some(unit_slices) = &unit.slices else { return };
    let mut held: BTreeMap<u16, &RawGroup> = BTreeMap::new();
    for (index, raw) in groups {
        let Some(Some(group_slices)) = slices.get(*index) else { return };
        let mut shared: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for slice in group_slices.iter() {
            if let Some(other) = held.get(&slice.0) {
                shared.entry(label(other)).or_default().push(slice);
            } else {
                held.insert(slice.0, raw);
            }
        }
        for (other, slices) in shared {
            let slices: SliceSet = slices.into_iter().collect();
            let message = format!("{} of {} belong to {other} too", slices.words(), label(raw));
            problems.error(Some(raw.line), format!("{}.slices", raw.path), message, None);
        }
    }
    let free: SliceSet = unit_slices.iter().filter(|slice| !held.contains_key(&slice.0)).collect();
    if !free.is_empty() {
        let message = format!("{} of unit {name:?} belong to no group", free.words());
        problems.error(Some(unit.line), format!("{}.slices", unit.path), message, None);
    }
}

fn locality(raw: &RawGroup, places: &Places, problems: &mut Problems) -> Option<Locality> {
    let text = raw.locality.as_ref()?;
    let path = format!("{}.locality", raw.path);
    let locality = match Locality::parse(&text.value) {
        Ok(locality) => locality,
        Err(reason) => {
            problems.error(Some(text.line), path, reason, None);
            return None;
        }
    };
    let mut sound = true;
    for placement in &locality.placements {
        if !places.zone_names.contains(&placement.zone) {
            let zone_names = places.zone_names.iter().map(String::as_str);
            let message =
                format!("locality names zone {:?}, which is not declared", placement.zone);
            let hint = suggest::hint(&placement.zone, "zones", zone_names);
            problems.error(Some(text.line), path.clone(), message, hint);
            sound = false;
        }
    }
    if let Err(wrong) = check_voters(locality.placements.iter().map(|placement| placement.kind)) {
        let message = format!("{} has {wrong}", label(raw));
        problems.error(Some(text.line), path.clone(), message, None);
        sound = false;
    }
    let member_count = locality.placements.len();
    if GROUP_MEMBERS_MAX < member_count {
        let message =
            format!("{} has {member_count} replicas; at most {GROUP_MEMBERS_MAX}", label(raw));
        problems.error(Some(text.line), path, message, None);
        return None;
    }
    let voter_count = locality.placements.iter().filter(|placement| placement.kind.votes()).count();
    if limits::VOTERS_MAX < voter_count {
        let message =
            format!("{} has {voter_count} voters; at most {}", label(raw), limits::VOTERS_MAX);
        problems.error(Some(text.line), path, message, None);
        return None;
    }
    if sound {
        warn_about_voters(raw, text.line, voter_count, problems);
    }
    sound.then_some(locality)
}

fn warn_about_voters(raw: &RawGroup, line: usize, voter_count: usize, problems: &mut Problems) {
    let path = format!("{}.locality", raw.path);
    if voter_count == 1 {
        let message = format!("{} has one voter: it stops with its node", label(raw));
        problems.warning(Some(line), path, message);
    } else if voter_count.is_multiple_of(2) {
        let message = format!(
            "{} has {voter_count} voters: it survives the loss of no more of them than with {}",
            label(raw),
            voter_count - 1
        );
        problems.warning(Some(line), path, message);
    }
}

fn leader_order(
    raw: &RawGroup,
    locality: Option<&Locality>,
    problems: &mut Problems,
) -> Option<LeaderOrder> {
    let Some(text) = &raw.leader_order else { return Some(LeaderOrder::equal(locality?)) };
    let path = format!("{}.leader-order", raw.path);
    let order = match LeaderOrder::parse(&text.value) {
        Ok(order) => order,
        Err(reason) => {
            problems.error(Some(text.line), path, format!("leader-order: {reason}"), None);
            return None;
        }
    };
    let locality = locality?;
    let mut sound = true;
    for zone in order.zones().filter(|zone| !locality.zones().any(|known| known == *zone)) {
        problems.error(
            Some(text.line),
            path.clone(),
            format!("leader-order names zone {zone:?}, where {} has no replica", label(raw)),
            suggest::hint(zone, "zones", locality.zones()),
        );
        sound = false;
    }
    for zone in order.zones() {
        let here = locality.placements.iter().find(|placement| placement.zone == zone);
        let Some(kind) = here.map(|it| it.kind).filter(|kind| !kind.may_lead()) else { continue };
        let message = format!(
            "leader-order names zone {zone:?}, where the replica of {} is {kind} and cannot lead",
            label(raw)
        );
        problems.error(
            Some(text.line),
            path.clone(),
            message,
            Some("leave the zone out".to_owned()),
        );
        sound = false;
    }
    sound.then_some(order)
}
