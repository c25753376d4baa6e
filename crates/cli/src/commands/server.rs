//! `quorate server`: runs one node until it is told to stop.
//!
//! What it is started with comes from flags, variables `QUORATE__SECTION__KEY` and a file; `config.rs` has the
//! table and the layers. Everything is read before there are threads, and nothing is read again.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use quorate_topology::{Node, Topology};
use quorate_types::{Code, Error, Link};

use crate::args;
use crate::certificates::FOLDER_VARIABLE;
use crate::config::{self, FILE_VARIABLE, Settings};
use crate::exit::Failure;
use crate::logging::{self, LogFormat};
use crate::node::{self, NodeOptions, Profile, Security};
use crate::signals::Interrupts;

/// Runs one node of a cluster. SIGTERM or SIGINT stops it in good order, a second one at once.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServerArgs {
    /// A TOML file with what no flag and no variable says; see `quorate config` [env: QUORATE__CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cluster file, the same for every node [env: QUORATE__SERVER__CLUSTER]
    #[arg(long, value_name = "FILE", value_parser = value_of("server.cluster"))]
    cluster: Option<String>,
    /// The name of this node in the cluster file [env: QUORATE__SERVER__NODE]
    #[arg(long, value_name = "NAME", value_parser = value_of("server.node"))]
    node: Option<String>,
    /// The data folder of this node; made if it does not exist [env: QUORATE__SERVER__DATA]
    #[arg(long, value_name = "DIR", value_parser = value_of("server.data"))]
    data: Option<String>,
    /// How much memory and disk the node may use: normal or small [env: QUORATE__SERVER__PROFILE] [default: normal]
    #[arg(long, value_name = "PROFILE", value_parser = value_of("server.profile"))]
    profile: Option<String>,
    /// Threads for requests and peers, beside the one that writes the log; one per core unless told
    /// [env: QUORATE__SERVER__THREADS]
    #[arg(long, value_name = "N", value_parser = value_of("server.threads"))]
    threads: Option<String>,
    /// Neither encrypt nor authenticate: everybody who reaches the ports may do everything
    /// [env: QUORATE__SERVER__INSECURE]
    #[arg(
        long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = value_of("server.insecure")
    )]
    insecure: Option<String>,
    /// How long to hand leaderships over when stopped [env: QUORATE__SERVER__LEAVE_TIMEOUT] [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = value_of("server.leave-timeout"))]
    leave_timeout: Option<String>,
    /// Memory for unanswered requests, such as 256MiB; by profile unless told
    /// [env: QUORATE__SERVER__REQUEST_BYTES_MAX]
    #[arg(long, value_name = "SIZE", value_parser = value_of("server.request-bytes-max"))]
    request_bytes_max: Option<String>,
    /// Let callers delay and cut the links of this node: for demos and tests only
    /// [env: QUORATE__SERVER__ALLOW_FAULTS]
    #[arg(
        long, value_name = "BOOLEAN", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = value_of("server.allow-faults")
    )]
    allow_faults: Option<String>,
    /// Delays and cuts between places that the node begins with, such as 'sh>hz=3ms,hz>sh=cut'
    /// [env: QUORATE__SERVER__LINKS]
    #[arg(long, value_name = "LINKS", value_parser = value_of("server.links"))]
    links: Option<String>,
    /// How large the log may grow, such as 16GiB; by profile unless told [env: QUORATE__STORAGE__LOG_BYTES_MAX]
    #[arg(long, value_name = "SIZE", value_parser = value_of("storage.log-bytes-max"))]
    log_bytes_max: Option<String>,
    /// How much log is kept for members that are behind, such as 2GiB; by profile unless told
    /// [env: QUORATE__STORAGE__LOG_KEEP_MAX]
    #[arg(long, value_name = "SIZE", value_parser = value_of("storage.log-keep-max"))]
    log_keep_max: Option<String>,
    /// How much a second flushes and compactions of the rows may write
    /// [env: QUORATE__STORAGE__COMPACTION_RATE_MAX] [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = value_of("storage.compaction-rate-max"))]
    compaction_rate_max: Option<String>,
    /// How much a second of its rows the node sends to backups and, usually half of it, to nodes that refill theirs
    /// [env: QUORATE__STORAGE__SNAPSHOT_RATE_MAX] [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = value_of("storage.snapshot-rate-max"))]
    snapshot_rate_max: Option<String>,
    /// How often the leader of a group has its replicas compare their rows, or never
    /// [env: QUORATE__STORAGE__CHECK_INTERVAL] [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = value_of("storage.check-interval"))]
    check_interval: Option<String>,
    /// Move damaged rows aside at the start and fetch others, instead of refusing to start
    /// [env: QUORATE__STORAGE__REPAIR_ROWS] [default: true]
    #[arg(long, value_name = "BOOLEAN", value_parser = value_of("storage.repair-rows"))]
    repair_rows: Option<String>,
    /// Fetch what a damaged log lacks from other nodes, instead of refusing to start
    /// [env: QUORATE__STORAGE__REPAIR_LOG] [default: true]
    #[arg(long, value_name = "BOOLEAN", value_parser = value_of("storage.repair-log"))]
    repair_log: Option<String>,
    /// How log lines on stderr look: json or text; json unless stdout is a terminal [env: QUORATE__LOG__FORMAT]
    #[arg(long, value_name = "FORMAT", value_parser = value_of("log.format"))]
    log_format: Option<String>,
    /// What is logged: a level, or levels by module [env: QUORATE__LOG__FILTER] [default: info]
    #[arg(long, value_name = "LEVELS", value_parser = value_of("log.filter"))]
    log_filter: Option<String>,
}

