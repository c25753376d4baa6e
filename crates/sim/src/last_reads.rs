//! After the faults: does every group serve again, do its replicas agree, is everything there?
//!
//! Every replica is made leader once and read: reads are answered by leaders only, and each of them must
//! have what was acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_client::{Client, GroupStatus, NodeStatus, Value};
use quorate_types::{GroupId, NodeId};
use tokio::time::Instant;

use crate::acknowledged::Ledger;
use crate::history::{Action, KeyId, Outcome};
use crate::options::Options;
use crate::places::Place;
use crate::settle::{Settled, compare, settle};
use crate::trace::Trace;
use crate::workload::{Recorder, append, register};

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The deadline of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Processes of this phase have numbers from here on.
const PROCESS: u32 = 1_000;
/// Numbers of rows written by this phase start here.
const ROWS: u64 = 1_000_000_000;

/// Who looks: a client on a machine of its own.
pub struct LastReads {
    client: Client,
    recorder: Recorder,
    recovery_max: Duration,
    agreement_max: Duration,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The ledgers, as the last leader read them.
    pub ledgers: BTreeMap<KeyId, Ledger>,
    /// How long it took until every group took a write.
    pub recovery: Duration,
    /// How long it took from then until all replicas held the same.
    pub agreement: Duration,
    /// The members of all groups.
    pub settled: Settled,
    /// Replicas that were read as leaders.
    pub replicas_read: u64,
    /// Windows with a single copy in the ledgers.
    pub windows: u64,
    /// What is wrong.
    pub wrong: Vec<String>,
}

impl Found {
    /// What of it is printed.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); 6] {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        [
            ("recovery-ms", ms(self.recovery)),
            ("agreement-ms", ms(self.agreement)),
            ("settling-ms", ms(self.settled.took)),
            ("helped", self.settled.helped),
            ("replicas-read", self.replicas_read),
            ("single-copy", self.windows),
        ]
    }
}

impl LastReads {
    /// Looks through `client`.
    #[must_use]
    pub fn new(client: &Client, recorder: Recorder, options: &Options) -> LastReads {
        LastReads {
            client: client.with_timeout(CALL_TIMEOUT),
            recorder,
            recovery_max: options.recovery_max,
            agreement_max: options.agreement_max,
        }
    }

