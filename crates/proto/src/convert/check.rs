//! Messages about checks of rows, and what a check has found.
//!
//! The peer streams and the admin service of the server call this, and the client.

use quorate_types::{
    CheckBody, CheckMessage, CheckReport, CheckState, Difference, GroupId, NodeId, ReplicaId,
    RowsDigest, SliceId,
};

use super::ConvertError;
use super::words::{self, required};
use crate::v1;

/// The message for the wire.
#[must_use]
pub fn check_to_wire(message: CheckMessage) -> v1::CheckMessage {
    use v1::check_message::Body;
    let CheckMessage { group, from, to, at, body } = message;
    let body = match body {
        CheckBody::Report(digest) => {
            Body::Report(v1::CheckDone { digest: digest.map(|digest| digest_to_wire(&digest)) })
        }
        CheckBody::Verdict { majority, agreeing } => Body::Verdict(v1::CheckVerdict {
            majority: Some(digest_to_wire(&majority)),
            agreeing: agreeing.into_iter().map(|replica| replica.0).collect(),
        }),
    };
    let at = Some(words::entry_to_wire(at));
    v1::CheckMessage { group: group.0, from: from.0, to: to.0, at, body: Some(body) }
}

/// The message from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn check_from_wire(message: v1::CheckMessage) -> Result<CheckMessage, ConvertError> {
    use v1::check_message::Body;
    let v1::CheckMessage { group, from, to, at, body } = message;
    let body = match required(body, "body")? {
        Body::Report(v1::CheckDone { digest }) => {
            let digest = digest.map(digest_from_wire).transpose();
            CheckBody::Report(digest.map_err(|error| error.inside("report.digest"))?)
        }
        Body::Verdict(v1::CheckVerdict { majority, agreeing }) => {
            let majority = digest_from_wire(required(majority, "verdict.majority")?);
            let majority = majority.map_err(|error| error.inside("verdict.majority"))?;
            CheckBody::Verdict { majority, agreeing: agreeing.into_iter().map(ReplicaId).collect() }
        }
    };
    let at = words::entry_from_wire(required(at, "at")?).map_err(|error| error.inside("at"))?;
    let (from, to) = (ReplicaId(from), ReplicaId(to));
    Ok(CheckMessage { group: GroupId(group), from, to, at, body })
}

fn digest_to_wire(digest: &RowsDigest) -> v1::RowsDigest {
    let hash = |hash: u128| hash.to_be_bytes().to_vec().into();
    let slices = digest.slices.iter();
    let slices = slices.map(|(slice, slice_hash)| v1::SliceDigest {
        slice: u32::from(slice.0),
        hash: hash(*slice_hash),
    });
    v1::RowsDigest { slices: slices.collect(), rest: hash(digest.rest) }
}

fn digest_from_wire(digest: v1::RowsDigest) -> Result<RowsDigest, ConvertError> {
    let v1::RowsDigest { slices, rest } = digest;
    let hash = |bytes: &[u8], field: &str| {
        let bytes = bytes.try_into();
        bytes.map(u128::from_be_bytes).map_err(|_| ConvertError::malformed(field, "not 16 bytes"))
    };
    let slices = words::each(slices, "slices", |v1::SliceDigest { slice, hash: bytes }| {
        Ok((SliceId(words::narrow_u16(slice, "slice")?), hash(&bytes, "hash")?))
    })?;
    if !slices.is_sorted_by(|(one, _), (other, _)| one < other) {
        return Err(ConvertError::malformed("slices", "not in order"));
    }
    Ok(RowsDigest { slices, rest: hash(&rest, "rest")? })
}

/// What a check has found, for the wire.
#[must_use]
pub fn report_to_wire(report: CheckReport) -> v1::CheckGroupResponse {
    let CheckReport { group, at, has_majority, replicas } = report;
    let to_wire = |(node, state): (NodeId, CheckState)| {
        let (state, difference) = match state {
            CheckState::Agrees => (v1::CheckState::Agrees, Difference::default()),
            CheckState::Differs(difference) => (v1::CheckState::Differs, difference),
            CheckState::NotChecked => (v1::CheckState::NotChecked, Difference::default()),
            CheckState::NotHeard => (v1::CheckState::NotHeard, Difference::default()),
        };
        v1::ReplicaCheck {
            node: node.0,
            state: state.into(),
            slices: difference.slices.into_iter().map(|slice| u32::from(slice.0)).collect(),
            rest: difference.rest,
        }
    };
    v1::CheckGroupResponse {
        group: group.0,
        at: Some(words::entry_to_wire(at)),
        has_majority,
        replicas: replicas.into_iter().map(to_wire).collect(),
    }
}

