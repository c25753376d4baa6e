//! What is told of refusals and of what operators do: structured events under the target `audit`, in the
//! log of the node.
//!
//! A caller that is refused again and again does not fill the log: a few refusals of each are told, then
//! one in a while, with the number of those in between.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_types::{BootTime, CutId, Error, GroupId};
use tracing::{info, warn};

use crate::access::Caller;

/// Refusals of one caller told at once.
const BURST: u32 = 5;
/// After those, one in this time.
const REFILL: Duration = Duration::from_secs(5);
/// Callers told apart; those beyond share what is told of them.
const CALLERS_MAX: usize = 1_024;

/// Groups at cuts that are remembered; the oldest are told of again.
const BACKUPS_MAX: usize = 4_096;

/// Tells, and remembers what it told.
#[derive(Default)]
pub(crate) struct Audit {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    /// Who backs up which group at which cut: told once.
    backups: Mutex<BTreeMap<(CutId, GroupId), String>>,
}

struct Bucket {
    tokens: u32,
    filled_at: BootTime,
    silent: u64,
}

impl Audit {
    /// Somebody was refused something.
    pub(crate) fn refused(&self, now: BootTime, caller: &Caller, what: &str, error: &Error) {
        let who = caller.name();
        let Some(silent) = self.may_tell(now, &who) else { return };
        let address = caller.address.map(|address| address.to_string()).unwrap_or_default();
        let fact = |name: &str| error.facts.get(name).map_or("", String::as_str);
        let (right, unit) = (fact("right"), fact("unit"));
        warn!(
            target: "audit", who, address, what, right, unit, code = %error.code, silent,
            reason = error.message, "refused"
        );
    }

    /// Somebody did what not everybody may do.
    pub(crate) fn done(&self, caller: &Caller, what: &str, on: &str) {
        let address = caller.address.map(|address| address.to_string()).unwrap_or_default();
        info!(target: "audit", who = caller.name(), address, what, on, "done");
    }

    /// Somebody takes records of a group for a backup: told with the first of them.
    pub(crate) fn backs_up(&self, caller: &Caller, group: GroupId, cut: CutId) {
        if self.is_new_backup(caller.name(), group, cut) {
            self.done(caller, "back up", &format!("{group} at cut {cut}"));
        }
    }

    fn is_new_backup(&self, who: String, group: GroupId, cut: CutId) -> bool {
        let mut backups = self.backups.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = backups.get(&(cut, group)).is_some_and(|known| *known == who);
        if !is_known {
            backups.insert((cut, group), who);
        }
        while BACKUPS_MAX < backups.len() {
            backups.pop_first();
        }
        !is_known
    }

    /// How many were not told since the last that was; `None` if this one is not to be told either.
    fn may_tell(&self, now: BootTime, who: &str) -> Option<u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = buckets.contains_key(who) || buckets.len() < CALLERS_MAX;
        let key = if is_known { who } else { "others" };
        let fresh = || Bucket { tokens: BURST, filled_at: now, silent: 0 };
        let bucket = buckets.entry(key.to_owned()).or_insert_with(fresh);
        let waited = now.since(bucket.filled_at);
        let refills = waited.as_nanos() / REFILL.as_nanos();
        if 0 < refills {
            bucket.tokens = bucket.tokens.saturating_add(u32::try_from(refills).unwrap_or(BURST));
            bucket.tokens = bucket.tokens.min(BURST);
            bucket.filled_at = now;
        }
        if bucket.tokens == 0 {
            bucket.silent += 1;
            return None;
        }
        bucket.tokens -= 1;
        Some(std::mem::take(&mut bucket.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootTime {
        BootTime::default() + Duration::from_millis(ms)
    }

    #[test]
    fn a_caller_that_insists_is_told_of_rarely() {
        // Goal: the log is bounded, nothing goes uncounted, and one caller does not silence another.
        let audit = Audit::default();
        let told: Vec<u64> = (0..1_000).filter_map(|ms| audit.may_tell(at(ms), "a")).collect();
        assert_eq!(told, [0; BURST as usize]);
        assert_eq!(audit.may_tell(at(1_000), "b"), Some(0));
        assert_eq!(audit.may_tell(at(5_000), "a"), Some(1_000 - u64::from(BURST)));
        assert_eq!(audit.may_tell(at(5_001), "a"), None);
    }

    #[test]
    fn a_backup_is_told_of_once_for_each_group() {
        // Goal: whoever copies a unit is in the log, and not with each of thousands of pages.
        let audit = Audit::default();
        let is_new =
            |who: &str, group, cut| audit.is_new_backup(who.to_owned(), GroupId(group), CutId(cut));
        assert!(is_new("a", 1, 5) && is_new("a", 2, 5) && is_new("a", 1, 6));
        assert!(!is_new("a", 1, 5) && !is_new("a", 2, 5));
        assert!(is_new("b", 1, 5), "somebody else");
        assert!((0..10_000).all(|cut| is_new("c", 3, cut)));
        assert_eq!(audit.backups.lock().unwrap().len(), BACKUPS_MAX);
    }

    #[test]
    fn many_callers_take_bounded_room() {
        // Goal: names are not collected without end.
        let audit = Audit::default();
        for caller in 0..10_000 {
            audit.may_tell(at(0), &caller.to_string());
        }
        assert_eq!(audit.buckets.lock().unwrap().len(), CALLERS_MAX + 1);
    }
}