    /// Waits until every group took a write. Says what is wrong with those that did not.
    pub async fn recovered(&self, places: &[Place], found: &mut Found) {
        let started = Instant::now();
        for place in places.iter().filter(|place| place.is_ledger) {
            let process = PROCESS + place.group.0;
            let mut row = ROWS * u64::from(process);
            loop {
                row += 1;
                let written = append(&self.recorder, process, &self.client, place, row).await;
                if matches!(written, Outcome::Applied(_)) {
                    break;
                }
                if self.recovery_max < started.elapsed() {
                    let state = self.describe(place.group, &found.settled).await;
                    let limit = self.recovery_max;
                    found
                        .wrong
                        .push(format!("{} took no write within {limit:?}: {state}", place.group));
                    break;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        found.recovery = started.elapsed();
    }

    /// Waits until the members of every group are settled.
    pub async fn settled(&self, options: &Options, trace: &Trace, found: &mut Found) {
        found.settled = settle(&self.client, options, trace).await;
        found.wrong.append(&mut found.settled.wrong);
    }

    /// Waits until all replicas of every group have applied the same, and has their voters compare it.
    pub async fn agreed(&self, options: &Options, found: &mut Found) {
        self.applied(found).await;
        if found.wrong.is_empty() {
            found.wrong = compare(&self.client, options, &found.settled).await;
        }
    }

    async fn applied(&self, found: &mut Found) {
        let started = Instant::now();
        loop {
            let groups = self.groups(&found.settled).await;
            let apart: Vec<GroupId> = groups
                .iter()
                .filter(|(_, replicas)| !agree(replicas))
                .map(|(group, _)| *group)
                .collect();
            if apart.is_empty() && !groups.is_empty() {
                found.agreement = started.elapsed();
                return;
            }
            if self.agreement_max < started.elapsed() {
                for group in apart {
                    let state = self.describe(group, &found.settled).await;
                    found.wrong.push(format!("replicas of {group} do not agree: {state}"));
                }
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads everything with every node as leader in turn.
    pub async fn read_every_replica(&self, places: &[Place], found: &mut Found) {
        let topology = self.client.topology();
        for node in topology.nodes() {
            for place in places.iter().filter(|place| place.is_ledger) {
                if !found.settled.may_lead(place.group, node.id) {
                    continue;
                }
                if self.lead(place.group, node.id).await {
                    found.replicas_read += 1;
                } else {
                    let state = self.describe(place.group, &found.settled).await;
                    let group = place.group;
                    found.wrong.push(format!("{} did not take over {group}: {state}", node.id));
                }
            }
            for place in places {
                self.read(node.id, place, found).await;
            }
        }
    }

    async fn read(&self, node: NodeId, place: &Place, found: &mut Found) {
        if !place.is_ledger {
            let process = PROCESS + 500 + node.0;
            let read =
                register(&self.recorder, process, &self.client, place, Action::Read, 0).await;
            if !matches!(read, Outcome::Applied(_)) {
                found.wrong.push(format!("{place:?} cannot be read at the end: {read:?}"));
            }
            return;
        }
        let ledger = match self.ledger(place).await {
            Ok(ledger) => ledger,
            Err(error) => {
                found.wrong.push(format!("{place:?} cannot be read at the end: {error}"));
                return;
            }
        };
        if let Some(other) = found.ledgers.insert(place.id, ledger.clone()) {
            // What a client gave up waiting for may still arrive, from a link that held it back.
            let open = self.recorder.open_rows(place.id);
            let new: Vec<_> = ledger.rows.difference(&other.rows).copied().collect();
            let missing: Vec<_> = other.rows.difference(&ledger.rows).copied().collect();
            let grew = ledger.count - other.count == new.len() as i64;
            if !missing.is_empty() || !grew || new.iter().any(|row| !open.contains(row)) {
                found.wrong.push(format!(
                    "{place:?}: under {node} the counter is {}, before it was {}; new rows {new:?}, \
                     missing rows {missing:?}",
                    ledger.count, other.count
                ));
            }
        }
    }

    /// Counter and rows, as of one moment: what arrives late must not fall between them.
    async fn ledger(&self, place: &Place) -> Result<Ledger, quorate_client::Error> {
        let Place { table, uid, .. } = place;
        let mut before = self.counter(place).await?;
        loop {
            let rows = self.client.scan(table, *uid).prefix("row/").collect_all().await?;
            let count = self.counter(place).await?;
            if count == before {
                let number = |key: &[u8]| Place::row_number(key).unwrap_or(u64::MAX);
                return Ok(Ledger {
                    count,
                    rows: rows.iter().map(|row| number(&row.key)).collect(),
                });
            }
            before = count;
        }
    }

    async fn counter(&self, place: &Place) -> Result<i64, quorate_client::Error> {
        let Place { table, uid, key, .. } = place;
        Ok(match self.client.get(table, *uid, key.clone()).await? {
            None => 0,
            Some(Value::Integer(count)) => count,
            Some(Value::Bytes(_)) => i64::MIN,
        })
    }

    /// Makes a node lead a group. False if it does not within the limit.
    async fn lead(&self, group: GroupId, node: NodeId) -> bool {
        let started = Instant::now();
        while started.elapsed() < self.recovery_max {
            if self.leads(group, node).await {
                return true;
            }
            let _asked_again_if_it_failed = self.client.transfer_leader(group, Some(node)).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }

    async fn leads(&self, group: GroupId, node: NodeId) -> bool {
        let Some(address) = self.client.topology().node(node).map(|node| node.client.clone())
        else {
            return false;
        };
        let status = self.client.node_status(&address).await;
        status.is_ok_and(|status| status.groups.iter().any(|it| it.group == group && it.serving))
    }

    /// What every reachable replica says, by group. As long as nobody knows where a group is: all that have it.
    async fn groups(&self, settled: &Settled) -> BTreeMap<GroupId, Vec<Option<GroupStatus>>> {
        let mut groups: BTreeMap<GroupId, Vec<Option<GroupStatus>>> = BTreeMap::new();
        let statuses: Vec<Option<NodeStatus>> =
            self.client.cluster_status().await.into_iter().map(|it| it.status.ok()).collect();
        for group in self.client.topology().groups() {
            for (node, status) in self.client.topology().nodes().zip(&statuses) {
                let status = status.as_ref().and_then(|status| {
                    status.groups.iter().find(|it| it.group == group.id).cloned()
                });
                let is_known = settled.members.contains_key(&group.id);
                if settled.keeps_log(group.id, node.id) || (!is_known && status.is_some()) {
                    groups.entry(group.id).or_default().push(status);
                }
            }
        }
        groups
    }

    async fn describe(&self, group: GroupId, settled: &Settled) -> String {
        let groups = self.groups(settled).await;
        let replicas = groups.get(&group).map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<String> = replicas
            .iter()
            .map(|replica| match replica {
                None => "unreachable".to_owned(),
                Some(it) => describe(it),
            })
            .collect();
        texts.join("; ")
    }
}

fn describe(it: &GroupStatus) -> String {
    let (role, ballot, serving) = (it.role.word(), it.ballot, it.serving);
    let leader = it.leader.map(|leader| leader.0);
    let (accepted, synced) = (it.slot_accepted, it.slot_synced);
    let (committed, applied) = (it.slot_committed, it.slot_applied);
    let members: Vec<String> = it
        .members
        .iter()
        .map(|member| {
            let (node, synced) = (member.node, member.slot_synced);
            format!(
                "{node} synced {synced} heard {:?} ago, {} bytes in flight",
                member.heard_ago, member.in_flight_bytes
            )
        })
        .collect();
    format!(
        "{role} {ballot} leader {leader:?} serving {serving} accepted {accepted} synced {synced} \
         committed {committed} applied {applied} {members:?}"
    )
}

/// True if one replica serves and all have applied what it has.
fn agree(replicas: &[Option<GroupStatus>]) -> bool {
    let serving = replicas.iter().flatten().filter(|replica| replica.serving).count();
    let first = replicas.iter().flatten().next().map(|replica| replica.slot_applied);
    serving == 1 && replicas.iter().all(|it| it.as_ref().map(|it| it.slot_applied) == first)
}
