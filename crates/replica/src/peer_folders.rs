//! The data folders of the peers: which one counts under each name. Called by `log_thread.rs`, which makes
//! every change durable before anybody hears of it.
//!
//! The replicas that a group began with have ids that say nothing of a folder. So whoever meets such a node for
//! the first time cannot tell an empty folder from one that was emptied, and nodes tell each other what they
//! know: with each greeting, and on the streams that they have. All later ids belong to one folder
//! (`reborn`), and whoever comes with such a folder breaks nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_types::planted::{Bug, planted};
use quorate_types::{FolderState, NodeId, PeerFolder};
use tracing::warn;

/// The data folders of the peers, as far as they are known.
pub type PeerFolders = Arc<BTreeMap<NodeId, PeerFolder>>;

/// Another node tells what it knows of these. True if that is news.
///
/// It never takes the place of what is known: only the node itself can say that it has begun anew. But two
/// folders that were both met as the first mean that promises were forgotten.
pub(crate) fn hear(
    known: &mut BTreeMap<NodeId, PeerFolder>,
    own: NodeId,
    told: &BTreeMap<NodeId, PeerFolder>,
) -> bool {
    let mut is_news = false;
    for (node, told) in told.iter().filter(|(node, _)| **node != own) {
        let Some(here) = known.get_mut(node) else {
            known.insert(*node, *told);
            is_news = true;
            continue;
        };
        let differs = match (here.state, told.state) {
            (FolderState::First, FolderState::First) => here.incarnation != told.incarnation,
            (FolderState::First, FolderState::Disputed) => true,
            (FolderState::First, FolderState::Reborn)
            | (FolderState::Reborn | FolderState::Disputed, _) => false,
        };
        if differs {
            warn!(%node, here = %here.incarnation, there = %told.incarnation,
                "a peer was met with two data folders: it counts no more until it has begun anew");
            here.state = FolderState::Disputed;
            is_news = true;
        }
    }
    is_news
}

/// A peer comes with this folder. Says which one is known from now on, and whether that is news. The peer is
/// to be believed only if it is this one.
pub(crate) fn meet(
    known: &mut BTreeMap<NodeId, PeerFolder>,
    node: NodeId,
    comes: PeerFolder,
) -> (PeerFolder, bool) {
    let before = known.get(&node).copied();
    let after = match (before, comes.state) {
        _ if planted(Bug::OldName) => comes,
        (Some(before), FolderState::First | FolderState::Disputed) => before,
        (None, _) | (_, FolderState::Reborn) => comes,
    };
    known.insert(node, after);
    (after, before != Some(after))
}

#[cfg(test)]
mod tests {
    use quorate_types::Incarnation;

    use super::*;

    fn folder(number: u64, state: FolderState) -> PeerFolder {
        PeerFolder { incarnation: Incarnation(number), state }
    }

    /// Goal: who never met the lost folder of a node refuses the empty one, because somebody who did has told;
    /// in whichever order it hears and meets.
    #[test]
    fn a_folder_that_others_met_counts_for_all() {
        let (own, node) = (NodeId(1), NodeId(3));
        let (old, new) = (folder(11, FolderState::First), folder(22, FolderState::First));
        let told = BTreeMap::from([(node, old), (own, folder(99, FolderState::First))]);

        let mut known = BTreeMap::new();
        assert!(hear(&mut known, own, &told));
        assert!(!known.contains_key(&own), "a node knows its own folder");
        assert_eq!(meet(&mut known, node, new), (old, false), "it would vote again");
        assert_eq!(meet(&mut known, node, old), (old, false));

        let mut known = BTreeMap::new();
        assert_eq!(meet(&mut known, node, new), (new, true));
        assert!(hear(&mut known, own, &told));
        assert_ne!(meet(&mut known, node, new).0, new, "one of the two forgot promises");
        assert_ne!(meet(&mut known, node, old).0, old, "one of the two forgot promises");
        assert!(!hear(&mut known, own, &told), "known by now");

        // Whoever hears of the dispute first believes neither.
        let mut third = BTreeMap::new();
        assert!(hear(&mut third, own, &known));
        assert_ne!(meet(&mut third, node, old).0, old);
        assert_ne!(meet(&mut third, node, new).0, new);
    }

    /// Goal: a node that has begun anew is believed whatever was known, and nobody who has not heard of that
    /// takes it back.
    #[test]
    fn who_has_begun_anew_is_believed() {
        let (own, node) = (NodeId(1), NodeId(3));
        let (old, reborn) = (folder(11, FolderState::First), folder(22, FolderState::Reborn));
        for before in [None, Some(old), Some(folder(22, FolderState::Disputed))] {
            let mut known: BTreeMap<_, _> =
                before.map(|before| (node, before)).into_iter().collect();
            assert_eq!(meet(&mut known, node, reborn), (reborn, true));
            assert!(!hear(&mut known, own, &BTreeMap::from([(node, old)])));
            assert_eq!(meet(&mut known, node, reborn), (reborn, false));
            let forgot = folder(22, FolderState::First);
            assert_ne!(meet(&mut known, node, forgot).0, forgot, "it must remember that");
        }
        // What is only told does not take the place of what was met: the old folder may live.
        let mut known = BTreeMap::from([(node, old)]);
        assert!(!hear(&mut known, own, &BTreeMap::from([(node, reborn)])));
        assert_eq!(meet(&mut known, node, old), (old, false));
    }
}