/// What a check has found, from the wire.
///
/// # Errors
/// Names the field that is wrong.
pub fn report_from_wire(report: v1::CheckGroupResponse) -> Result<CheckReport, ConvertError> {
    let v1::CheckGroupResponse { group, at, has_majority, replicas } = report;
    let at = words::entry_from_wire(required(at, "at")?).map_err(|error| error.inside("at"))?;
    let replicas = words::each(replicas, "replicas", |replica| {
        let v1::ReplicaCheck { node, state, slices, rest } = replica;
        let state = match v1::CheckState::try_from(state) {
            Ok(v1::CheckState::Agrees) => CheckState::Agrees,
            Ok(v1::CheckState::Differs) => {
                let slices = words::each(slices, "slices", |slice| {
                    Ok(SliceId(words::narrow_u16(slice, "slice")?))
                })?;
                CheckState::Differs(Difference { slices, rest })
            }
            Ok(v1::CheckState::NotChecked) => CheckState::NotChecked,
            Ok(v1::CheckState::NotHeard) => CheckState::NotHeard,
            Ok(v1::CheckState::Unspecified) | Err(_) => {
                return Err(ConvertError::malformed("state", "no state of a check"));
            }
        };
        Ok((NodeId(node), state))
    })?;
    Ok(CheckReport { group: GroupId(group), at, has_majority, replicas })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_types::{Ballot, EntryId, Slot};

    use super::*;

    fn digests() -> impl Strategy<Value = RowsDigest> {
        let slices = proptest::collection::btree_map(any::<u16>(), any::<u128>(), 0..5);
        (slices, any::<u128>()).prop_map(|(slices, rest)| RowsDigest {
            slices: slices.into_iter().map(|(slice, hash)| (SliceId(slice), hash)).collect(),
            rest,
        })
    }

    fn bodies() -> impl Strategy<Value = CheckBody> {
        let replicas = proptest::collection::vec(any::<u64>().prop_map(ReplicaId), 0..5);
        prop_oneof![
            proptest::option::of(digests()).prop_map(CheckBody::Report),
            (digests(), replicas)
                .prop_map(|(majority, agreeing)| CheckBody::Verdict { majority, agreeing }),
        ]
    }

    fn entry(slot: u64, replica: u64) -> EntryId {
        EntryId { slot: Slot(slot), ballot: Ballot { round: 1, replica: ReplicaId(replica) } }
    }

    proptest! {
        #[test]
        fn messages_come_back(group: u32, from: u64, to: u64, slot: u64, body in bodies()) {
            let (from, to, at) = (ReplicaId(from), ReplicaId(to), entry(slot, to));
            let message = CheckMessage { group: GroupId(group), from, to, at, body };
            prop_assert_eq!(check_from_wire(check_to_wire(message.clone())), Ok(message));
        }
    }

    /// Goal: what was found arrives at people as it was, and what makes no sense is named.
    #[test]
    fn reports_come_back_and_broken_ones_are_refused() {
        let differs = Difference { slices: vec![SliceId(3), SliceId(65_535)], rest: true };
        let states = [
            CheckState::Agrees,
            CheckState::Differs(differs),
            CheckState::NotChecked,
            CheckState::NotHeard,
        ];
        let replicas: Vec<_> = (1..).map(NodeId).zip(states).collect();
        let report =
            CheckReport { group: GroupId(4), at: entry(9, 2), has_majority: true, replicas };
        assert_eq!(report_from_wire(report_to_wire(report.clone())), Ok(report.clone()));
        let mut wire = report_to_wire(report);
        wire.replicas[0].state = 77;
        assert!(report_from_wire(wire).is_err());
    }

    /// Goal: hashes of another length, and slices twice, never get in.
    #[test]
    fn broken_digests_are_refused() {
        let digest = RowsDigest { slices: vec![(SliceId(1), 1), (SliceId(2), 2)], rest: 3 };
        let mut short = digest_to_wire(&digest);
        short.rest.truncate(15);
        assert!(digest_from_wire(short).is_err());
        let mut twice = digest_to_wire(&digest);
        twice.slices[1].slice = 1;
        assert!(digest_from_wire(twice).is_err());
    }
}
