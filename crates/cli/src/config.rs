//! The settings of a server: one table, and four layers that give each its value.
//!
//! ```text
//!  default  <  file (TOML, `--config FILE`)  <  variable QUORATE__SECTION__KEY  <  flag
//! ```
//!
//! Every layer gives text, `kinds` says whether it makes sense, and the highest layer wins. `quorate server`
//! takes its typed values from [`Settings`]; `quorate config` shows them with their origins. Nothing here
//! reads the environment or a file: both are handed in.

mod file;
mod kinds;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use quorate_topology::TopologyError;
use quorate_types::Code;

use crate::args;
use crate::certificates::FOLDER_VARIABLE;
use crate::exit::Failure;
use kinds::MIB;
pub(crate) use kinds::{Kind, size, time_or_never};

/// The variable that names the file; the others belong to settings.
pub(crate) const FILE_VARIABLE: &str = "QUORATE__CONFIG";
/// What the names of all variables of settings begin with, but that of the folder of certificates.
const PREFIX: &str = "QUORATE__";

/// One thing that can be set. All are read at the start of a node and never again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Section and key in the file: `server.data`.
    pub(crate) key: &'static str,
    /// The flag of `quorate server`.
    pub(crate) flag: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// What it is where nobody says.
    pub(crate) unset: Unset,
    /// What it is for, a fragment.
    pub(crate) about: &'static str,
}

/// What a setting is where nobody says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unset {
    /// The node does not start.
    Required,
    /// This.
    Value(&'static str),
    /// It depends, in words.
    Words(&'static str),
}

/// Every setting, in order of the file.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        key: "server.cluster",
        flag: "--cluster",
        kind: Kind::Path,
        unset: Unset::Required,
        about: "the cluster file, the same for every node",
    },
    Setting {
        key: "server.node",
        flag: "--node",
        kind: Kind::Name,
        unset: Unset::Required,
        about: "the name of this node in the cluster file",
    },
    Setting {
        key: "server.data",
        flag: "--data",
        kind: Kind::Path,
        unset: Unset::Required,
        about: "the data folder of this node; made if it does not exist",
    },
    Setting {
        key: "server.profile",
        flag: "--profile",
        kind: Kind::Words(&["normal", "small"]),
        unset: Unset::Value("normal"),
        about: "how much memory and disk the node may use; small is for laptops and demos",
    },
    Setting {
        key: "server.threads",
        flag: "--threads",
        kind: Kind::Count { min: 1, max: 1024 },
        unset: Unset::Words("one per core"),
        about: "threads for requests and peers, beside the one that writes the log",
    },
    Setting {
        key: "server.tls-dir",
        flag: "--tls-dir",
        kind: Kind::Path,
        unset: Unset::Words("required, unless server.insecure is true"),
        about: "the folder with ca.crt, the certificate and key of this node, and rights.toml",
    },
    Setting {
        key: "server.insecure",
        flag: "--insecure",
        kind: Kind::Boolean,
        unset: Unset::Value("false"),
        about: "neither encrypt nor authenticate: everybody who reaches the ports may do everything",
    },
    Setting {
        key: "server.leave-timeout",
        flag: "--leave-timeout",
        kind: Kind::Time { min_ms: 100, max_ms: 600_000 },
        unset: Unset::Value("10s"),
        about: "how long a node that is stopped tries to hand over what it leads",
    },
    Setting {
        key: "server.request-bytes-max",
        flag: "--request-bytes-max",
        kind: Kind::Size { min: 8 * MIB, max: 65_536 * MIB },
        unset: Unset::Words("256MiB, with profile small 32MiB"),
        about: "memory for requests that are not answered yet; beyond it they get OVERLOADED",
    },
    Setting {
        key: "server.allow-faults",
        flag: "--allow-faults",
        kind: Kind::Boolean,
        unset: Unset::Value("false"),
        about: "let callers delay and cut the links of the node; for demos and tests only",
    },
    Setting {
        key: "server.links",
        flag: "--links",
        kind: Kind::Links,
        unset: Unset::Words("as the network has them"),
        about: "delays and cuts between places that the node begins with, if it allows faults",
    },
    Setting {
        key: "storage.log-bytes-max",
        flag: "--log-bytes-max",
        kind: Kind::Size { min: 256 * MIB, max: 16 * 1024 * 1024 * MIB },
        unset: Unset::Words("16GiB, with profile small 256MiB"),
        about: "how large the log may grow; beyond it writes get DISK_FULL",
    },
    Setting {
        key: "storage.log-keep-max",
        flag: "--log-keep-max",
        kind: Kind::Size { min: MIB, max: 8 * 1024 * 1024 * MIB },
        unset: Unset::Words("2GiB, with profile small 32MiB"),
        about: "how much log is kept for members that are behind; who needs older log gets a snapshot",
    },
    Setting {
        key: "storage.compaction-rate-max",
        flag: "--compaction-rate-max",
        kind: Kind::Size { min: 8 * MIB, max: 16 * 1024 * MIB },
        unset: Unset::Value("256MiB"),
        about: "how much a second flushes and compactions of the rows may write",
    },
    Setting {
        key: "storage.snapshot-rate-max",
        flag: "--snapshot-rate-max",
        kind: Kind::Size { min: MIB, max: 16 * 1024 * MIB },
        unset: Unset::Value("64MiB"),
        about: "how much a second of its rows the node sends to backups and, usually half, to nodes that refill",
    },
    Setting {
        key: "storage.check-interval",
        flag: "--check-interval",
        kind: Kind::TimeOrNever { min_ms: 1_000, max_ms: 86_400_000 },
        unset: Unset::Value("10m"),
        about: "how often the leader of a group has its replicas compare their rows; never: only on command",
    },
    Setting {
        key: "storage.repair-rows",
        flag: "--repair-rows",
        kind: Kind::Boolean,
        unset: Unset::Value("true"),
        about: "a start moves damaged rows aside and fetches others, instead of refusing",
    },
    Setting {
        key: "storage.repair-log",
        flag: "--repair-log",
        kind: Kind::Boolean,
        unset: Unset::Value("true"),
        about: "a start with a damaged log fetches what is missing from others, instead of refusing",
    },
    Setting {
        key: "log.format",
        flag: "--log-format",
        kind: Kind::Words(&["json", "text"]),
        unset: Unset::Words("text if stdout is a terminal, otherwise json"),
        about: "how log lines on stderr look",
    },
    Setting {
        key: "log.filter",
        flag: "--log-filter",
        kind: Kind::Filter,
        unset: Unset::Value("info"),
        about: "what is logged: a level, or levels by module",
    },
];

