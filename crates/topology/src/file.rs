//! The cluster file as it was written: items with the line of each value, names not yet resolved.
//!
//! Stands between `reader.rs` (TOML types) and `validate` (meaning). A value that is missing or of
//! the wrong type is a recorded problem and `None` here, so that the checks that do not need it can
//! still run.

use quorate_types::ClusterId;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::{LeaseProfile, TableClass, UnitKind};
use crate::problem::Problems;
use crate::reader::{At, Given, Lines, TableReader, type_word};
use crate::suggest;
use crate::validate::limits::{CLUSTER_FILE_BYTES_MAX, ITEMS_MAX, SLICES_DEFAULT, SLICES_MAX};

/// The whole file.
#[derive(Debug, Default)]
pub(crate) struct RawFile {
    pub(crate) cluster: Option<RawCluster>,
    pub(crate) cities: Vec<RawPlace>,
    pub(crate) idcs: Vec<RawPlace>,
    pub(crate) zones: Vec<RawPlace>,
    pub(crate) nodes: Vec<RawNode>,
    pub(crate) tables: Vec<RawTable>,
    pub(crate) units: Vec<RawUnit>,
    pub(crate) groups: Vec<RawGroup>,
}

/// `[cluster]`.
#[derive(Debug)]
pub(crate) struct RawCluster {
    pub(crate) name: Option<At<String>>,
    pub(crate) id: Option<ClusterId>,
    pub(crate) version: Option<u64>,
    pub(crate) lease: Option<LeaseProfile>,
    pub(crate) slices: Option<At<u16>>,
}

/// `[[city]]`, `[[idc]]` or `[[zone]]`.
#[derive(Debug)]
pub(crate) struct RawPlace {
    pub(crate) path: String,
    pub(crate) name: Option<At<String>>,
    /// The city of an IDC, the IDC of a zone.
    pub(crate) parent: Option<At<String>>,
}

/// `[[node]]`.
#[derive(Debug)]
pub(crate) struct RawNode {
    pub(crate) path: String,
    pub(crate) id: Option<At<u32>>,
    pub(crate) name: Option<At<String>>,
    pub(crate) zone: Option<At<String>>,
    pub(crate) client: Option<At<String>>,
    pub(crate) peer: Option<At<String>>,
    pub(crate) admin: Option<At<String>>,
}

/// `[[table]]`.
#[derive(Debug)]
pub(crate) struct RawTable {
    pub(crate) path: String,
    pub(crate) id: Option<At<u16>>,
    pub(crate) name: Option<At<String>>,
    pub(crate) class: Option<At<TableClass>>,
}

/// `[[unit]]`.
#[derive(Debug)]
pub(crate) struct RawUnit {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) kind: Option<At<UnitKind>>,
    pub(crate) slices: Given<String>,
}

/// `[[group]]`.
#[derive(Debug)]
pub(crate) struct RawGroup {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) id: Option<At<u32>>,
    pub(crate) unit: Option<At<String>>,
    pub(crate) slices: Given<String>,
    pub(crate) locality: Option<At<String>>,
    pub(crate) leader_order: Option<At<String>>,
    pub(crate) members: Option<At<Vec<At<String>>>>,
}

const SECTIONS: &[&str] = &["cluster", "city", "idc", "zone", "node", "table", "unit", "group"];

/// Reads the text. `None` only if it is no TOML at all, or too long.
pub(crate) fn read(text: &str, problems: &mut Problems) -> Option<RawFile> {
    if CLUSTER_FILE_BYTES_MAX < text.len() {
        let message = format!(
            "the file has {} bytes; a cluster file has at most {CLUSTER_FILE_BYTES_MAX}",
            text.len()
        );
        problems.error(None, "", message, None);
        return None;
    }
    let lines = Lines::of(text);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        let line = error.span().map(|span| lines.line_at(span.start));
        problems.error(line, "", error.message().replace('\n', ", "), None);
    }
    if !syntax_errors.is_empty() {
        return None; // Whatever was recovered would only give misleading further problems.
    }
    Some(Sections { root: document.get_ref(), lines: &lines }.read(problems))
}

