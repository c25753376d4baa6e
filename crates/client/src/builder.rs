//! Making a client: endpoints, options, the first contact.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_topology::Topology;
use quorate_types::{ClusterId, Code, limits};

use crate::client::{Client, Inner};
use crate::connection::{self, Pool};
use crate::error::{Error, Outcome, Trail, show};

/// The port of an endpoint that names none.
const PORT_DEFAULT: u16 = 6440;
/// Most endpoints; further ones are refused.
const ENDPOINTS_MAX: usize = 64;

/// What a client was told to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) in_flight_bytes_max: usize,
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
            in_flight_max: limits::STREAM_IN_FLIGHT_MAX,
            in_flight_bytes_max: 32 * 1024 * 1024,
            near: None,
            #[cfg(not(madsim))]
            tls: None,
        }
    }
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

    /// Most requests in flight to one node; further ones wait. Default and maximum 4,096.
    pub fn max_in_flight(mut self, requests: usize) -> Builder {
        self.options.in_flight_max = requests.clamp(1, limits::STREAM_IN_FLIGHT_MAX);
        self
    }

    /// Most bytes of requests in flight to one node; further ones wait. Default 32 MiB, at least
    /// 2 MiB so that the largest request fits.
    pub fn max_in_flight_bytes(mut self, bytes: usize) -> Builder {
        let most = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        self.options.in_flight_bytes_max = bytes.clamp(limits::WIRE_FRAME_BYTES_MAX, most);
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
    /// `INVALID_REQUEST` if the endpoints cannot be understood, `UNREACHABLE` with the reason of each
    /// if none answers within the request timeout, `CLUSTER_MISMATCH` if one belongs to another
    /// cluster and none to the right one. `UNAUTHENTICATED`, `CERTIFICATE_INVALID` and `TLS_MISMATCH`
    /// say whose certificate is wrong, or which side speaks no TLS.
    pub async fn build(self) -> Result<Client, Error> {
        let Builder { endpoints, options } = self;
        let endpoints = parse_endpoints(&endpoints).map_err(|reason| {
            Error::local(quorate_types::Error::new(Code::InvalidRequest, reason))
        })?;
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

/// Splits `quorate://h1:6440,h2/` into `host:port` each.
fn parse_endpoints(text: &str) -> Result<Vec<String>, String> {
    let rest = text.trim();
    let rest = rest.strip_prefix("quorate://").unwrap_or(rest);
    if let Some((scheme, _)) = rest.split_once("://") {
        return Err(format!(
            "endpoints start with \"quorate://\" or with a host, not \"{scheme}://\""
        ));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let mut endpoints: Vec<String> = Vec::new();
    for part in rest.split(',').map(str::trim) {
        let endpoint = parse_endpoint(part)?;
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    if ENDPOINTS_MAX < endpoints.len() {
        return Err(format!("{} endpoints are given, at most {ENDPOINTS_MAX}", endpoints.len()));
    }
    Ok(endpoints)
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let malformed = |reason: &str| Err(format!("endpoint {text:?} {reason}; write host:port"));
    if text.is_empty() {
        return malformed("is empty");
    }
    if text.contains(|c: char| c.is_whitespace() || "/?#@".contains(c)) {
        return malformed("holds characters that no host has");
    }
    let bracketed_without_port = text.starts_with('[') && text.ends_with(']');
    match text.rsplit_once(':') {
        Some((host, port)) if !bracketed_without_port => {
            if host.is_empty() {
                return malformed("has no host");
            }
            if host.contains(':') && !host.starts_with('[') {
                return malformed("is an IPv6 address without brackets");
            }
            match port.parse::<u16>() {
                Ok(port) if 0 < port => Ok(format!("{host}:{port}")),
                Ok(_) | Err(_) => malformed("has no valid port"),
            }
        }
        Some(_) | None => Ok(format!("{text}:{PORT_DEFAULT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        // Goal: what people type is understood, what makes no sense is refused by name.
        let good = [
            ("quorate://h1:6440,h2:6450", vec!["h1:6440", "h2:6450"]),
            ("h1:6440, h2", vec!["h1:6440", "h2:6440"]),
            ("quorate://10.0.0.1/", vec!["10.0.0.1:6440"]),
            ("[::1]:7000,[::1]", vec!["[::1]:7000", "[::1]:6440"]),
            ("h1:1,h1:1", vec!["h1:1"]),
        ];
        for (text, want) in good {
            assert_eq!(parse_endpoints(text).unwrap(), want, "{text}");
        }
        for text in ["", "h1,,h2", "http://h1:1", "h1:0", "h1:x", ":1", "::1:2", "a b:1", "u@h:1"] {
            assert!(parse_endpoints(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_of_the_builder_hold() {
        // Goal: no setting makes a client that cannot send its largest request.
        let builder = Builder::new(String::new()).max_in_flight(0).max_in_flight_bytes(0);
        assert_eq!(builder.options.in_flight_max, 1);
        assert_eq!(builder.options.in_flight_bytes_max, limits::WIRE_FRAME_BYTES_MAX);
        let builder = Builder::new(String::new()).max_in_flight(usize::MAX);
        assert_eq!(builder.options.in_flight_max, limits::STREAM_IN_FLIGHT_MAX);
    }
}
