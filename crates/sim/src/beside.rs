//! What runs beside registers and ledgers: money in rows, money in accounts, lists. Each has a worker on
//! every client machine, and says at the end what is wrong.

use std::time::Duration;

use quorate_client::Client;
use quorate_topology::Topology;

use crate::bank::Bank;
use crate::list_append::Lists;
use crate::money::Money;
use crate::options::Options;
use crate::places::Place;
use crate::serializability::Transactions;
use crate::trace::Trace;
use crate::workload::Ending;

/// The workloads. Clones share them.
#[derive(Clone)]
pub struct Beside {
    bank: Bank,
    money: Money,
    lists: Lists,
}

/// What they say at the end.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// Everything that is wrong.
    pub wrong: Vec<String>,
    /// Numbers to print.
    pub counts: Vec<(&'static str, u64)>,
    /// The transactions over lists, and the names of these.
    pub lists: (Transactions, Vec<String>),
}

impl Beside {
    /// Workloads in every group.
    #[must_use]
    pub fn new(topology: &Topology, places: &[Place], trace: &Trace) -> Beside {
        Beside {
            bank: Bank::new(places, trace.clone()),
            money: Money::new(topology, trace.clone()),
            lists: Lists::new(places, trace.clone()),
        }
    }

    /// Makes accounts with money in them. False if it has to be tried again.
    pub async fn open(&self, client: &Client) -> bool {
        self.bank.open(client).await.is_ok() && self.money.open(client).await
    }

    /// Runs the workers of client machine `number`; ends with the last of them. `clients` are two
    /// programs on that machine.
    pub async fn run(self, options: Options, number: u32, clients: [Client; 2], ending: Ending) {
        let Beside { bank, money, lists } = self;
        let (client, other) = (clients[0].clone(), clients[1].clone());
        let workers = [
            tokio::spawn(bank.run(options.clone(), number, client, ending.clone())),
            tokio::spawn(lists.run(options.clone(), number, other, ending.clone())),
            tokio::spawn(money.run(options, number, clients, ending)),
        ];
        for worker in workers {
            worker.await.unwrap_or_else(|error| panic!("a worker ended: {error}"));
        }
    }

    /// After the faults: everything can be used again, and nothing is wrong.
    pub async fn close(&self, client: &Client, patience: Duration) -> Closed {
        let books = self.bank.close(client, patience).await;
        let settled = self.money.close(client, patience).await;
        let judged = self.lists.close(client, patience).await;
        let mut wrong = books.wrong;
        wrong.extend(settled.wrong);
        wrong.extend(judged.wrong);
        let counts = vec![
            ("paid", books.paid),
            ("audits", books.audits),
            ("looks", books.glances),
            ("moved", settled.created),
            ("moved-again", settled.again),
            ("move-refused", settled.refused),
            ("listed", judged.transactions.committed()),
        ];
        Closed { wrong, counts, lists: (judged.transactions, judged.names) }
    }
}
