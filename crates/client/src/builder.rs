//! Making a client: endpoints, options, the first contact.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_topology::Topology;
use quorate_types::{ClusterId, Code, limits};

use crate::client::{Client, Inner};
use crate::connection::{self, Pool};
use crate::endpoints::parse_endpoints;
use crate::error::{Error, Outcome, Trail, show};
use crate::policy::RetryPolicy;
use crate::trace::{Hook, TraceContext};

/// The shortest time between two questions for a sign of life.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);

/// What a client was told to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) in_flight_max: usize,
    pub(crate) in_flight_bytes_max: usize,
    /// Who knows the context of traces.
    pub(crate) trace: Option<Hook>,
    /// The IDC or city this process runs in.
    pub(crate) near: Option<String>,
    /// Who we are and whom we trust; `None` speaks plain text.
    #[cfg(not(madsim))]
    pub(crate) tls: Option<quorate_tls::Tls>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cluster: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(1),
            keep_alive: Duration::from_secs(2),
            retry: RetryPolicy::default(),
            in_flight_max: limits::STREAM_IN_FLIGHT_MAX,
            in_flight_bytes_max: 32 * 1024 * 1024,
            trace: None,
            near: None,
            #[cfg(not(madsim))]
            tls: None,
        }
    }
}

impl Options {
    /// Refuses what makes no client.
    fn check(&self) -> Result<(), Error> {
        let times = [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("attempt_timeout", self.attempt_timeout),
        ];
        for (option, time) in times {
            if time.is_zero() {
                return Err(refused(option, format!("{option} is 0")));
            }
        }
        if self.keep_alive < KEEP_ALIVE_MIN {
            let (given, least) = (show(self.keep_alive), show(KEEP_ALIVE_MIN));
            return Err(refused("keep_alive", format!("keep_alive is {given}, at least {least}")));
        }
        within("max_in_flight", self.in_flight_max, 1, limits::STREAM_IN_FLIGHT_MAX)?;
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        let bytes = self.in_flight_bytes_max;
        within("max_in_flight_bytes", bytes, limits::WIRE_FRAME_BYTES_MAX, most)?;
        if self.near.as_deref() == Some("") {
            return Err(refused("near", "near names no city or IDC".to_owned()));
        }
        self.retry.mistake().map_or(Ok(()), |(option, message)| Err(refused(option, message)))
    }
}

fn within(option: &'static str, given: usize, least: usize, most: usize) -> Result<(), Error> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(refused(option, format!("{option} is {given}, between {least} and {most} are possible")))
}

fn refused(option: &'static str, message: String) -> Error {
    let error = quorate_types::Error::new(Code::InvalidRequest, message);
    Error::local(error.with("option", option))
}

/// Makes a [`Client`]. Made by [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    endpoints: String,
    options: Options,
}

impl Builder {
    pub(crate) fn new(endpoints: String) -> Builder {
        Builder { endpoints, options: Options::default() }
    }

    /// Refuses any other cluster. Without it the client takes the cluster of the first node that
    /// answers, and from then on no other.
    pub fn cluster_id(mut self, cluster: ClusterId) -> Builder {
        self.options.cluster = Some(cluster);
        self
    }

    /// Speaks TLS, as the client of this certificate, to nodes of its cluster and to nobody else.
    /// Without it the client speaks plain text, which only servers started with `--insecure` take in.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use quorate_client::{Client, Paths, Tls};
    ///
    /// let tls = Tls::open(Paths::of_client("certs".as_ref(), &"shop".parse()?))?;
    /// let builder = Client::builder("h1:6440,h2:6440").tls(tls);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(not(madsim))]
    pub fn tls(mut self, tls: quorate_tls::Tls) -> Builder {
        if self.options.cluster.is_none() {
            self.options.cluster = Some(tls.identity().cluster);
        }
        self.options.tls = Some(tls);
        self
    }

    /// How long one connection attempt may take. Default 3 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long a call may take, retries included. Default 5 s; [`Client::with_timeout`] changes it
    /// for some calls.
    pub fn request_timeout(mut self, timeout: Duration) -> Builder {
        self.options.request_timeout = timeout;
        self
    }

