//! The tree of commands and the flags they share. What clap finds wrong becomes a coded error here.

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::bench;
use crate::certificates::TlsArgs;
use crate::commands;
use crate::demo;
use crate::exit::Failure;
use crate::output::Format;

const HELP: &str = "\
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 condition or version does not hold, 5 outcome
unknown, 6 unreachable, 7 denied, 10 unhealthy, 130 interrupted. `quorate error CODE` explains an
error.";

/// Quorate, a Paxos-replicated unit database.
#[derive(Parser)]
#[command(name = "quorate", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The flags of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Nodes to ask, separated by commas; any node of the cluster will do [default: 127.0.0.1:6440]
    #[arg(long, global = true, env = "QUORATE_ENDPOINTS", value_name = "HOST:PORT,...")]
    pub(crate) endpoints: Option<String>,
    /// How long one request may take, retries included
    #[arg(
        long,
        global = true,
        default_value = "5s",
        value_name = "TIME",
        value_parser = crate::args::duration
    )]
    pub(crate) timeout: Duration,
    /// What stdout holds: a table for people, or one JSON document
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// No colours; the variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

impl Global {
    /// Nodes to ask.
    pub(crate) fn endpoints(&self) -> &str {
        self.endpoints.as_deref().unwrap_or("127.0.0.1:6440")
    }

    /// Whether nodes were named.
    pub(crate) fn has_endpoints(&self) -> bool {
        self.endpoints.is_some()
    }
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run one node of a cluster
    Server(Box<commands::server::ServerArgs>),
    /// Run a whole cluster on this machine to try things out
    Demo(demo::DemoArgs),
    /// Make, check or show the configuration of a server
    Config(commands::config::ConfigArgs),
    /// Make, check or show a cluster file
    Topology(commands::topology::TopologyArgs),
    /// Prepare the machines of a cluster, and compare what its nodes run with
    Cluster(commands::cluster::ClusterArgs),
    /// Say whether the cluster is healthy and what may still be lost
    Status(commands::status::StatusArgs),
    /// Look for what is wrong or about to be, and say what to do
    Check(commands::check::CheckArgs),
    /// Collect what somebody needs who looks into a problem
    Debug(commands::debug::DebugArgs),
    /// Say where the rows of a user live
    Route(commands::route::RouteArgs),
    /// Read and write rows
    Kv(commands::kv::KvArgs),
    /// Create accounts and look after them
    Account(commands::account::AccountArgs),
    /// Move money between accounts
    Transfer(commands::transfer::TransferArgs),
    /// Add up the accounts of all units: do the books balance?
    Audit(commands::audit::AuditArgs),
    /// Write the rows of a CSV file
    Import(commands::import::ImportArgs),
    /// Write a table to a CSV file
    Export(commands::export::ExportArgs),
    /// Back all units up as of one moment, and restore them as a new cluster
    Backup(commands::backup::BackupArgs),
    /// Look after groups: who takes part, who leads
    Group(commands::group::GroupArgs),
    /// Say what may be lost, and since when: the loss ledger of the groups
    Ledger(commands::ledger::LedgerArgs),
    /// Take nodes out of use, and put others in their place
    Node(commands::node::NodeArgs),
    /// Look at transactions over several groups
    Txn(commands::txn::TxnArgs),
    /// Measure how fast a cluster is, and what an operation costs
    Bench(bench::BenchArgs),
    /// Run simulated clusters under faults: many seeds, one again, planted bugs
    Sim(commands::sim::SimArgs),
    /// Write alert rules or a dashboard for the tools around a cluster
    Generate(commands::generate::GenerateArgs),
    /// Make, renew and show certificates
    Cert(commands::cert::CertArgs),
    /// Explain an error code, or list all
    Error(commands::error::ErrorArgs),
    /// Print the version
    Version,
}

/// What the command line asks for.
pub(crate) enum Parsed {
    /// A command.
    Run(Box<Cli>),
    /// Help or the version.
    Text(String),
    /// Nothing that makes sense.
    Mistake(Failure, Format),
}

/// Parses a command line; the first argument is the name of the program.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Parsed {
    let args: Vec<OsString> = args.into_iter().collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => Parsed::Run(Box::new(cli)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Parsed::Text(error.render().to_string())
            }
            _ => Parsed::Mistake(mistake(&error, &args), format_of(&args)),
        },
    }
}

/// The format asked for in a command line that cannot be parsed.
fn format_of(args: &[OsString]) -> Format {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let together = ["-ojson", "-o=json", "--format=json"];
    let apart = |pair: &[&str]| ["-o", "--format"].contains(&pair[0]) && pair[1] == "json";
    if args.iter().any(|arg| together.contains(arg)) || args.windows(2).any(apart) {
        Format::Json
    } else {
        Format::Table
    }
}

