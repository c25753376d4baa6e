//! What a start found in the log. Plain values, for the replica layer to decide on.

use std::collections::BTreeMap;

use quorate_types::{Ballot, GroupId, Slot};

use crate::frame::{LogOffset, SegmentId};
use crate::index::Index;

/// A live frame of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Its first slot.
    pub first: Slot,
    /// Its last slot that no later frame has cut off.
    pub last: Slot,
    /// Bytes of its body.
    pub bytes: u64,
    /// Where it is.
    pub offset: LogOffset,
    /// Damage lies before it in the log: something of its group may be missing in between, even a
    /// frame that replaced slots which now seem to be there.
    pub after_damage: bool,
    /// All damage that this start found lies before it, but for what only an [earlier](DamageKind::Earlier) one
    /// noticed.
    pub behind_damage: bool,
}

/// The frames of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// In order of slot, without overlap.
    pub frames: Vec<FrameInfo>,
    /// The first range of slots missing between two frames.
    pub gap: Option<(Slot, Slot)>,
    /// The last slot before the first gap; without a gap, the last slot. Counts slots only: with
    /// damage, a slot may be there in a version that a lost frame had replaced.
    pub intact_upto: Slot,
}

/// What kind of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// Bytes that were durable once are not a valid frame.
    Frames,
    /// The head of a segment is invalid. Its frames may still be found.
    Head,
    /// The head of a segment belongs to another log. Nothing in it counts.
    Foreign,
    /// The newest segment is shorter than it was made. What stood behind may have been durable.
    Short,
    /// Segments from `segment` to `upto` are missing between others.
    Missing {
        /// The last missing one.
        upto: SegmentId,
    },
    /// The disk failed to read bytes; whether they mattered is not known.
    Unreadable,
    /// An earlier start found damage, which need not be visible any more.
    Earlier,
}

/// Damage: something durable is lost. A torn tail is not damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub segment: SegmentId,
    /// What.
    pub kind: DamageKind,
    /// Where in the log, if that is known.
    pub offset: Option<LogOffset>,
    /// How many bytes, if that is known.
    pub bytes: u64,
}

/// How the newest segment of an existing log was ended. It is never written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: SegmentId,
    /// Where it ends now: the greatest offset known to be durable.
    pub offset: LogOffset,
    /// Valid frames above, copied into the new segment and synced there.
    pub copied_frames: u64,
    /// Their bytes.
    pub copied_bytes: u64,
}

/// Everything a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Groups with live frames. Frames that had been released before the start may be back.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// In order of position. Not empty: no replica of this node may assume its log complete.
    pub damage: Vec<Damage>,
    /// The damage is such that frames may be missing behind all that were found.
    pub end_lost: bool,
    /// Promise floors of the newest segment; see [`crate::check_floors`].
    pub floors: BTreeMap<GroupId, Ballot>,
    /// `None` for a new log.
    pub cut: Option<Cut>,
    /// What was decided, in words, in order.
    pub decisions: Vec<String>,
}

/// Describes the groups of an index; the damages are those that lie first and last, as segment and position in it.
pub(crate) fn groups(
    index: &Index,
    damage_at: Option<(SegmentId, u64)>,
    damage_last: Option<(SegmentId, u64)>,
) -> BTreeMap<GroupId, RecoveredGroup> {
    let mut groups = BTreeMap::new();
    for (group, live) in &index.groups {
        let mut recovered = RecoveredGroup::default();
        for frame in &live.frames {
            let first = frame.header.first;
            if let Some(before) = recovered.frames.last()
                && recovered.gap.is_none()
                && before.last.next() < first
            {
                recovered.gap = Some((before.last.next(), first.prev()));
                recovered.intact_upto = before.last;
            }
            let place = (frame.header.segment, frame.at);
            recovered.frames.push(FrameInfo {
                first,
                last: frame.last,
                bytes: u64::from(frame.header.body_bytes),
                offset: frame.header.offset,
                after_damage: damage_at.is_some_and(|damage| damage <= place),
                behind_damage: damage_last.is_none_or(|damage| damage <= place),
            });
        }
        if let (None, Some(last)) = (recovered.gap, recovered.frames.last()) {
            recovered.intact_upto = last.last;
        }
        groups.insert(*group, recovered);
    }
    groups
}
