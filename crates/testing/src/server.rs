//! The server: one node, in a thread and a runtime of its own, so that it depends on nothing in the test.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::FutureExt;
use quorate_client::Client;
use quorate_log::SimDisk;
use quorate_paxos::Timing;
use quorate_replica::Stop;
use quorate_server::{BootClock, Node, NodeParts, Profile, Tuning};
use quorate_store::Twin;
use quorate_topology::{TableClass, Topology};
use quorate_types::{ClusterId, Code, Error, NodeId};
use tokio::sync::oneshot;

use crate::cluster_file::Layout;
use crate::faults::Faults;

/// Ports may be taken between finding and binding them: so often others are tried.
const PORT_ATTEMPTS: usize = 20;
/// Between two looks whether all groups have a leader.
const LOOK: Duration = Duration::from_millis(1);

/// Makes a [`Server`]. Made by [`Server::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct Builder {
    layout: Layout,
}

impl Builder {
    /// A table of class `unit`: its rows belong to users. Without any table there is one called `rows`.
    pub fn table(self, name: &str) -> Builder {
        self.table_of(name, TableClass::Unit)
    }

    /// A table of class `home`: its rows belong to nobody.
    pub fn home_table(self, name: &str) -> Builder {
        self.table_of(name, TableClass::Home)
    }

    /// A table of class `global`: its rows belong to nobody.
    pub fn global_table(self, name: &str) -> Builder {
        self.table_of(name, TableClass::Global)
    }

    fn table_of(mut self, name: &str, class: TableClass) -> Builder {
        self.layout.tables.push((name.to_owned(), class));
        self
    }

    /// A unit and the slices it owns, such as `unit("RZ00", "00-49")`. All units together own the slices
    /// `00` to `99`; the slice of a user is the UID modulo 100. Without any unit there are two,
    /// `RZ00` with `00-49` and `RZ01` with `50-99`.
    pub fn unit(mut self, name: &str, slices: &str) -> Builder {
        self.layout.units.push((name.to_owned(), slices.to_owned()));
        self
    }

    /// Starts the server; returns when it serves.
    ///
    /// # Errors
    /// `CONFIG_INVALID` if tables or units contradict each other, `PORT_IN_USE` if no port is free.
    pub async fn start(mut self) -> Result<Server, Error> {
        if self.layout.tables.is_empty() {
            self.layout.tables.push(("rows".to_owned(), TableClass::Unit));
        }
        if self.layout.units.is_empty() {
            let units = [("RZ00", "00-49"), ("RZ01", "50-99")];
            self.layout.units = units.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        }
        let cluster = ClusterId(rand::random());
        let mut attempts = 1;
        loop {
            let text = self.layout.text(cluster, free_ports()?);
            let seat = Seat {
                topology: Arc::new(Topology::parse_named("the server of a test", &text)?),
                disk: SimDisk::new(),
                twin: Twin::new(),
                faults: Faults::default(),
            };
            match Running::start(&seat).await {
                Ok(running) => return Ok(Server { seat, running: Some(running) }),
                Err(error) if error.code == Code::PortInUse && attempts < PORT_ATTEMPTS => {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What outlives a restart.
#[derive(Clone)]
struct Seat {
    topology: Arc<Topology>,
    disk: SimDisk,
    twin: Twin,
    faults: Faults,
}

/// A server in memory. Ends when it is dropped, and with it all it knew.
pub struct Server {
    seat: Seat,
    running: Option<Running>,
}

impl Server {
    /// Starts to make a server.
    pub fn builder() -> Builder {
        Builder { layout: Layout { tables: Vec::new(), units: Vec::new() } }
    }

    /// Starts one with a table `rows` and two units.
    ///
    /// # Errors
    /// `PORT_IN_USE` if no port is free.
    pub async fn start() -> Result<Server, Error> {
        Server::builder().start().await
    }

    /// Where it is reached, for [`Client::builder`] and for clients in other languages.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let node = self.seat.topology.nodes().next();
        node.expect("the cluster has one node").client.clone()
    }

    /// A client of it, with the default options.
    ///
    /// # Errors
    /// See [`quorate_client::Builder::build`].
    pub async fn client(&self) -> Result<Client, quorate_client::Error> {
        self.client_builder().build().await
    }

    /// A client of it, with options still to be set. The time for one attempt is 200 ms, so that a lost
    /// answer does not cost a test a second.
    pub fn client_builder(&self) -> quorate_client::Builder {
        Client::builder(self.endpoint()).attempt_timeout(Duration::from_millis(200))
    }

    /// The cluster file it runs with.
    #[must_use]
    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.seat.topology)
    }

    /// Faults to order.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.seat.faults
    }

    /// Cuts its power and starts it again under the same address: what was acknowledged is still there,
    /// what was under way may be or not. Returns when it serves.
    ///
    /// # Errors
    /// `PORT_IN_USE` if somebody took its port meanwhile; it does not run then, and this may be tried again.
    pub async fn restart(&mut self) -> Result<(), Error> {
        if let Some(running) = self.running.take() {
            running.end().await;
            self.seat.twin.crash(rand::random());
            self.seat.disk.crash(rand::random());
        }
        self.running = Some(Running::start(&self.seat).await?);
        Ok(())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("endpoint", &self.endpoint()).finish_non_exhaustive()
    }
}

/// A node that runs.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl Running {
    async fn start(seat: &Seat) -> Result<Running, Error> {
        let seat = seat.clone();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("quorate-testing".to_owned())
            .spawn(move || {
                run(seat, stopped, tell);
                let _nobody_waits = over.send(()).is_err();
            })
            .map_err(|error| internal(format!("no thread: {error}")))?;
        let running = Running { stop: Some(stop), thread: Some(thread), ended: Some(ended) };
        let started = told.await;
        started
            .unwrap_or_else(|_| Err(internal("the server ended while it started".to_owned())))?;
        Ok(running)
    }

