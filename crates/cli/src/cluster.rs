//! The cluster as commands see it: the client with the global flags applied, and its errors as
//! failures. The only file that turns errors of the client into words.

use std::sync::Arc;
use std::time::Duration;

use quorate_client::{Client, Outcome};
use quorate_topology::{Table, TableClass, Topology};
use quorate_types::{Code, Error, Uid};

use crate::cli::Global;
use crate::exit::{Exit, Failure};

/// The longest that one connection attempt may take.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3);

/// A cluster that has answered.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    client: Client,
    topology: Arc<Topology>,
}

impl Cluster {
    /// Connects to any of the endpoints and fetches the topology.
    ///
    /// # Errors
    /// `UNREACHABLE` with the reason of each endpoint.
    pub(crate) async fn open(global: &Global) -> Result<Cluster, Failure> {
        Cluster::open_near(global, None).await
    }

    /// The same, from a place of the cluster: an IDC or a city.
    ///
    /// # Errors
    /// Also `INVALID_REQUEST` if the cluster file does not know the place.
    pub(crate) async fn open_near(
        global: &Global,
        place: Option<&str>,
    ) -> Result<Cluster, Failure> {
        let mut builder = Client::builder(global.endpoints())
            .connect_timeout(global.timeout.min(CONNECT_TIMEOUT_MAX))
            .request_timeout(global.timeout);
        if let Some(tls) = global.tls.open()? {
            builder = builder.tls(tls);
        }
        if let Some(place) = place {
            builder = builder.near(place);
        }
        let client = Box::pin(builder.build()).await.map_err(|error| {
            let endpoints = global.endpoints();
            match error.code() {
                Code::InvalidRequest if error.facts().contains_key("place") => failure(&error)
                    .with_fix("name a city or an IDC of the cluster file, or leave out --near"),
                Code::InvalidRequest => failure(&error).with_fix(
                    "write --endpoints host:port,host:port, or set QUORATE_ENDPOINTS to that",
                ),
                Code::Unreachable | Code::DeadlineExceeded => failure(&error).with_fix(format!(
                    "check that a server runs at {endpoints}, or name others with --endpoints or \
                     QUORATE_ENDPOINTS"
                )),
                _ => failure(&error),
            }
        })?;
        let topology = client.topology();
        Ok(Cluster { client, topology })
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The topology as it was when the cluster first answered.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The table a user named.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE` with the nearest name.
    pub(crate) fn table(&self, name: &str) -> Result<&Table, Failure> {
        table_of(&self.topology, name)
    }

    /// Gives back what the cluster keeps for this client.
    pub(crate) async fn close(&self) {
        Box::pin(self.client.close()).await;
    }
}

/// The table a user named.
///
/// # Errors
/// `UNKNOWN_TABLE` with the nearest name, or all there are.
pub(crate) fn table_of<'t>(topology: &'t Topology, name: &str) -> Result<&'t Table, Failure> {
    topology.require_table(name).map_err(|error| {
        let known: Vec<&str> = topology.tables().map(|table| table.name.as_str()).collect();
        Failure::from(error).with_fix(format!("use a table of the cluster: {}", known.join(", ")))
    })
}

/// The UID under which a row of the table lives: the one given, or 0 where rows belong to no user.
///
/// # Errors
/// `INVALID_REQUEST` if the table wants a UID and none is given, or the other way round.
pub(crate) fn user_of(table: &Table, uid: Option<Uid>) -> Result<Uid, Failure> {
    match (table.class, uid) {
        (TableClass::Unit, Some(uid)) => Ok(uid),
        (TableClass::Unit, None) => Err(Failure::usage(
            format!("table {} has class unit: its rows belong to users", table.name),
            "say which user with --uid",
        )),
        (TableClass::Home | TableClass::Global, None | Some(Uid(0))) => Ok(Uid(0)),
        (TableClass::Home | TableClass::Global, Some(uid)) => Err(Failure::usage(
            format!(
                "table {} has class {}: its rows belong to no user, but UID {uid} is given",
                table.name, table.class
            ),
            "leave out --uid",
        )),
    }
}

/// What the client knows about a failed call, as a failure: never a bare deadline.
pub(crate) fn failure(error: &quorate_client::Error) -> Failure {
    let mut told = error.as_error().clone();
    told.message = message(error);
    let is_unknown = error.outcome() == Outcome::Unknown;
    let failure = Failure::from(told);
    if is_unknown {
        return failure
            .with_exit(Exit::OutcomeUnknown)
            .with_fix("read the rows to see whether it took effect before you repeat the command");
    }
    match error.code() {
        Code::DeadlineExceeded => failure.with_fix(
            "`quorate status` shows which nodes and groups serve; --timeout allows more time",
        ),
        _ => failure,
    }
}

/// The coded error of a client's error, with everything in its message.
pub(crate) fn coded(error: &quorate_client::Error) -> Error {
    let mut told = error.as_error().clone();
    told.message = message(error);
    told
}

fn message(error: &quorate_client::Error) -> String {
    let mut text = error.message().to_owned();
    if 0 < error.attempts() && !error.endpoints().is_empty() {
        let plural = if error.attempts() == 1 { "" } else { "s" };
        let at = error.endpoints().join(", ");
        text.push_str(&format!(" ({} attempt{plural} at {at}", error.attempts()));
        if let Some(phase) = error.phase() {
            text.push_str(&format!(", phase {phase}"));
        }
        text.push(')');
    }
    if let Some(last) = error.last_answer() {
        text.push_str(&format!("; last answer: {}: {}", last.code, last.message));
    }
    if error.outcome() == Outcome::Unknown {
        text.push_str("; it may have taken effect");
    }
    text
}

#[cfg(test)]
mod tests {
    use quorate_topology::presets::{Options, one_city_three_idcs};
    use quorate_types::ClusterId;

    use super::*;

    #[test]
    fn tables_and_uids_are_checked_before_anything_is_sent() {
        let text = one_city_three_idcs(&Options::demo(ClusterId(7)));
        let topology = Topology::parse(&text).unwrap();
        let failure = table_of(&topology, "purchase").unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
        assert_eq!(
            failure.to_string(),
            "error[UNKNOWN_TABLE]: no table has the name \"purchase\"; did you mean \
             \"purchases\"?\nfix: use a table of the cluster: purchases, load, profiles, rates"
        );
        let unit = table_of(&topology, "purchases").unwrap();
        let global = table_of(&topology, "rates").unwrap();
        assert_eq!(user_of(unit, Some(Uid(7))), Ok(Uid(7)));
        assert_eq!(user_of(global, None), Ok(Uid(0)));
        assert_eq!(user_of(unit, None).unwrap_err().exit(), Exit::Usage);
        assert_eq!(user_of(global, Some(Uid(7))).unwrap_err().exit(), Exit::Usage);
    }
}
