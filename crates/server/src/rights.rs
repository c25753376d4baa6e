//! What clients may do: the file `rights.toml`, read by every server.
//!
//! ```toml
//! [[client]]
//! name = "shop"             # the client of the certificate client-shop.crt
//! read = ["*"]              # units, or "*" for all of them
//! write = ["RZ00", "RZ01"]  # includes read
//! admin = []                # leaders, transactions in doubt; no rows and no accounts by itself
//! ```
//!
//! Backups take `read` and `admin`, in every unit.
//!
//! A client that is not in the file may do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use quorate_topology::Topology;
use quorate_types::{ClientName, Code, Error};
use serde::Deserialize;

/// Most clients of a file.
const CLIENTS_MAX: usize = 10_000;
/// Stands for every unit.
const EVERY_UNIT: &str = "*";

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read rows and accounts, and take cuts.
    Read,
    /// Change rows and accounts; includes reading them.
    Write,
    /// Move leaders and look after transactions in doubt; together with reading, back up.
    Admin,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Right::Read => "read",
            Right::Write => "write",
            Right::Admin => "admin",
        })
    }
}

/// Units, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Units {
    every: bool,
    names: BTreeSet<String>,
}

impl Units {
    fn has(&self, unit: &str) -> bool {
        self.every || self.names.contains(unit)
    }
}

/// What one client may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    read: Units,
    write: Units,
    admin: Units,
}

impl Granted {
    /// True if this may be done in this unit.
    #[must_use]
    pub fn allows(&self, right: Right, unit: &str) -> bool {
        match right {
            Right::Read => self.read.has(unit) || self.write.has(unit),
            Right::Write => self.write.has(unit),
            Right::Admin => self.admin.has(unit),
        }
    }

    /// True if this may be done in every unit.
    #[must_use]
    pub(crate) fn allows_everywhere(&self, right: Right) -> bool {
        match right {
            Right::Read => self.read.every || self.write.every,
            Right::Write => self.write.every,
            Right::Admin => self.admin.every,
        }
    }
}

/// What all clients may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    clients: BTreeMap<ClientName, Arc<Granted>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    admin: Vec<String>,
}

impl Rights {
    /// Reads the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// `CONFIG_INVALID` with the line of a mistake of form, or the client whose name or unit is wrong.
    pub fn parse(path: &str, text: &str, topology: &Topology) -> Result<Rights, Error> {
        let wrong = |reason: String| {
            Error::new(Code::ConfigInvalid, format!("{path}: {reason}")).with("file", path)
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            wrong(format!("line {line}: {}", error.message().replace('\n', ", ")))
        })?;
        if CLIENTS_MAX < file.client.len() {
            let count = file.client.len();
            return Err(wrong(format!("names {count} clients, at most {CLIENTS_MAX}")));
        }
        let mut clients = BTreeMap::new();
        for entry in file.client {
            let name: ClientName = entry.name.parse().map_err(wrong)?;
            let units = |units: Vec<String>| {
                units_of(units, topology)
                    .map_err(|unit| wrong(format!("client {name}: {}", no_unit(&unit, topology))))
            };
            let granted = Granted {
                read: units(entry.read)?,
                write: units(entry.write)?,
                admin: units(entry.admin)?,
            };
            if clients.insert(name.clone(), Arc::new(granted)).is_some() {
                return Err(wrong(format!("client {name} stands in it twice")));
            }
        }
        Ok(Rights { clients })
    }

    /// What a client may do; `None` if nobody has given it a right.
    #[must_use]
    pub fn of(&self, client: &ClientName) -> Option<&Arc<Granted>> {
        self.clients.get(client)
    }
}

/// The units, or the first that does not exist.
fn units_of(names: Vec<String>, topology: &Topology) -> Result<Units, String> {
    let mut units = Units::default();
    for name in names {
        if name == EVERY_UNIT {
            units.every = true;
        } else if topology.unit(&name).is_some() {
            units.names.insert(name);
        } else {
            return Err(name);
        }
    }
    Ok(units)
}

fn no_unit(name: &str, topology: &Topology) -> String {
    let known: Vec<&str> = topology.units().take(20).map(|unit| unit.name.as_str()).collect();
    format!("no unit has the name {name:?}; there are {}, and \"*\" for all", known.join(", "))
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    fn parse(text: &str) -> Result<Rights, Error> {
        let topology = one_city_three_idcs(&Options::demo(ClusterId(7)));
        Rights::parse("rights.toml", text, &Topology::parse(&topology).unwrap())
    }

    #[test]
    fn rights_are_per_client_and_unit() {
        // Goal: a right that is not written down does not exist, and no right brings another one along,
        // but that writers may read.
        let rights = parse(
            "[[client]]\nname = \"shop\"\nread = [\"RZ02\"]\nwrite = [\"RZ00\", \"RZ01\"]\n\
             [[client]]\nname = \"ops\"\nadmin = [\"*\"]\n[[client]]\nname = \"gone\"",
        )
        .unwrap();
        let of = |name: &str| rights.of(&name.parse().unwrap());
        let shop = of("shop").unwrap();
        for (unit, read, write) in
            [("RZ00", true, true), ("RZ02", true, false), ("RZ03", false, false)]
        {
            assert_eq!(shop.allows(Right::Read, unit), read, "{unit}");
            assert_eq!(shop.allows(Right::Write, unit), write, "{unit}");
            assert!(!shop.allows(Right::Admin, unit), "{unit}");
        }
        assert!(!shop.allows_everywhere(Right::Read));
        let ops = of("ops").unwrap();
        assert!(ops.allows(Right::Admin, "GZ") && ops.allows_everywhere(Right::Admin));
        assert!(!ops.allows(Right::Read, "GZ"));
        assert!(!of("gone").unwrap().allows(Right::Read, "GZ"));
        assert_eq!(of("nobody"), None);
        assert_eq!(parse("").unwrap(), Rights::default());
    }

    #[test]
    fn mistakes_are_named() {
        // Goal: a typing error gives nobody a right and takes none away unnoticed.
        let cases = [
            ("[[client]]\nname = \"a\"\nraed = [\"*\"]", "line 3: unknown field `raed`"),
            ("[[client]]\nread = [\"*\"]", "missing field `name`"),
            ("[[client]]\nname = \"a/b\"", "\"a/b\" is no name of a client"),
            (
                "[[client]]\nname = \"a\"\nread = [\"RZ9\"]",
                "client a: no unit has the name \"RZ9\"",
            ),
            ("[[client]]\nname = \"a\"\n[[client]]\nname = \"a\"", "client a stands in it twice"),
        ];
        for (text, part) in cases {
            let error = parse(text).unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid);
            assert!(error.message.contains(part), "{error}");
        }
    }
}
