//! The way into a demo that runs: a socket in its folder. Whoever connects writes one line of words, such as
//! `kill n3`, and gets one line of JSON back once it is done.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_client::Topology;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::verbs::Verb;
use crate::output::Output;

/// The socket in the folder of a demo.
const SOCKET: &str = "control.sock";
/// Most bytes of a line.
const LINE_BYTES_MAX: u64 = 4 * 1024;
/// Orders that wait for their turn.
const ORDERS_MAX: usize = 16;
/// How long whoever connects may take to write its line.
const LINE_LIMIT: Duration = Duration::from_secs(10);

/// What somebody wants done.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) verb: Verb,
    done: oneshot::Sender<Result<Vec<String>, String>>,
}

impl Order {
    /// Says what came of it, in lines, or why nothing did.
    pub(super) fn answer(self, result: Result<Vec<String>, String>) {
        let _nobody_waits = self.done.send(result).is_err();
    }
}

/// The orders, one after the other.
#[derive(Debug)]
pub(super) struct Orders(mpsc::Receiver<Order>);

impl Orders {
    /// The next one; never, if nobody can give any.
    pub(super) async fn next(&mut self) -> Order {
        match self.0.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}

/// What is written back.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Whether it was done.
    pub(super) done: bool,
    /// What came of it, or why it was not done.
    pub(super) lines: Vec<String>,
}

/// The socket, until dropped.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    task: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens in a folder. Without a socket, which a system may refuse, the demo runs all the same.
    pub(super) fn listen(folder: &Path, topology: &Topology, out: &Output) -> (Control, Orders) {
        let path = socket_of(folder);
        let (send, receive) = mpsc::channel(ORDERS_MAX);
        let _left_by_a_demo_that_was_killed = fs::remove_file(&path);
        let task = match UnixListener::bind(&path) {
            Ok(listener) => Some(tokio::spawn(accept(listener, Arc::new(topology.clone()), send))),
            Err(error) => {
                let path = path.display();
                out.warn(format_args!("no `demo exec`: {path} cannot be listened on: {error}"));
                None
            }
        };
        (Control { path, task }, Orders(receive))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
            let _gone_with_its_folder = fs::remove_file(&self.path);
        }
    }
}

/// The socket of a demo that has this folder.
pub(super) fn socket_of(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

async fn accept(listener: UnixListener, topology: Arc<Topology>, orders: mpsc::Sender<Order>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (topology, orders) = (Arc::clone(&topology), orders.clone());
        tokio::spawn(async move {
            let served = tokio::time::timeout(LINE_LIMIT, read_line(stream)).await;
            if let Ok(Ok((line, mut stream))) = served {
                let answer = carry_out(&line, &topology, &orders).await;
                let text = serde_json::to_string(&answer).unwrap_or_default() + "\n";
                // Whoever asked may have left.
                let _written = stream.write_all(text.as_bytes()).await.is_ok();
            }
        });
    }
}

async fn read_line(stream: UnixStream) -> std::io::Result<(String, UnixStream)> {
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    Ok((line, reader.into_inner()))
}

async fn carry_out(line: &str, topology: &Topology, orders: &mpsc::Sender<Order>) -> Answer {
    let refused = |reason: String| Answer { done: false, lines: vec![reason] };
    let words: Vec<&str> = line.split_whitespace().collect();
    let verb = match Verb::parse(&words, topology) {
        Ok(verb) => verb,
        Err(reason) => return refused(reason),
    };
    let (done, result) = oneshot::channel();
    if orders.send(Order { verb, done }).await.is_err() {
        return refused("the demo is ending".to_owned());
    }
    match result.await {
        Ok(Ok(lines)) => Answer { done: true, lines },
        Ok(Err(reason)) => refused(reason),
        Err(_) => refused("the demo ended before it was done".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::super::exec;
    use super::*;
    use crate::output::Format;

    #[tokio::test]
    async fn an_order_reaches_the_demo_and_its_answer_comes_back() {
        // Goal: what is typed is carried out as typed, a mistake reaches nobody, and the socket goes with
        // the demo.
        let folder = tempfile::tempdir().unwrap();
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let out = Output::new(Format::Table, true);
        let (control, mut orders) = Control::listen(folder.path(), &topology, &out);
        let demo = tokio::spawn(async move {
            let order = orders.next().await;
            let seen = order.verb.clone();
            order.answer(Ok(vec!["done".to_owned()]));
            seen
        });
        let socket = socket_of(folder.path());
        let refused = exec::ask(&socket, "kil n3").await.unwrap();
        assert!(!refused.done && refused.lines[0].contains("did you mean"), "{refused:?}");
        let answer = exec::ask(&socket, "heal sh-a sh-b").await.unwrap();
        assert_eq!(answer, Answer { done: true, lines: vec!["done".to_owned()] });
        let places = ("sh-a".to_owned(), "sh-b".to_owned());
        assert_eq!(demo.await.unwrap(), Verb::Heal(Some(places)));
        let ended = exec::ask(&socket, "status").await.unwrap();
        assert!(!ended.done, "{ended:?}");
        drop(control);
        assert!(!socket.exists());
    }
}