/// What clap says, as code, message and fix.
fn mistake(error: &clap::Error, args: &[OsString]) -> Failure {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let usage = text.lines().find(|line| line.starts_with("Usage: ")).unwrap_or_default();
        return Failure::usage(
            format!("a command is missing; {}", usage.to_lowercase().trim()),
            "choose one; --help lists them",
        );
    }
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let message = first.lines().map(str::trim).collect::<Vec<&str>>().join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message).trim().to_owned();
    let rest: Vec<&str> = paragraphs.collect();
    let tips: Vec<&str> = rest
        .iter()
        .flat_map(|paragraph| paragraph.lines())
        .filter_map(|line| line.trim().strip_prefix("tip: "))
        .collect();
    let usage = rest.iter().find_map(|paragraph| paragraph.trim().strip_prefix("Usage: "));
    let fix = match (tips.as_slice(), usage) {
        ([], _) if error.kind() == ErrorKind::InvalidSubcommand => commands_there(args),
        ([], Some(usage)) => format!("usage: {}; --help says more", usage.trim()),
        ([], None) => "--help says what is expected".to_owned(),
        (tips, _) => tips.join("; "),
    };
    Failure::usage(message, fix)
}

/// The commands that could have stood where an unknown one stands.
fn commands_there(args: &[OsString]) -> String {
    let mut here = Cli::command();
    for arg in args.iter().filter_map(|arg| arg.to_str()) {
        if let Some(next) = here.find_subcommand(arg) {
            here = next.clone();
        }
    }
    let names: Vec<&str> = here.get_subcommands().map(clap::Command::get_name).collect();
    format!("use one of: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn parsed(line: &str) -> Parsed {
        parse(std::iter::once("quorate").chain(line.split_whitespace()).map(OsString::from))
    }

    fn failure(line: &str) -> String {
        match parsed(line) {
            Parsed::Mistake(failure, _) => {
                assert_eq!(failure.exit(), Exit::Usage);
                failure.to_string()
            }
            Parsed::Run(_) | Parsed::Text(_) => panic!("no mistake: {line}"),
        }
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_are_coded_and_say_what_would_be_right() {
        let cases = [
            ("route explain --uid abc", "\"abc\" is no UID; a UID is a whole number from 0 to"),
            ("kv get k --table t --uid -5", "\"-5\" is no UID"),
            ("kv get", "the following required arguments were not provided: --table <TABLE> <KEY>"),
            ("kv gte k", "use one of: get, get-many, put, del, cas, scan, txn"),
            ("stauts", "similar subcommands exist: 'audit', 'status'"),
            ("status --timeout 5", "\"5\" is no time span; write a number with ms, s, m or h"),
            ("status --tiemout 5s", "similar argument exists: '--timeout'"),
            ("status -o yaml", "[possible values: table, json]"),
            ("", "a command is missing"),
            ("kv", "a command is missing"),
            ("account show 42", "\"42\" is no account; write uid:ledger or uid:ledger:code"),
            ("transfer show x --uid 1", "\"x\" is no transfer id; write 1 to 32 hexadecimal"),
            ("transfer post a --uid 1 --amount 0", "0 is not in 1.."),
            ("group transfer-leader x", "\"x\" is no group; write its number or label"),
            ("group pin 1", "the following required arguments were not provided: <NODE>"),
            ("group pin 1 n1 --none", "cannot be used with"),
            ("group replace 1 n1", "--by <NODE>"),
            ("group unsafe-recover 1 --dry-run --confirm RZ00/g1", "cannot be used with"),
            ("ledger show g1", "\"g1\" is no entry; write it as the list shows it: g2@1234"),
            ("node drain n1 --undo --dry-run", "cannot be used with"),
            ("import f.csv --table t --uid-column u --concurrency 0", "0 is not in 1..=4096"),
        ];
        for (line, part) in cases {
            let text = failure(line);
            assert!(text.starts_with("error[INVALID_REQUEST]: "), "{line}: {text}");
            assert!(text.contains("\nfix: "), "{line}: {text}");
            assert!(text.contains(part), "{line}: {text}");
        }
    }

    #[test]
    fn global_flags_stand_anywhere() {
        for line in ["-o json --endpoints h:1 status", "status --endpoints h:1 -o json"] {
            match parsed(line) {
                Parsed::Run(cli) => {
                    assert_eq!(cli.global.endpoints(), "h:1");
                    assert_eq!(cli.global.format, Format::Json);
                    assert_eq!(cli.global.timeout, Duration::from_secs(5));
                }
                Parsed::Text(_) | Parsed::Mistake(..) => panic!("not parsed: {line}"),
            }
        }
    }

    #[test]
    fn mistakes_keep_to_the_format_asked_for() {
        for line in ["nonsense -o json", "nonsense -ojson", "nonsense --format=json"] {
            assert!(matches!(parsed(line), Parsed::Mistake(_, Format::Json)), "{line}");
        }
        assert!(matches!(parsed("nonsense"), Parsed::Mistake(_, Format::Table)));
    }

    #[test]
    fn help_and_version_are_no_mistakes() {
        assert!(matches!(parsed("--help"), Parsed::Text(text) if text.contains("Exit codes")));
        assert!(matches!(parsed("--version"), Parsed::Text(text) if text.starts_with("quorate ")));
    }
}