    /// Ends it and waits for that, without blocking the runtime of the test.
    async fn end(mut self) {
        drop(self.stop.take());
        if let Some(ended) = self.ended.take() {
            let _thread_is_gone = ended.await.is_err();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed; the test sees that nobody answers.
            let _panicked = thread.join().is_err();
        }
    }
}

/// The life of a node, in its thread.
fn run(seat: Seat, stopped: oneshot::Receiver<()>, tell: oneshot::Sender<Result<(), Error>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _gone = tell.send(Err(internal(format!("no runtime: {error}")))).is_err();
            return;
        }
    };
    runtime.block_on(async {
        let spawn_log = |log_loop| {
            // Nothing in memory blocks; the task ends with the runtime.
            let _log = tokio::spawn(log_loop);
        };
        let node = match Node::open(parts(seat), spawn_log) {
            Ok(node) => node,
            Err(error) => {
                let _gone = tell.send(Err(error)).is_err();
                return;
            }
        };
        let context = node.context();
        let stopped = stopped.map(drop).shared();
        let serving = async {
            while !leads_everything(&context).await {
                tokio::time::sleep(LOOK).await;
            }
            let _gone = tell.send(Ok(())).is_err();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = node.run(stopped) => if let Err(error) = ended { panic!("the server ended: {error}") },
            () = serving => {}
        }
    });
}

async fn leads_everything(context: &quorate_server::context::NodeContext) -> bool {
    let Ok(status) = context.shard.status().await else { return false };
    let count = context.topology.groups().count();
    let serves = |group: &&quorate_replica::GroupStatus| group.core.serving;
    status.groups.iter().filter(serves).count() == count
}

fn parts(seat: Seat) -> NodeParts {
    let Seat { topology, disk, twin, faults } = seat;
    // Nobody else could lead: there is nothing to wait for before an election.
    let jitter = Duration::from_millis(1);
    let timing = Timing { jitter, ..Timing::lan().read_index() };
    NodeParts {
        topology,
        node: NodeId(1),
        profile: Profile::Small,
        tuning: Tuning { timing: Some(timing), ..Tuning::default() },
        disk: disk.mount(),
        engine: Arc::new(twin),
        clock: Arc::new(BootClock),
        random: rand::random(),
        links: Some(Arc::new(faults)),
        far_links: None,
        stop: Stop::new(|error| panic!("the server stops itself: {error}")),
        repaired: None,
        security: None,
    }
}

fn free_ports() -> Result<[u16; 3], Error> {
    let mut ports = [0; 3];
    let mut held = Vec::new(); // Until all are found, so that they differ.
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0");
        let none = |error: std::io::Error| Error::new(Code::PortInUse, format!("no port: {error}"));
        let listener = listener.map_err(none)?;
        *port = listener.local_addr().map_err(none)?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn internal(message: String) -> Error {
    Error::new(Code::Internal, message)
}
