//! What `quorate cert` writes into `rights.toml`: a first file, and one more client at its end. What
//! people wrote into it stays.

use std::fs;
use std::path::{Path, PathBuf};

use quorate_types::{ClientName, Code};

use crate::exit::Failure;

const FIRST: &str = "\
# What clients may do. Every server reads this file from its folder of certificates, and again when it
# changes. Units by name, or \"*\" for all of them; write includes read; a client that is not here may do
# nothing. Servers refuse a file with a mistake and go on with the one before.
";

/// Rights to be given.
pub(super) struct Given<'a> {
    pub(super) read: &'a [String],
    pub(super) write: &'a [String],
    pub(super) admin: &'a [String],
}

fn path(dir: &Path) -> PathBuf {
    dir.join("rights.toml")
}

/// Writes a file that gives nobody anything, unless there is one.
pub(super) fn write_first(dir: &Path) -> Result<(), Failure> {
    if path(dir).exists() { Ok(()) } else { write(dir, FIRST) }
}

/// The file with one more client.
///
/// # Errors
/// `CONFIG_INVALID` if it is in it already.
pub(super) fn with(dir: &Path, name: &ClientName, given: &Given<'_>) -> Result<String, Failure> {
    let path = path(dir);
    let mut text =
        fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
    if names(&text, name) {
        let message = format!("{} names client {name} already", path.display());
        return Err(Failure::new(Code::ConfigInvalid, message)
            .with_fix("choose another name, or remove its entry first"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("\n[[client]]\nname = \"{name}\"\n"));
    for (right, units) in [("read", given.read), ("write", given.write), ("admin", given.admin)] {
        if !units.is_empty() {
            let units: Vec<String> =
                units.iter().map(|unit| unit_word(unit)).collect::<Result<_, _>>()?;
            text.push_str(&format!("{right} = [{}]\n", units.join(", ")));
        }
    }
    Ok(text)
}

/// True if a line of the file gives this client its name.
fn names(text: &str, name: &ClientName) -> bool {
    text.lines().any(|line| {
        let word = line.trim().strip_prefix("name").map(str::trim_start);
        let word = word.and_then(|rest| rest.strip_prefix('=')).map(str::trim);
        word.is_some_and(|word| {
            let quoted = ["\"", "'"].map(|quote| format!("{quote}{name}{quote}"));
            quoted.iter().any(|quoted| word.starts_with(quoted.as_str()))
        })
    })
}

/// Whether the unit exists is for the servers, which have the cluster file.
fn unit_word(unit: &str) -> Result<String, Failure> {
    let is_name =
        unit == "*" || (!unit.is_empty() && unit.chars().all(|c| c.is_ascii_alphanumeric()));
    if is_name {
        return Ok(format!("\"{unit}\""));
    }
    Err(Failure::usage(format!("{unit:?} is no unit"), "write names of units, or * for all"))
}

/// Writes the file, as a whole.
pub(super) fn write(dir: &Path, text: &str) -> Result<(), Failure> {
    let (path, new) = (path(dir), dir.join("rights.toml.new"));
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|error| Failure::file("write", &path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_added_and_the_rest_stays() {
        // Goal: words of people survive, and nobody gets rights twice.
        let dir = tempfile::tempdir().unwrap();
        let (shop, ops) = ("shop".parse().unwrap(), "ops".parse().unwrap());
        let (all, some) = (["*".to_owned()], ["RZ00".to_owned(), "RZ01".to_owned()]);
        let given = Given { read: &all, write: &some, admin: &[] };
        assert!(with(dir.path(), &shop, &given).is_err(), "there is no file yet");
        write_first(dir.path()).unwrap();
        write(dir.path(), &format!("{FIRST}# ours\n")).unwrap();
        let text = with(dir.path(), &shop, &given).unwrap();
        let end =
            "# ours\n\n[[client]]\nname = \"shop\"\nread = [\"*\"]\nwrite = [\"RZ00\", \"RZ01\"]\n";
        assert_eq!(text, format!("{FIRST}{end}"));
        write(dir.path(), &text).unwrap();
        assert!(with(dir.path(), &shop, &given).is_err());
        assert!(with(dir.path(), &ops, &given).is_ok());
        let wrong = ["RZ00\"]".to_owned()];
        let given = Given { read: &wrong, write: &[], admin: &[] };
        assert!(with(dir.path(), &ops, &given).is_err());
    }
}