/// Checks a flag as the table says.
fn value_of(key: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync {
    move |text: &str| config::check(key, text)
}

impl ServerArgs {
    /// The values of all settings: of the file, the variables and these flags. The folder of certificates
    /// is a flag of every command, which has read its variable already.
    ///
    /// # Errors
    /// Every problem of the file, or the first of the variables.
    pub(crate) fn settings(
        &self,
        tls_dir: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, Failure> {
        let mut texts: Vec<(String, String)> = Vec::new();
        for (name, value) in variables {
            // A name that is no text is none of ours.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => texts.push((name, value)),
                Err(_) if name.starts_with("QUORATE") => {
                    let message = format!("the value of the variable {name} is no UTF-8 text");
                    return Err(Failure::usage(message, "set it to text, or unset it"));
                }
                Err(_) => {} // Somebody else's.
            }
        }
        let variables = texts;
        let of_variable = |wanted: &str| {
            variables.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str())
        };
        let path = self.config.clone().or_else(|| of_variable(FILE_VARIABLE).map(PathBuf::from));
        let below = match path {
            Some(path) => Settings::of_file(&path, &read_text(&path)?)?,
            None => Settings::default(),
        };
        let tls_dir = tls_dir.map(|dir| dir.display().to_string());
        let tls_dir = tls_dir.filter(|dir| of_variable(FOLDER_VARIABLE) != Some(dir));
        let flags = self.flags().chain(tls_dir.map(|dir| ("server.tls-dir", dir)));
        Ok(below.with_variables(variables.iter().cloned())?.with_flags(flags))
    }

    fn flags(&self) -> impl Iterator<Item = (&'static str, String)> {
        let given = [
            ("server.cluster", &self.cluster),
            ("server.node", &self.node),
            ("server.data", &self.data),
            ("server.profile", &self.profile),
            ("server.threads", &self.threads),
            ("server.insecure", &self.insecure),
            ("server.leave-timeout", &self.leave_timeout),
            ("server.request-bytes-max", &self.request_bytes_max),
            ("server.allow-faults", &self.allow_faults),
            ("server.links", &self.links),
            ("storage.log-bytes-max", &self.log_bytes_max),
            ("storage.log-keep-max", &self.log_keep_max),
            ("storage.compaction-rate-max", &self.compaction_rate_max),
            ("storage.snapshot-rate-max", &self.snapshot_rate_max),
            ("storage.check-interval", &self.check_interval),
            ("storage.repair-rows", &self.repair_rows),
            ("storage.repair-log", &self.repair_log),
            ("log.format", &self.log_format),
            ("log.filter", &self.log_filter),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)))
    }
}