impl Setting {
    /// The setting of this key.
    pub(crate) fn of(key: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The variable that sets it: `QUORATE__SERVER__DATA`. The folder of certificates is every command's, and
    /// so is its variable.
    pub(crate) fn variable(&self) -> String {
        if self.key == "server.tls-dir" {
            return FOLDER_VARIABLE.to_owned();
        }
        let name = self.key.replace('.', "__").replace('-', "_").to_ascii_uppercase();
        format!("{PREFIX}{name}")
    }

    /// Section and key.
    pub(crate) fn parts(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }
}

/// Whether a text is a value of a setting; for flags.
///
/// # Errors
/// What would be right, in a sentence.
pub(crate) fn check(key: &str, text: &str) -> Result<String, String> {
    match Setting::of(key) {
        Some(setting) => setting.kind.check(text),
        None => Err(format!("there is no setting {key:?}")),
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File {
        /// The file as the user named it.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { file, line } => write!(f, "file {file}:{line}"),
            Origin::Variable(name) => write!(f, "variable {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The values of all settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    found: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Reads the file alone.
    ///
    /// # Errors
    /// Every problem of the file, with its line.
    pub(crate) fn of_file(path: &Path, text: &str) -> Result<Settings, TopologyError> {
        Ok(Settings { found: file::read(path, text)? })
    }

    /// Puts the variables over what there is. Variables that belong to nobody are mistakes.
    ///
    /// # Errors
    /// `CONFIG_INVALID` naming the variable.
    pub(crate) fn with_variables(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Settings, Failure> {
        let names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        let mut ours: Vec<(String, String)> = variables
            .into_iter()
            .filter(|(name, _)| {
                names.contains(name) || name.starts_with(PREFIX) && name != FILE_VARIABLE
            })
            .collect();
        ours.sort();
        for (name, text) in ours {
            let Some(place) = names.iter().position(|known| *known == name) else {
                let known = names.iter().map(String::as_str).chain([FILE_VARIABLE]);
                let hint = args::did_you_mean(&name, known);
                let message = format!("no setting belongs to the variable {name}; {hint}");
                return Err(Failure::new(Code::ConfigInvalid, message)
                    .with_fix("correct or unset the variable"));
            };
            let setting = &SETTINGS[place];
            let value = setting.kind.check(&text).map_err(|wrong| {
                Failure::new(Code::ConfigInvalid, format!("{name}: {wrong}"))
                    .with_fix("correct or unset the variable")
            })?;
            self.found.insert(setting.key, (value, Origin::Variable(name)));
        }
        Ok(self)
    }

    /// Puts flags, by key, over what there is. They were checked when the command line was.
    pub(crate) fn with_flags(
        mut self,
        flags: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Settings {
        for (key, value) in flags {
            if let Some(setting) = Setting::of(key) {
                self.found.insert(setting.key, (value, Origin::Flag(setting.flag)));
            }
        }
        self
    }

    /// The value of a setting: what was said, or its default. `None` if it depends, or is missing.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        match (self.found.get(key), Setting::of(key)?.unset) {
            (Some((value, _)), _) => Some(value),
            (None, Unset::Value(value)) => Some(value),
            (None, Unset::Required | Unset::Words(_)) => None,
        }
    }

    /// Where the value of a setting comes from.
    pub(crate) fn origin(&self, key: &str) -> Origin {
        self.found.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// A typed value.
    ///
    /// # Errors
    /// `CONFIG_INVALID` if the text makes no sense, which the layers have excluded.
    pub(crate) fn typed<T>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let parsed = self.get(key).map(parse).transpose();
        parsed.map_err(|wrong| Failure::new(Code::ConfigInvalid, format!("{key}: {wrong}")))
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// `INVALID_REQUEST` that says where it can be given.
    pub(crate) fn required(&self, key: &str) -> Result<&str, Failure> {
        let Some(setting) = Setting::of(key) else {
            return Err(Failure::new(Code::Internal, format!("there is no setting {key:?}")));
        };
        self.get(key).ok_or_else(|| {
            let variable = setting.variable();
            Failure::usage(
                format!("{key} is missing: {}", setting.about),
                format!(
                    "give {}, set {variable}, or write it into the file of --config",
                    setting.flag
                ),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn the_highest_layer_wins_and_is_named() {
        // Goal: file < variable < flag for every setting, whatever the others say.
        let text = "[server]\nprofile = \"small\"\nthreads = 2\n\n[log]\nfilter = \"warn\"\n";
        let settings = Settings::of_file(Path::new("q.toml"), text)
            .expect("a file")
            .with_variables(variables(&[
                ("QUORATE__SERVER__THREADS", "3"),
                ("QUORATE__LOG__FILTER", "debug"),
                ("QUORATE__CONFIG", "q.toml"),
                ("QUORATE_ENDPOINTS", "h:1"),
            ]))
            .expect("variables")
            .with_flags([("log.filter", "trace".to_owned())]);
        for (key, value, origin) in [
            ("server.profile", Some("small"), "file q.toml:2"),
            ("server.threads", Some("3"), "variable QUORATE__SERVER__THREADS"),
            ("log.filter", Some("trace"), "flag --log-filter"),
            ("server.leave-timeout", Some("10s"), "default"),
            ("log.format", None, "default"),
        ] {
            assert_eq!(settings.get(key), value, "{key}");
            assert_eq!(settings.origin(key).to_string(), origin, "{key}");
        }
    }

    #[test]
    fn a_variable_of_nobody_or_with_nonsense_is_a_mistake() {
        // Goal: a typing error in a name or a value does not go unnoticed.
        let wrong = |name, text| {
            let read = Settings::default().with_variables(variables(&[(name, text)]));
            read.expect_err(name).to_string()
        };
        let found = wrong("QUORATE__SERVER__DTAA", "x");
        assert!(found.contains("did you mean \"QUORATE__SERVER__DATA\"?"), "{found}");
        let found = wrong("QUORATE__SERVER__THREADS", "0");
        assert!(found.contains("QUORATE__SERVER__THREADS: 0 is not between 1 and 1024"), "{found}");
    }

    #[test]
    fn what_is_missing_says_where_it_can_be_given() {
        // Goal: whoever forgets a setting learns all three ways.
        let failure = Settings::default().required("server.data").expect_err("missing").to_string();
        for part in ["server.data is missing", "--data", "QUORATE__SERVER__DATA", "--config"] {
            assert!(failure.contains(part), "{failure}");
        }
    }

    #[test]
    fn the_table_is_sound() {
        // Goal: names are unique, defaults are values, sections stand together.
        let mut sections: Vec<&str> = Vec::new();
        for (index, setting) in SETTINGS.iter().enumerate() {
            let (section, key) = setting.parts();
            assert!(!section.is_empty() && !key.is_empty() && !setting.about.ends_with('.'));
            if sections.last() != Some(&section) {
                assert!(!sections.contains(&section), "{section} is torn apart");
                sections.push(section);
            }
            if let Unset::Value(value) = setting.unset {
                assert_eq!(setting.kind.check(value).as_deref(), Ok(value), "{}", setting.key);
            }
            for other in &SETTINGS[index + 1..] {
                assert_ne!(setting.variable(), other.variable());
                assert_ne!(setting.flag, other.flag);
            }
        }
    }

    #[test]
    fn every_setting_is_in_the_handbook() {
        // Goal: docs/OPERATIONS.md lists each setting with its flag and its default.
        const HANDBOOK: &str = include_str!("../../../docs/OPERATIONS.md");
        for setting in SETTINGS {
            let row = format!("| `{}` | `{}` |", setting.key, setting.flag);
            assert!(HANDBOOK.contains(&row), "no row begins with {row}");
        }
    }
}
