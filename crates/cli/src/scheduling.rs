//! How the system shares its cores among the threads of a node.

use std::io;

/// Asks the system to let threads finish what they are at before it wakes others: `SCHED_BATCH`. On a
/// busy machine whoever wakes then finds a batch to work on instead of one request, which makes fewer
/// and larger syncs, frames and switches; on an idle one nothing changes. For this thread and all that
/// it starts from now on; niceness stays.
///
/// # Errors
/// Where the system refuses, as some containers do. Nothing depends on it but speed.
pub(crate) fn prefer_batches() -> io::Result<()> {
    let no_priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads the parameters, which outlive it, and keeps nothing.
    #[allow(unsafe_code, reason = "no safe wrapper of this call leaves the niceness alone")]
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const no_priority) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 41 of the thread's line in /proc: its policy.
    fn policy() -> i32 {
        let line = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
        let (_, fields) = line.rsplit_once(')').expect("the name is in brackets");
        let policy = fields.split_whitespace().nth(41 - 3).expect("all have it");
        policy.parse().expect("it is a number")
    }

    #[test]
    fn threads_started_later_share_the_policy() {
        // Goal: what the runtime starts after the call is scheduled in batches.
        let told = std::thread::spawn(|| {
            prefer_batches().expect("no right is needed");
            std::thread::spawn(policy).join().expect("it does not panic")
        });
        assert_eq!(told.join().expect("it does not panic"), libc::SCHED_BATCH);
    }
}
