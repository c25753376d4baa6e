//! Damages one file, tells whether the damage is still there, and takes it back.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What an empty file gets where there is no byte to flip.
const GARBAGE: [u8; 16] = [0xA5; 16];
/// From the last byte that is not zero back to what counts as near the end.
const NEAR_END: u64 = 9;

/// In which way a file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Every bit of one byte.
    Flip,
    /// The file ends here.
    Truncate,
    /// The file is gone.
    Remove,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The first byte.
    Start,
    /// Half of what is used: zeros at the end of a file that was allocated ahead do not count.
    Middle,
    /// A few bytes before the last used one.
    End,
}

/// A damage that was done.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    path: PathBuf,
    /// Which file it was: another one may have its name by now, and must be left alone.
    inode: u64,
    how: How,
    at: u64,
    /// What was there: the byte, or everything that was cut off.
    before: Vec<u8>,
    /// What is there now; of a truncated file nothing.
    now: Vec<u8>,
}

impl Damage {
    /// Damages a file. `None` if there is nothing in it to cut off.
    pub(super) fn inflict(path: &Path, how: How, place: Place) -> io::Result<Option<Damage>> {
        let bytes = fs::read(path)?;
        let inode = fs::metadata(path)?.ino();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        let used = used as u64;
        let at = match place {
            Place::Start => 0,
            Place::Middle => used / 2,
            Place::End => used.saturating_sub(NEAR_END),
        };
        let index = usize::try_from(at).unwrap_or(usize::MAX);
        let file = OpenOptions::new().write(true).open(path)?;
        let (before, now) = match how {
            How::Flip => match bytes.get(index) {
                Some(byte) => (vec![*byte], vec![!*byte]),
                None => (Vec::new(), GARBAGE.to_vec()),
            },
            How::Truncate | How::Remove => (bytes[index..].to_vec(), Vec::new()),
        };
        match how {
            How::Flip => file.write_all_at(&now, at)?,
            How::Truncate if bytes.is_empty() => return Ok(None),
            How::Truncate => file.set_len(at)?,
            How::Remove => fs::remove_file(path)?,
        }
        Ok(Some(Damage { path: path.to_owned(), inode, how, at, before, now }))
    }

    /// True if the file is still as damaged, under its name.
    pub(super) fn is_there(&self) -> io::Result<bool> {
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() != self.inode) {
            return Ok(false);
        }
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(self.how == How::Remove);
            }
            Err(error) => return Err(error),
        };
        let rest = usize::try_from(self.at).ok().and_then(|at| bytes.get(at..));
        Ok(match self.how {
            How::Flip => rest.is_some_and(|rest| rest.starts_with(&self.now)),
            How::Truncate => rest.is_some_and(<[u8]>::is_empty),
            How::Remove => false,
        })
    }

    /// Puts back exactly what was there, if the damage is still there. Not a removed file: the node
    /// has shown that it does without.
    pub(super) fn undo(&self) -> io::Result<()> {
        if self.how == How::Remove || !self.is_there()? {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).open(&self.path)?;
        if self.before.is_empty() {
            return file.set_len(self.at);
        }
        file.write_all_at(&self.before, self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Damages a file of this content, and returns what is left and what is there after the undo.
    fn check(content: &[u8], how: How, place: Place) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, content).unwrap();
        let damage = Damage::inflict(&path, how, place).unwrap().unwrap();
        let damaged = fs::read(&path).unwrap();
        assert!(damage.is_there().unwrap());
        damage.undo().unwrap();
        assert!(!damage.is_there().unwrap());
        (damaged, fs::read(&path).unwrap())
    }

    #[test]
    fn damage_is_done_where_it_should_be_and_taken_back() {
        let content = b"0123456789abcdefghij\0\0\0\0".to_vec();
        let (damaged, undone) = check(&content, How::Flip, Place::Middle);
        assert_eq!((damaged[10], &undone), (!b'a', &content));
        let (damaged, undone) = check(&content, How::Flip, Place::End);
        assert_eq!((damaged[11], &undone), (!b'b', &content));
        let (damaged, undone) = check(&content, How::Truncate, Place::Middle);
        assert_eq!((&damaged[..], &undone), (&content[..10], &content));
        assert_eq!(check(b"", How::Flip, Place::End), (GARBAGE.to_vec(), vec![]));
    }

    #[test]
    fn a_file_that_was_written_anew_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "damaged and then repaired").unwrap();
        let damage = Damage::inflict(&path, How::Flip, Place::Start).unwrap().unwrap();
        fs::write(&path, "something else").unwrap();
        assert!(!damage.is_there().unwrap());
        damage.undo().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"something else");
        fs::write(&path, "").unwrap();
        assert!(Damage::inflict(&path, How::Truncate, Place::End).unwrap().is_none());
    }

    #[test]
    fn another_file_of_the_same_name_is_left_alone() {
        // Goal: a node that moved its damaged rows aside has other files there, which happen to have the
        // same byte; taking the damage back would damage those.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        let damage = Damage::inflict(&path, How::Flip, Place::Start).unwrap().unwrap();
        let damaged = fs::read(&path).unwrap();
        fs::rename(&path, folder.path().join("aside")).unwrap();
        fs::write(&path, &damaged).unwrap();
        assert!(!damage.is_there().unwrap());
        damage.undo().unwrap();
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}
