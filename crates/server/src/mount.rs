//! How the disk of the data folder is mounted, as far as clients notice.

use std::fs;
use std::path::Path;

use tracing::warn;

/// Tells of a data folder whose deleted files are discarded at once. A file system that is mounted so tells the disk
/// of every freed block while it commits, and every write of the log waits for that commit: compactions delete whole
/// files all the time.
pub(crate) fn tell_of_discards(data: &Path) {
    let Ok(folder) = rustix::fs::stat(data) else { return };
    let device = (rustix::fs::major(folder.st_dev), rustix::fs::minor(folder.st_dev));
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return };
    if discards(&mounts, device) {
        warn!(
            data = %data.display(),
            "the disk is mounted with discard: whenever a file is deleted, writes of the log wait for it; mount \
             it without, and run fstrim from a timer"
        );
    }
}

/// True if a file system on this device is mounted with `discard`. Its own options are the last field of a line of
/// `mountinfo`, whose third is the device; in between are optional fields that end with a dash.
fn discards(mounts: &str, (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    mounts.lines().any(|line| {
        let is_it = line.split_whitespace().nth(2) == Some(&*device);
        let options = line.split_once(" - ").and_then(|(_, rest)| rest.split_whitespace().nth(2));
        is_it && options.is_some_and(|options| options.split(',').any(|it| it == "discard"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mount_of_the_folder_counts() {
        // Goal: neither another disk nor an option that only sounds alike is told of.
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,resuid=1\n\
                      30 22 7:0 / /data rw,relatime - ext4 /dev/loop0 rw,nodiscard\n\
                      31 22 0:5 / /dev rw,discard - devtmpfs devtmpfs rw\n\
                      no mount\n";
        assert!(discards(mounts, (254, 0)));
        assert!(!discards(mounts, (7, 0)));
        assert!(!discards(mounts, (0, 5)));
        assert!(!discards(mounts, (254, 1)));
        assert!(!discards("", (254, 0)));
    }
}