/// What a server is started with.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    node: NodeOptions,
    log_format: Option<LogFormat>,
    log_filter: String,
    /// Threads for requests and peers; one per core if nobody says.
    pub(crate) threads: Option<NonZeroUsize>,
}

impl ServerConfig {
    /// The configuration that the settings describe.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if something that must be given is not, `CONFIG_INVALID` if nobody says who may talk
    /// to the node.
    pub(crate) fn of(settings: &Settings) -> Result<ServerConfig, Failure> {
        let number = |text: &str| text.parse::<NonZeroUsize>().map_err(|error| error.to_string());
        let profile = settings.typed("server.profile", |word| Profile::from_str(word, false))?;
        let node = NodeOptions {
            cluster_file: settings.required("server.cluster")?.into(),
            node: settings.required("server.node")?.to_owned(),
            data: settings.required("server.data")?.into(),
            profile: profile.unwrap_or_default(),
            log_bytes_max: settings.typed("storage.log-bytes-max", config::size)?,
            log_keep_max: settings.typed("storage.log-keep-max", config::size)?,
            compaction_rate_max: settings.typed("storage.compaction-rate-max", config::size)?,
            snapshot_rate_max: settings.typed("storage.snapshot-rate-max", config::size)?,
            check_interval: settings.typed("storage.check-interval", config::time_or_never)?,
            repair_rows: settings.get("storage.repair-rows") != Some("false"),
            repair_log: settings.get("storage.repair-log") != Some("false"),
            request_bytes_max: settings.typed("server.request-bytes-max", config::size)?,
            leave_timeout: settings.typed("server.leave-timeout", args::duration)?,
            security: security(settings)?,
            far_links: far_links(settings)?,
        };
        Ok(ServerConfig {
            node,
            log_format: settings.typed("log.format", |word| LogFormat::from_str(word, false))?,
            log_filter: settings.required("log.filter")?.to_owned(),
            threads: settings.typed("server.threads", number)?,
        })
    }
}

/// Runs `quorate server`.
pub(crate) async fn run(config: ServerConfig) -> Result<(), Failure> {
    let file = &config.node.cluster_file;
    let text = read_text(file)?;
    let topology = Topology::parse_named(&file.display().to_string(), &text)?;
    find_node(&topology, file, &config.node.node)?;

    logging::start(config.log_format.unwrap_or_else(LogFormat::default_here), &config.log_filter)?;
    for warning in topology.warnings() {
        tracing::warn!(file = %file.display(), line = warning.line, "{warning}");
    }
    let interrupts = Interrupts::listen()?;
    let shutdown = async move { interrupts.first().await };
    Box::pin(node::serve(config.node, shutdown)).await
}

/// The text of a file.
///
/// # Errors
/// If it cannot be read, or is none.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::new(Code::ConfigInvalid, format!("{} is no UTF-8 text", path.display())).with_fix(
            "name a TOML text; docs/OPERATIONS.md and docs/TOPOLOGY.md describe the files",
        )
    })
}

/// What the node does to its links at first, if faults are allowed.
fn far_links(settings: &Settings) -> Result<Option<Vec<Link>>, Failure> {
    let flag = |text: &str| text.parse::<bool>().map_err(|error| error.to_string());
    let allowed = settings.typed("server.allow-faults", flag)?.unwrap_or_default();
    let links = settings.typed("server.links", Link::parse_all)?;
    match (allowed, links) {
        (true, links) => Ok(Some(links.unwrap_or_default())),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            let origin = settings.origin("server.links");
            let message = format!("server.links ({origin}) is given without server.allow-faults");
            Err(Failure::from(Error::new(Code::FaultsNotAllowed, message)))
        }
    }
}

