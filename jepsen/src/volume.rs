//! A disk of one node: an image file with ext4, mounted over a loop device.
//!
//! Used by the faults that cut power, fill a disk or slow it down. Unmounted when dropped. The loop
//! device is told to go with its mount as soon as it is mounted, so an unmount is all there is to
//! clean up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::host::{self, Lacking};

/// How long a device may take to finish what it was given.
const QUIET_PATIENCE: Duration = Duration::from_secs(30);
/// How long a file system may stay busy after its processes are gone.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(20);

/// An ext4 file system in a file.
#[derive(Debug)]
pub(crate) struct Volume {
    image: PathBuf,
    mount: PathBuf,
    /// Name of the loop device, such as `loop3`, while it is mounted.
    device: Option<String>,
}

impl Volume {
    /// Makes and mounts a file system of so many bytes.
    pub(crate) fn create(folder: &Path, name: &str, bytes: u64) -> Result<Volume, Failure> {
        let image = folder.join(format!("{name}.img"));
        let mount = folder.join(format!("{name}.disk"));
        File::create(&image)?.set_len(bytes)?;
        // Nothing kept back for root: a disk that is full is full.
        let words = ["-q", "-F", "-m", "0"].map(std::ffi::OsStr::new);
        host::run("mkfs.ext4", words.into_iter().chain([image.as_os_str()]))?;
        fs::create_dir_all(&mount)?;
        let mut volume = Volume { image, mount, device: None };
        volume.mount()?;
        Ok(volume)
    }

    /// Tries all that a volume needs, and says what the machine lacks.
    pub(crate) fn probe(folder: &Path) -> Result<(), Lacking> {
        host::need_root()?;
        let probed = Volume::create(folder, "probe", 16 * 1024 * 1024).and_then(Volume::remove);
        probed.map_err(|error| Lacking(format!("needs loop devices and ext4: {error}")))
    }

    /// Where a node on this disk has its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Where it is mounted.
    pub(crate) fn mount_point(&self) -> &Path {
        &self.mount
    }

    /// Major and minor number of the device, as control groups want them.
    pub(crate) fn device_number(&self) -> Result<String, Failure> {
        let path = format!("/sys/block/{}/dev", self.device()?);
        Ok(fs::read_to_string(path)?.trim().to_owned())
    }

    /// Copies what is on the device of a file system that was switched off, then lets the copy take
    /// its place: unmounts the old image and mounts the copy, which replays its journal.
    ///
    /// No process may use the file system any more.
    pub(crate) fn become_copy(&mut self) -> Result<(), Failure> {
        let copy = self.image.with_extension("copy");
        self.copy_device(&copy)?;
        self.unmount()?;
        fs::rename(&copy, &self.image)?;
        self.mount()
    }

    /// Copies the image while nothing is written to it: a copy is taken again if a write began or
    /// ended meanwhile, because it would be of no single moment.
    fn copy_device(&self, copy: &Path) -> Result<(), Failure> {
        let deadline = Instant::now() + QUIET_PATIENCE;
        while Instant::now() < deadline {
            let before = self.writes()?;
            if before.under_way == 0 {
                let words = ["--sparse=always", "--reflink=auto"].map(std::ffi::OsStr::new);
                host::run(
                    "cp",
                    words.into_iter().chain([self.image.as_os_str(), copy.as_os_str()]),
                )?;
                if self.writes()? == before {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!(
            "{} was still written to {QUIET_PATIENCE:?} after the cut",
            self.image.display()
        )
        .into())
    }

    fn writes(&self) -> Result<Writes, Failure> {
        let path = format!("/sys/block/{}/stat", self.device()?);
        let text = fs::read_to_string(&path)?;
        Writes::parse(&text).ok_or_else(|| format!("{path} has {text:?}").into())
    }

    fn device(&self) -> Result<&str, Failure> {
        self.device
            .as_deref()
            .ok_or_else(|| format!("{} is not mounted", self.mount.display()).into())
    }

    fn mount(&mut self) -> Result<(), Failure> {
        let words = ["--find", "--show"].map(std::ffi::OsStr::new);
        let device = host::run("losetup", words.into_iter().chain([self.image.as_os_str()]))?;
        let mounted = host::run("mount", [Path::new(&device), &self.mount]);
        // From here on the device lives as long as it is mounted; if it is not, it is gone.
        host::run("losetup", ["-d", &device])?;
        mounted?;
        self.device = Some(device.trim_start_matches("/dev/").to_owned());
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), Failure> {
        if self.device.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + UNMOUNT_PATIENCE;
        loop {
            match host::run("umount", [&self.mount]) {
                Ok(_) => break,
                // A killed process lets go of its files a moment after it was reaped.
                Err(error) if Instant::now() < deadline => {
                    drop(error);
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
        self.device = None;
        Ok(())
    }

    /// Unmounts and removes the image.
    pub(crate) fn remove(mut self) -> Result<(), Failure> {
        self.unmount()?;
        fs::remove_file(&self.image)?;
        fs::remove_dir(&self.mount)?;
        Ok(())
    }
}

impl Drop for Volume {
    /// Leaves no mount behind, however the run ends.
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("left mounted: {}: {error}", self.mount.display());
        }
    }
}

/// What a block device was asked to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Writes {
    done: u64,
    under_way: u64,
}

impl Writes {
    /// From the `stat` file of the device: the fifth number counts writes, the ninth what is under way.
    fn parse(text: &str) -> Option<Writes> {
        let numbers: Vec<u64> =
            text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        Some(Writes { done: *numbers.get(4)?, under_way: *numbers.get(8)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_read_from_the_right_columns() {
        let text = "      59        1     2112        4        6        7      224        1        2        8        6\n";
        assert_eq!(Writes::parse(text), Some(Writes { done: 6, under_way: 2 }));
        assert_eq!(Writes::parse("1 2 3"), None);
    }
}
