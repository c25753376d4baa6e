//! What certificates say, as a table or a document.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use quorate_tls::{Certificate, Paths, read_all};
use serde_json::json;

use crate::exit::Failure;
use crate::output::{Document, Output, Table, rfc3339};

/// The certificates of a folder: authorities, clients, nodes.
pub(super) fn certificates_of(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(dir).map_err(|error| Failure::file("read", dir, &error))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "crt"))
        .collect();
    found.sort();
    Ok(found)
}

/// The files of every node and client of a folder.
pub(super) fn members_of(dir: &Path) -> Result<Vec<Paths>, Failure> {
    let is_member = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("node-") || name.starts_with("client-")
    };
    let members = certificates_of(dir)?.into_iter().filter(is_member);
    let paths = members.map(|certificate| Paths {
        ca: dir.join("ca.crt"),
        key: certificate.with_extension("key"),
        certificate,
    });
    Ok(paths.collect())
}

/// Prints what the certificates of these files say.
pub(super) fn show(files: &[PathBuf], out: &Output) -> Result<(), Failure> {
    let now = SystemTime::now();
    let mut table = Table::new(&["FILE", "IDENTITY", "STATE", "VALID UNTIL", "HOSTS"]);
    let mut document = Document::new("certificates");
    for file in files {
        for said in read_all(file)? {
            let (identity, until) = (said.to_string(), rfc3339(said.not_after));
            let (state, hosts) = (state(&said, now), said.hosts.join(", "));
            table.row([file.display().to_string(), identity, state.to_owned(), until, hosts]);
            document.items.push(json!({
                "file": file.display().to_string(),
                "identity": said.identity.as_ref().map(ToString::to_string),
                "state": state,
                "not_before": rfc3339(said.not_before),
                "not_after": rfc3339(said.not_after),
                "hosts": said.hosts,
                "serial": said.serial,
                "subject": said.subject,
                "issuer": said.issuer,
            }));
        }
    }
    out.table(&table);
    out.document(&document);
    Ok(())
}

fn state(said: &Certificate, now: SystemTime) -> &'static str {
    if said.is_current(now) {
        "valid"
    } else if said.not_after < now {
        "expired"
    } else {
        "not yet valid"
    }
}