/// How the node tells its callers apart. Nobody gets an open door by leaving something out.
fn security(settings: &Settings) -> Result<Security, Failure> {
    let flag = |text: &str| text.parse::<bool>().map_err(|error| error.to_string());
    let insecure = settings.typed("server.insecure", flag)?.unwrap_or_default();
    match (insecure, settings.get("server.tls-dir")) {
        (false, Some(dir)) => Ok(Security::Tls { dir: dir.into() }),
        (true, None) => Ok(Security::Insecure),
        (false, None) => Err(Failure::new(
            Code::ConfigInvalid,
            "neither --tls-dir nor --insecure is given: who may talk to this node?",
        )
        .with_fix(
            "make certificates with `quorate cert create-ca` and `create-node` and start with \
             --tls-dir DIR, or on a machine or in a network that you trust with --insecure",
        )),
        (true, Some(_)) => Err(Failure::new(
            Code::ConfigInvalid,
            format!(
                "both server.tls-dir ({}) and server.insecure ({}) are given",
                settings.origin("server.tls-dir"),
                settings.origin("server.insecure")
            ),
        )
        .with_fix("give one of them")),
    }
}

/// The node of this name.
///
/// # Errors
/// `CONFIG_INVALID` with the nearest name.
pub(crate) fn find_node<'t>(
    topology: &'t Topology,
    file: &Path,
    name: &str,
) -> Result<&'t Node, Failure> {
    if let Some(node) = topology.node_by_name(name) {
        return Ok(node);
    }
    let known = topology.nodes().map(|node| node.name.as_str());
    let hint = args::did_you_mean(name, known.clone());
    let all: Vec<&str> = known.take(20).collect();
    let message = format!("{} has no node {name:?}; {hint}", file.display());
    Err(Failure::new(Code::ConfigInvalid, message)
        .with_fix(format!("start with --node and one of {}", all.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_node_that_is_not_in_the_file_is_named_with_its_nearest() {
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let file = Path::new("cluster.toml");
        assert_eq!(find_node(&topology, file, "n2").map(|node| node.id.0), Ok(2));
        assert_eq!(
            find_node(&topology, file, "sh-a").unwrap_err().to_string(),
            "error[CONFIG_INVALID]: cluster.toml has no node \"sh-a\"; known are: n1, n2, n3\n\
             fix: start with --node and one of n1, n2, n3"
        );
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn settings_become_what_a_node_is_started_with() {
        // Goal: what is said anywhere arrives in the node, typed.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("server.toml");
        let text = "[server]\ncluster = \"c.toml\"\nnode = \"n1\"\nprofile = \"small\"\n\
                    leave-timeout = \"2s\"\n[storage]\nlog-bytes-max = \"1GiB\"\n";
        std::fs::write(&path, text).expect("a file");
        let variables = pairs(&[
            ("QUORATE__CONFIG", &path.display().to_string()),
            ("QUORATE__SERVER__NODE", "n2"),
            ("QUORATE__SERVER__THREADS", "3"),
        ]);
        let args = ServerArgs { data: Some("here".to_owned()), ..ServerArgs::default() };
        let settings = args.settings(Some(Path::new("certs")), variables).expect("settings");
        let config = ServerConfig::of(&settings).expect("complete");
        assert_eq!(config.node.cluster_file, folder.path().join("c.toml"));
        assert_eq!((config.node.node.as_str(), config.node.data), ("n2", PathBuf::from("here")));
        assert_eq!(config.node.profile, Profile::Small);
        assert_eq!(config.node.security, Security::Tls { dir: "certs".into() });
        assert_eq!(config.node.log_bytes_max, Some(1024 * 1024 * 1024));
        assert_eq!(config.node.request_bytes_max, None);
        assert_eq!(config.node.leave_timeout, Some(Duration::from_secs(2)));
        assert_eq!((config.threads, config.log_format), (NonZeroUsize::new(3), None));
        assert_eq!(config.log_filter, "info");
    }

    #[test]
    fn every_setting_has_its_flag_and_the_flag_names_its_variable() {
        // Goal: the table, the flags and their help cannot drift apart.
        let mut all = Cli::command();
        all.build();
        let command = all.find_subcommand("server").expect("a command");
        for setting in config::SETTINGS {
            let flag = setting.flag.trim_start_matches("--");
            let variable = setting.variable();
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(flag)).expect(flag);
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let is_told = help.contains(&format!("[env: {variable}]"));
            assert!(is_told || arg.get_env() == Some(variable.as_ref()), "{flag} {variable}");
        }
        // `--config` is no setting, and `--tls-dir` is a flag of every command.
        let own = ServerArgs::augment_args(clap::Command::new("server"));
        assert_eq!(own.get_arguments().count(), config::SETTINGS.len());
    }

    #[test]
    fn a_node_without_a_name_is_not_started() {
        // Goal: what must be given is asked for by name.
        let args = ServerArgs { cluster: Some("c.toml".to_owned()), ..ServerArgs::default() };
        let settings = args.settings(None, []).expect("settings");
        let failure = ServerConfig::of(&settings).expect_err("no node");
        assert_eq!(failure.exit(), crate::exit::Exit::Usage);
        assert!(failure.to_string().contains("server.node is missing"), "{failure}");
    }

    #[test]
    fn a_door_is_open_only_on_purpose() {
        // Goal: no node serves without certificates unless it was told to, by whichever layer.
        let found = |args: ServerArgs, dir: Option<&str>, names: &[(&str, &str)]| {
            security(&args.settings(dir.map(Path::new), pairs(names)).expect("settings"))
        };
        let insecure = |text: &str| ServerArgs { insecure: Some(text.to_owned()), ..quiet() };
        let in_dir = || Ok(Security::Tls { dir: "certs".into() });
        assert_eq!(found(insecure("true"), None, &[]), Ok(Security::Insecure));
        assert_eq!(found(quiet(), Some("certs"), &[]), in_dir());
        assert_eq!(found(quiet(), Some("certs"), &[("QUORATE_TLS_DIR", "certs")]), in_dir());
        assert_eq!(found(insecure("false"), Some("certs"), &[]), in_dir());
        let by_variable = ("QUORATE__SERVER__INSECURE", "true");
        assert_eq!(found(quiet(), None, &[by_variable]), Ok(Security::Insecure));
        let failure = found(quiet(), None, &[]).unwrap_err().to_string();
        assert!(failure.starts_with("error[CONFIG_INVALID]: neither --tls-dir nor"), "{failure}");
        assert!(failure.contains("quorate cert create-ca"), "{failure}");
        let both = found(quiet(), Some("certs"), &[by_variable]).unwrap_err().to_string();
        assert!(
            both.contains("server.tls-dir (flag --tls-dir) and server.insecure (variable"),
            "{both}"
        );
    }

    fn quiet() -> ServerArgs {
        ServerArgs::default()
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_not_passed_over() {
        // Goal: a setting that somebody meant is taken or refused, never ignored; other programs may keep
        // what they like in theirs.
        use std::os::unix::ffi::OsStringExt;
        let odd = || OsString::from_vec(vec![0xff]);
        let of = |name: &str| ServerArgs::default().settings(None, [(OsString::from(name), odd())]);
        let refused = of("QUORATE__SERVER__DATA").expect_err("it is no text").to_string();
        assert!(refused.contains("QUORATE__SERVER__DATA"), "{refused}");
        assert!(of("LESSOPEN").is_ok());
    }
}
