//! The folder that everything of a cluster on this machine lives in: a fresh one that goes with it, one that
//! the user names, or one that is kept under a name and used again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// The file in it that lists the places and groups of the cluster.
pub(crate) const CLUSTER_FILE: &str = "cluster.toml";

/// Where everything the nodes write lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Made by us for this run, so ours to remove.
    is_temporary: bool,
}

/// Which folder is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen<'a> {
    /// A fresh one, removed at the end.
    Fresh,
    /// This one, which must be new or empty.
    Dir(&'a Path),
    /// The one of this name, with what it holds.
    Tag(&'a str),
}

impl Folder {
    /// Opens it; makes it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, or holds something and must not.
    pub(crate) fn open(purpose: &str, chosen: Chosen<'_>) -> Result<Folder, Failure> {
        let path = match chosen {
            Chosen::Fresh => fresh_path(purpose),
            Chosen::Dir(path) => path.to_owned(),
            Chosen::Tag(name) => tag_path(purpose, name),
        };
        fs::create_dir_all(&path).map_err(|error| Failure::file("make", &path, &error))?;
        // Child processes and the user are given the path, so it must not depend on where they are.
        let path = path.canonicalize().map_err(|error| Failure::file("open", &path, &error))?;
        if matches!(chosen, Chosen::Tag(_)) {
            return Ok(Folder { path, is_temporary: false });
        }
        let mut entries =
            fs::read_dir(&path).map_err(|error| Failure::file("read", &path, &error))?;
        if entries.next().is_some() {
            return Err(Failure::usage(
                format!("{} is not empty; the {purpose} starts with a new cluster", path.display()),
                "name a new or an empty folder with --dir, or leave --dir out",
            ));
        }
        Ok(Folder { path, is_temporary: chosen == Chosen::Fresh })
    }

    /// Whether it holds a cluster of an earlier run.
    pub(crate) fn holds_cluster(&self) -> bool {
        self.path.join(CLUSTER_FILE).is_file()
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it if it is ours. Returns the path that stays, if it stays.
    pub(crate) fn remove(self) -> Option<PathBuf> {
        if self.is_temporary && fs::remove_dir_all(&self.path).is_ok() {
            return None;
        }
        Some(self.path)
    }
}

/// Below `target` in a checkout, otherwise in the system's folder for temporary files.
fn fresh_path(purpose: &str) -> PathBuf {
    let name = format!("run-{}", std::process::id());
    match checkout_folder(purpose) {
        Some(folder) => folder.join(name),
        None => std::env::temp_dir().join(format!("quorate-{purpose}-{name}")),
    }
}

/// The folder kept under a name: below `target` in a checkout, otherwise where the user's data is.
pub(crate) fn tag_path(purpose: &str, name: &str) -> PathBuf {
    if let Some(folder) = checkout_folder(purpose) {
        return folder.join("tags").join(name);
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    home.unwrap_or_else(std::env::temp_dir).join("quorate").join(purpose).join(name)
}

/// The folders of this purpose that runs of this user may be using.
pub(crate) fn known_folders(purpose: &str) -> Vec<PathBuf> {
    let below = |folder: PathBuf, prefix: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let named = entries.filter(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
        });
        named.map(|entry| entry.path()).collect()
    };
    let mut found = below(std::env::temp_dir(), &format!("quorate-{purpose}-run-"));
    if let Some(folder) = checkout_folder(purpose) {
        found.extend(below(folder, "run-"));
    }
    if let Some(tags) = tag_path(purpose, "x").parent() {
        found.extend(below(tags.to_owned(), ""));
    }
    found.sort();
    found
}

/// `target/PURPOSE`, if this is a checkout or has a build folder; it may not exist yet.
pub(crate) fn checkout_folder(purpose: &str) -> Option<PathBuf> {
    let is_checkout = Path::new("Cargo.toml").is_file() || Path::new("target").is_dir();
    is_checkout.then(|| Path::new("target").join(purpose))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_user_is_empty_and_stays() {
        let parent = tempfile::tempdir().unwrap();
        let chosen = parent.path().join("a/b");
        let folder = Folder::open("demo", Chosen::Dir(&chosen)).unwrap();
        fs::write(folder.path().join("x"), "x").unwrap();
        assert!(folder.remove().is_some());
        let failure = Folder::open("demo", Chosen::Dir(&chosen)).unwrap_err();
        assert!(failure.to_string().contains("is not empty"), "{failure}");
    }
}