/// The document by section.
struct Sections<'t> {
    root: &'t DeTable<'t>,
    lines: &'t Lines,
}

impl<'t> Sections<'t> {
    fn read(&self, problems: &mut Problems) -> RawFile {
        self.refuse_unknown(problems);
        let cluster = self.cluster(problems);
        let mut file = RawFile { cluster, ..RawFile::default() };
        for city in self.items("city", &["name"], problems) {
            file.cities.push(place(&city, None, problems));
        }
        for idc in self.items("idc", &["name", "city"], problems) {
            file.idcs.push(place(&idc, Some("city"), problems));
        }
        for zone in self.items("zone", &["name", "idc"], problems) {
            file.zones.push(place(&zone, Some("idc"), problems));
        }
        let keys = &["id", "name", "zone", "client", "peer", "admin"];
        for reader in self.items("node", keys, problems) {
            file.nodes.push(node(&reader, problems));
        }
        for reader in self.items("table", &["id", "name", "class"], problems) {
            file.tables.push(table(&reader, problems));
        }
        for reader in self.items("unit", &["name", "kind", "slices"], problems) {
            file.units.push(unit(&reader, problems));
        }
        let keys = &["id", "unit", "slices", "locality", "leader-order", "members"];
        for reader in self.items("group", keys, problems) {
            file.groups.push(group(&reader, problems));
        }
        file
    }

    fn refuse_unknown(&self, problems: &mut Problems) {
        for (key, _) in self.root {
            let name: &str = key.get_ref();
            if !SECTIONS.contains(&name) {
                problems.error(
                    Some(self.lines.line_at(key.span().start)),
                    name,
                    format!("unknown key {name:?} at the top of the file"),
                    suggest::hint(name, "sections", SECTIONS.iter().copied()),
                );
            }
        }
    }

    fn section(&self, name: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.root.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }

    fn cluster(&self, problems: &mut Problems) -> Option<RawCluster> {
        let Some(value) = self.section("cluster") else {
            problems.error(None, "cluster", "the section [cluster] is missing", None);
            return None;
        };
        let line = self.lines.line_at(value.span().start);
        let DeValue::Table(table) = value.get_ref() else {
            let message =
                format!("cluster must be one table, found {}", type_word(value.get_ref()));
            let hint = Some("write [cluster], once".to_owned());
            problems.error(Some(line), "cluster", message, hint);
            return None;
        };
        let place = ("[cluster]".to_owned(), "cluster".to_owned(), line);
        let keys = &["name", "id", "version", "lease", "slices"];
        let reader = TableReader::open(table, place, keys, self.lines, problems);
        Some(cluster(&reader, problems))
    }

    /// The tables of `[[name]]`; none if it is missing.
    fn items(&self, name: &str, known: &[&str], problems: &mut Problems) -> Vec<TableReader<'t>> {
        let Some(section) = self.section(name) else { return Vec::new() };
        let hint = || Some(format!("write [[{name}]], once for each"));
        let line = self.lines.line_at(section.span().start);
        let DeValue::Array(items) = section.get_ref() else {
            let message =
                format!("{name} must be a list of tables, found {}", type_word(section.get_ref()));
            problems.error(Some(line), name, message, hint());
            return Vec::new();
        };
        if ITEMS_MAX < items.len() {
            let message = format!("there are {} [[{name}]]; at most {ITEMS_MAX}", items.len());
            problems.error(Some(line), name, message, None);
            return Vec::new();
        }
        let mut readers = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let line = self.lines.line_at(item.span().start);
            let path = format!("{name}[{}]", index + 1);
            let DeValue::Table(table) = item.get_ref() else {
                let found = type_word(item.get_ref());
                let message = format!("{name} must be a list of tables, found {found} in it");
                problems.error(Some(line), path, message, hint());
                continue;
            };
            let place = (format!("[[{name}]]"), path, line);
            readers.push(TableReader::open(table, place, known, self.lines, problems));
        }
        readers
    }
}

