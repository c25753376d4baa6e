//! `quorate demo exec`: tells a demo that runs what to do.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_types::Code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::control::{Answer, socket_of};
use crate::exit::{Exit, Failure};
use crate::local::folder::{known_folders, tag_path};
use crate::output::{Document, Output};

/// Most bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Tells a demo that runs what to do, and waits until it is done.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Verbs: kill WHAT, stop WHAT, restart [WHAT], partition A B [--one-way], heal [A B], \
                        delay A B 30ms, status. WHAT is a node, an IDC, a city, all, leader:UNIT, \
                        idc-of:UNIT or city-of:UNIT; A and B are places."
)]
pub(crate) struct ExecArgs {
    /// The folder of the demo; without it the one demo that runs here
    #[arg(long, value_name = "DIR", conflicts_with = "tag")]
    dir: Option<PathBuf>,
    /// The tag of the demo
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// What to do, such as: kill n3
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "VERB"
    )]
    words: Vec<String>,
}

/// Runs `quorate demo exec`.
pub(super) async fn run(args: &ExecArgs, out: &Output) -> Result<(), Failure> {
    let socket = match (&args.dir, &args.tag) {
        (Some(dir), _) => socket_of(dir),
        (None, Some(tag)) => socket_of(&tag_path("demo", tag)),
        (None, None) => the_only_one().await?,
    };
    let answer = ask(&socket, &args.words.join(" ")).await.map_err(|error| {
        let message = format!("no demo answers at {}: {error}", socket.display());
        Failure::new(Code::Unreachable, message)
            .with_fix("start one with `quorate demo`, or name its folder with --dir or its --tag")
    })?;
    if !answer.done {
        let fix =
            "`quorate demo exec --help` lists the verbs, `quorate demo exec status` the places";
        return Err(Failure::usage(answer.lines.join("; "), fix));
    }
    for line in &answer.lines {
        out.say(line);
    }
    let item = serde_json::json!({ "lines": answer.lines });
    out.document(&Document::new("demo-exec").item(item));
    Ok(())
}

/// The socket of the demo that runs here, if it is one.
async fn the_only_one() -> Result<PathBuf, Failure> {
    let mut found = Vec::new();
    for folder in known_folders("demo") {
        let socket = socket_of(&folder);
        // One that was killed leaves its socket behind, and nobody answers there.
        if UnixStream::connect(&socket).await.is_ok() {
            found.push(folder);
        }
    }
    match found.as_slice() {
        [folder] => Ok(socket_of(folder)),
        [] => Err(Failure::new(Code::Unreachable, "no demo runs here")
            .with_fix("start one with `quorate demo`, or name its folder with --dir")),
        several => {
            let folders: Vec<String> = several.iter().map(|it| it.display().to_string()).collect();
            let message = format!("several demos run here: {}", folders.join(", "));
            Err(Failure::new(Code::InvalidRequest, message)
                .with_exit(Exit::Usage)
                .with_fix("name the folder of one with --dir"))
        }
    }
}

/// Asks a demo, and waits for its answer.
pub(super) async fn ask(socket: &Path, line: &str) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
    serde_json::from_str(&text).map_err(|error| {
        let reason = if text.is_empty() { "it ended".to_owned() } else { error.to_string() };
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}