    /// How long to wait for an answer before the same request, under the same id, is tried at
    /// another node. Default 1 s. A node that hangs costs a call this long.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Builder {
        self.options.attempt_timeout = timeout;
        self
    }

    /// How often a connection on which nothing comes in is asked for a sign of life; if none comes for as
    /// long again, it is given up, and what was under way on it is tried elsewhere. Default 2 s, at least
    /// 100 ms.
    pub fn keep_alive(mut self, interval: Duration) -> Builder {
        self.options.keep_alive = interval;
        self
    }

    /// How often calls are tried, and how much all of them may repeat. What may be repeated at all does not
    /// depend on it.
    pub fn retry(mut self, policy: RetryPolicy) -> Builder {
        self.options.retry = policy;
        self
    }

    /// Sends the context of the caller's trace along with requests.
    pub fn trace_context(mut self, context: impl TraceContext) -> Builder {
        self.options.trace = Some(Hook(Arc::new(context)));
        self
    }

    /// Most requests in flight to one node; further ones wait. Default and maximum 4,096, at least 1.
    pub fn max_in_flight(mut self, requests: usize) -> Builder {
        self.options.in_flight_max = requests;
        self
    }

    /// Most bytes of requests in flight to one node; further ones wait. Default 32 MiB, at least 2 MiB so
    /// that the largest request fits, at most 4 GiB - 1.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Builder {
        self.options.in_flight_bytes_max = bytes;
        self
    }

    /// Where this process runs: the name of an IDC or of a city in the cluster file. Reads that replicas
    /// may answer ([`Client::with_reads`]) go to one there, if the group has one there.
    pub fn near(mut self, place: impl Into<String>) -> Builder {
        self.options.near = Some(place.into());
        self
    }

    /// Connects to any of the endpoints and fetches the topology.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if the endpoints cannot be understood or an option makes no sense, which the fact
    /// `option` names; `UNREACHABLE` with the reason of each endpoint if none answers within the request timeout, `CLUSTER_MISMATCH` if one belongs to another
    /// cluster and none to the right one. `UNAUTHENTICATED`, `CERTIFICATE_INVALID` and `TLS_MISMATCH`
    /// say whose certificate is wrong, or which side speaks no TLS.
    pub async fn build(self) -> Result<Client, Error> {
        let Builder { endpoints, options } = self;
        let endpoints = parse_endpoints(&endpoints).map_err(|it| refused("endpoints", it))?;
        options.check()?;
        let budget = options.request_timeout;
        let searched = tokio::time::timeout(budget, first_topology(&endpoints, &options)).await;
        let topology = match searched {
            Ok(found) => found?,
            Err(_) => {
                let message = format!("no endpoint answered within {}", show(budget));
                let error = quorate_types::Error::new(Code::Unreachable, message);
                return Err(not_built(error, endpoints));
            }
        };
        if let Some(place) = &options.near {
            let is_known = topology.cities().iter().any(|city| city.name == *place)
                || topology.idcs().iter().any(|idc| idc.name == *place);
            if !is_known {
                let message = format!("the cluster file has no city or IDC {place:?}");
                let error = quorate_types::Error::new(Code::InvalidRequest, message);
                return Err(not_built(error.with("place", place), endpoints));
            }
        }
        let mut options = options;
        options.cluster = Some(topology.cluster_id());
        Ok(Client::new(Inner::new(options, topology, endpoints)))
    }
}

/// Asks all endpoints at once and takes the first good answer.
async fn first_topology(endpoints: &[String], options: &Options) -> Result<Arc<Topology>, Error> {
    let (pool, cluster) = (&Pool::new(options), options.cluster);
    let ask = |endpoint| async move {
        let answer = connection::fetch_topology(pool, endpoint, 0, cluster).await;
        (endpoint, answer)
    };
    let addresses = endpoints.iter().map(String::as_str);
    let mut answers: FuturesUnordered<_> = addresses.map(ask).collect();
    let mut failures: Vec<(&str, quorate_types::Error)> = Vec::new();
    while let Some((endpoint, answer)) = answers.next().await {
        match answer {
            Ok(Some(topology)) => return Ok(topology),
            Ok(None) => {
                let message = "the node sent no cluster file";
                failures.push((endpoint, quorate_types::Error::new(Code::Internal, message)));
            }
            Err(error) => failures.push((endpoint, error)),
        }
    }
    failures.sort_by_key(|(endpoint, _)| endpoints.iter().position(|known| known == *endpoint));
    // What an operator must know first: a wrong cluster rather than a node that is down.
    let weight = |error: &quorate_types::Error| match error.code {
        Code::ClusterMismatch => 0,
        Code::Unreachable => 2,
        _ => 1,
    };
    let worst = failures.iter().min_by_key(|(_, error)| weight(error));
    let code = worst.map_or(Code::Unreachable, |(_, error)| error.code);
    let facts = worst.map(|(_, error)| error.facts.clone()).unwrap_or_default();
    let reasons: Vec<String> =
        failures.iter().map(|(endpoint, error)| format!("{endpoint}: {}", error.message)).collect();
    let message = format!("no endpoint is usable: {}", reasons.join("; "));
    let mut error = quorate_types::Error::new(code, message);
    error.facts = facts;
    Err(not_built(error, endpoints.to_vec()))
}

fn not_built(error: quorate_types::Error, endpoints: Vec<String>) -> Error {
    let mut trail = Trail { phase: Some(crate::error::Phase::Connect), ..Trail::default() };
    for endpoint in &endpoints {
        trail.attempt(endpoint);
    }
    Error::new(error, Outcome::NotApplied, trail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_that_make_no_sense_are_refused_by_name() {
        // Goal: a mistake in the setup is told at once, with the option, and never bent into something else.
        let new = || Builder::new("127.0.0.1:1".to_owned());
        let no_time = Duration::ZERO;
        let wrong = [
            (new().connect_timeout(no_time), "connect_timeout"),
            (new().request_timeout(no_time), "request_timeout"),
            (new().attempt_timeout(no_time), "attempt_timeout"),
            (new().keep_alive(Duration::from_millis(99)), "keep_alive"),
            (new().max_in_flight(0), "max_in_flight"),
            (new().max_in_flight(limits::STREAM_IN_FLIGHT_MAX + 1), "max_in_flight"),
            (new().max_in_flight_bytes(limits::WIRE_FRAME_BYTES_MAX - 1), "max_in_flight_bytes"),
            (new().near(""), "near"),
            (new().retry(RetryPolicy::default().attempts(0)), "retry.attempts"),
            (Builder::new("h1:x".to_owned()), "endpoints"),
        ];
        for (builder, option) in wrong {
            let error = builder.build().await.unwrap_err();
            assert_eq!(error.code(), Code::InvalidRequest, "{error}");
            assert_eq!(error.facts().get("option").map(String::as_str), Some(option), "{error}");
            assert!(error.has_no_side_effects());
        }
        assert_eq!(Options::default().check(), Ok(()));
    }
}
