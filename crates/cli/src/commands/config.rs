//! `quorate config`: writes a configuration of a server, checks one, and shows what a server would be started
//! with and where each value comes from.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use quorate_topology::TopologyError;
use quorate_types::Error;
use serde_json::{Value, json};

use super::server::{ServerArgs, read_text};
use super::topology::{invalid_document, save};
use crate::cli::Global;
use crate::config::{Origin, SETTINGS, Setting, Settings, Unset};
use crate::exit::Failure;
use crate::output::{Document, Output, Table};

/// Makes, checks or shows the configuration of a server.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigCommand {
    /// Write a file with every setting and its default
    Init(InitArgs),
    /// Report every mistake in a file
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show what `quorate server` would be started with: the same flags, file and variables
    Show(Box<ShowArgs>),
}

#[derive(Clone, Debug, Args)]
struct InitArgs {
    /// Writes to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replaces the file if it exists
    #[arg(long, requires = "output")]
    overwrite: bool,
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    /// Says where each value comes from
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs `quorate config`.
pub(crate) fn run(args: ConfigArgs, global: &Global, out: &Output) -> Result<(), Failure> {
    match args.command {
        ConfigCommand::Init(args) => init(&args, out),
        ConfigCommand::Check { file } => check(&file, out),
        ConfigCommand::Show(args) => {
            let settings = args.server.settings(global.tls.dir(), std::env::vars_os())?;
            show(&settings, args.origin, out);
            Ok(())
        }
    }
}

fn init(args: &InitArgs, out: &Output) -> Result<(), Failure> {
    let text = template();
    match &args.output {
        Some(path) => {
            save(path, &text, args.overwrite)?;
            if !out.is_json() {
                out.say(format_args!("{}: every setting, each with its default", path.display()));
            }
        }
        None if !out.is_json() => out.raw(text.as_bytes()),
        None => {}
    }
    let file = args.output.as_ref().map(|path| path.display().to_string());
    out.document(&Document::new("config-init").item(json!({ "file": file, "toml": text })));
    Ok(())
}

/// Every setting as a comment that can be taken away.
fn template() -> String {
    let mut text = "# Settings of `quorate server --config FILE`. Variables go before this file, flags before both.\n\
                    # `quorate config check FILE` finds mistakes, `quorate config show --origin` tells where each value\n\
                    # comes from.\n"
        .to_owned();
    let mut last = "";
    for setting in SETTINGS {
        let (section, key) = setting.parts();
        if section != last {
            text.push_str(&format!("\n[{section}]\n"));
            last = section;
        }
        let (value, unset) = match setting.unset {
            Unset::Value(value) => (value, format!("Default: {value}")),
            Unset::Words(words) => ("...", format!("Default: {words}")),
            Unset::Required => ("...", "Required, here or elsewhere".to_owned()),
        };
        let quote = if setting.kind.is_bare() { "" } else { "\"" };
        text.push_str(&format!(
            "\n# {key}: {}.\n# Takes {}. {unset}.\n# {key} = {quote}{value}{quote}\n",
            setting.about,
            setting.kind.wanted()
        ));
    }
    text
}

fn check(path: &Path, out: &Output) -> Result<(), Failure> {
    let text = read_text(path)?;
    match Settings::of_file(path, &text) {
        Ok(settings) => {
            if !out.is_json() {
                out.say(valid_words(path, &settings));
            }
            let items = SETTINGS.iter().filter(|setting| is_given(&settings, setting));
            let given: Vec<&str> = items.map(|setting| setting.key).collect();
            out.document(&Document::new("config-check").item(json!({
                "file": path.display().to_string(), "valid": true, "given": given,
            })));
            Ok(())
        }
        Err(error) => {
            out.note(&error);
            out.document(&invalid_document("config-check", &error));
            Err(refused(path, &error))
        }
    }
}

/// Many problems in one sentence; they were printed before.
fn refused(path: &Path, error: &TopologyError) -> Failure {
    let count = error.problems.len() + error.left_out;
    let plural = if count == 1 { "" } else { "s" };
    let summary = Error::new(error.code, format!("{} has {count} problem{plural}", path.display()));
    Failure::from(summary).with_fix("correct the lines named above and try again")
}

fn is_given(settings: &Settings, setting: &Setting) -> bool {
    settings.origin(setting.key) != Origin::Default
}

/// What a valid file leaves to variables and flags.
fn valid_words(path: &Path, settings: &Settings) -> String {
    let given = SETTINGS.iter().filter(|setting| is_given(settings, setting)).count();
    let missing: Vec<&str> = SETTINGS
        .iter()
        .filter(|setting| setting.unset == Unset::Required && !is_given(settings, setting))
        .map(|setting| setting.flag)
        .collect();
    let rest = match missing.as_slice() {
        [] => String::new(),
        missing => format!("; to be given elsewhere: {}", missing.join(", ")),
    };
    format!("{} is valid and sets {given} of {} settings{rest}", path.display(), SETTINGS.len())
}

fn show(settings: &Settings, has_origin: bool, out: &Output) {
    out.table(&table(settings, has_origin));
    let mut document = Document::new("config");
    document.items = SETTINGS.iter().map(|setting| setting_json(settings, setting)).collect();
    out.document(&document);
}

fn table(settings: &Settings, has_origin: bool) -> Table {
    let header: &[&str] = if has_origin { &["KEY", "VALUE", "FROM"] } else { &["KEY", "VALUE"] };
    let mut table = Table::new(header);
    for setting in SETTINGS {
        let value = match (settings.get(setting.key), setting.unset) {
            (Some(value), _) => value.to_owned(),
            (None, Unset::Words(words)) => format!("({words})"),
            (None, Unset::Required | Unset::Value(_)) => "(missing)".to_owned(),
        };
        let mut row = vec![setting.key.to_owned(), value];
        if has_origin {
            let is_missing = setting.unset == Unset::Required && !is_given(settings, setting);
            row.push(match is_missing {
                true => "nowhere".to_owned(),
                false => settings.origin(setting.key).to_string(),
            });
        }
        table.row(row);
    }
    table
}

fn setting_json(settings: &Settings, setting: &Setting) -> Value {
    let origin = settings.origin(setting.key);
    let (from, file, line) = match &origin {
        Origin::Default => ("default", None, None),
        Origin::File { file, line } => ("file", Some(file), Some(line)),
        Origin::Variable(_) => ("variable", None, None),
        Origin::Flag(_) => ("flag", None, None),
    };
    json!({
        "key": setting.key, "value": settings.get(setting.key), "from": from, "file": file,
        "line": line, "variable": setting.variable(), "flag": setting.flag,
        "required": setting.unset == Unset::Required, "about": setting.about,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid_as_it_is_and_with_its_defaults() {
        // Goal: nobody starts from a file with mistakes in it.
        let path = Path::new("q.toml");
        let text = template();
        assert_eq!(Settings::of_file(path, &text), Ok(Settings::default()));
        let set: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") && !rest.contains("...") => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let settings = Settings::of_file(path, &set).expect("defaults are values");
        let with_default = |setting: &&Setting| matches!(setting.unset, Unset::Value(_));
        let count = SETTINGS.iter().filter(with_default).count();
        let given = SETTINGS.iter().filter(|setting| is_given(&settings, setting)).count();
        assert_eq!(given, count);
    }

    #[test]
    fn every_value_is_shown_with_its_origin() {
        // Goal: nobody has to guess which layer won.
        let settings = Settings::of_file(Path::new("q.toml"), "[server]\nnode = \"n1\"\n")
            .expect("a file")
            .with_flags([("server.threads", "2".to_owned())]);
        let text = table(&settings, true).tabbed();
        for line in [
            "server.node\tn1\tfile q.toml:2",
            "server.data\t(missing)\tnowhere",
            "server.threads\t2\tflag --threads",
            "log.filter\tinfo\tdefault",
            "log.format\t(text if stdout is a terminal, otherwise json)\tdefault",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.lines().count(), SETTINGS.len() + 1);
        let json = setting_json(&settings, &SETTINGS[1]);
        assert_eq!((&json["from"], &json["line"]), (&json!("file"), &json!(2)));
        assert_eq!(
            valid_words(Path::new("q.toml"), &settings),
            "q.toml is valid and sets 2 of 20 settings; to be given elsewhere: --cluster, --data"
        );
    }
}