fn cluster(reader: &TableReader<'_>, problems: &mut Problems) -> RawCluster {
    let id_text = reader.required_text("id", problems);
    let id = id_text.and_then(|text| match text.value.parse::<ClusterId>() {
        Ok(id) => Some(id),
        Err(reason) => {
            problems.error(Some(text.line), reader.path_of("id"), reason, None);
            None
        }
    });
    let leases = [LeaseProfile::Lan, LeaseProfile::Wan, LeaseProfile::Off]
        .map(|lease| (lease.word(), lease));
    let version = optional_integer(reader, "version", (1, i64::MAX), 1, problems);
    let slices_range = (1, i64::from(SLICES_MAX));
    RawCluster {
        name: reader.required_text("name", problems),
        id,
        version: version.map(|version| version.value),
        lease: reader
            .word("lease", &leases, Some(LeaseProfile::Lan), problems)
            .map(|lease| lease.value),
        slices: optional_integer(reader, "slices", slices_range, SLICES_DEFAULT, problems),
    }
}

/// The integer, the default where the key is absent, `None` where the value is wrong.
fn optional_integer<N: TryFrom<i64>>(
    reader: &TableReader<'_>,
    key: &str,
    range: (i64, i64),
    default: N,
    problems: &mut Problems,
) -> Option<At<N>> {
    if reader.has(key) {
        reader.integer(key, range, problems)
    } else {
        Some(At { value: default, line: reader.line })
    }
}

fn place(reader: &TableReader<'_>, parent: Option<&str>, problems: &mut Problems) -> RawPlace {
    RawPlace {
        path: reader.path.clone(),
        name: reader.required_text("name", problems),
        parent: parent.and_then(|key| reader.required_text(key, problems)),
    }
}

fn node(reader: &TableReader<'_>, problems: &mut Problems) -> RawNode {
    let id: Option<At<u32>> = reader.required_integer("id", (1, i64::from(u32::MAX)), problems);
    let name = if reader.has("name") {
        reader.text("name", problems)
    } else {
        id.as_ref().map(|id| At { value: format!("n{}", id.value), line: id.line })
    };
    RawNode {
        path: reader.path.clone(),
        id,
        name,
        zone: reader.required_text("zone", problems),
        client: reader.required_text("client", problems),
        peer: reader.required_text("peer", problems),
        admin: reader.required_text("admin", problems),
    }
}

fn table(reader: &TableReader<'_>, problems: &mut Problems) -> RawTable {
    let classes =
        [TableClass::Unit, TableClass::Home, TableClass::Global].map(|class| (class.word(), class));
    RawTable {
        path: reader.path.clone(),
        id: reader.required_integer("id", (1, i64::from(u16::MAX)), problems),
        name: reader.required_text("name", problems),
        class: reader.word("class", &classes, None, problems),
    }
}

fn unit(reader: &TableReader<'_>, problems: &mut Problems) -> RawUnit {
    let kinds = [UnitKind::RZone, UnitKind::GZone, UnitKind::CZone].map(|kind| (kind.word(), kind));
    RawUnit {
        path: reader.path.clone(),
        line: reader.line,
        name: reader.required_text("name", problems),
        kind: reader.word("kind", &kinds, None, problems),
        slices: reader.given_text("slices", problems),
    }
}

fn group(reader: &TableReader<'_>, problems: &mut Problems) -> RawGroup {
    RawGroup {
        path: reader.path.clone(),
        line: reader.line,
        id: reader.required_integer("id", (1, i64::from(u32::MAX)), problems),
        unit: reader.required_text("unit", problems),
        slices: reader.given_text("slices", problems),
        locality: reader.required_text("locality", problems),
        leader_order: reader.text("leader-order", problems),
        members: reader.texts("members", problems),
    }
}
