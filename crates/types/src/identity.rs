//! Who somebody is, as a certificate says it.
//!
//! A certificate carries one name of the form `quorate://CLUSTER/node/3` or
//! `quorate://CLUSTER/client/shop`, as a URI among its alternative names. The cluster is part of it, so
//! that no certificate of one cluster means anything in another, whoever signed it.

use std::fmt;
use std::str::FromStr;

use crate::ids::{ClusterId, NodeId};

/// What a URI of ours begins with.
const SCHEME: &str = "quorate://";

/// A member of a cluster, or one of its clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Who it is there.
    pub who: Who,
}

/// Who somebody is within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The authority that signs the certificates of the cluster.
    Authority,
    /// A node, numbered in the cluster file.
    Node(NodeId),
    /// A client. Its rights stand with the servers, under this name.
    Client(ClientName),
}

/// The name of a client: 1 to 64 letters, digits, dots, dashes and underscores, the first no dot and no
/// dash. It is part of file names and of log lines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(String);

impl ClientName {
    /// Most characters.
    pub const LENGTH_MAX: usize = 64;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<ClientName, String> {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_first = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = text.len() <= ClientName::LENGTH_MAX && text.starts_with(is_first);
        if fits && text.chars().all(is_inner) {
            return Ok(ClientName(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no name of a client; write 1 to {} letters, digits, dots, dashes and \
             underscores, the first no dot and no dash",
            ClientName::LENGTH_MAX
        ))
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Who {
    /// `authority`, `node n3`, `client shop`: for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Authority => f.write_str("authority"),
            Who::Node(node) => write!(f, "node {node}"),
            Who::Client(name) => write!(f, "client {name}"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/", self.cluster)?;
        match &self.who {
            Who::Authority => f.write_str("authority"),
            Who::Node(node) => write!(f, "node/{}", node.0),
            Who::Client(name) => write!(f, "client/{name}"),
        }
    }
}

impl FromStr for Identity {
    type Err = String;

    /// Parses what `Display` writes.
    fn from_str(text: &str) -> Result<Identity, String> {
        let wrong =
            || format!("{text:?} is no identity; it looks like quorate://CLUSTER/client/shop");
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (cluster, who) = rest.split_once('/').ok_or_else(wrong)?;
        let cluster = cluster.parse()?;
        let who = match who.split_once('/') {
            None if who == "authority" => Who::Authority,
            Some(("node", number)) => match number.parse() {
                Ok(number) if number != 0 => Who::Node(NodeId(number)),
                Ok(_) | Err(_) => return Err(wrong()),
            },
            Some(("client", name)) => Who::Client(name.parse()?),
            Some(_) | None => return Err(wrong()),
        };
        Ok(Identity { cluster, who })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_text_and_back() {
        // Goal: what a certificate says is what its maker meant, and nothing else is understood.
        let cluster = ClusterId(0x6f1d);
        let shop = "shop-1.eu".parse().unwrap();
        for who in [Who::Authority, Who::Node(NodeId(3)), Who::Client(shop)] {
            let identity = Identity { cluster, who };
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        let cluster = cluster.to_string();
        for who in ["", "node", "node/", "node/0", "node/x", "client/", "client/a/b", "root/a"] {
            assert!(format!("quorate://{cluster}/{who}").parse::<Identity>().is_err(), "{who}");
        }
        for text in ["", "https://a/node/1", "quorate://1/node/1", "quorate:///client/a"] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_clients_are_safe_in_paths_and_logs() {
        // Goal: no name leaves its folder or breaks a line.
        let too_long = "a".repeat(65);
        for name in ["", ".", "..", "../a", "a/b", "-a", "a b", "a\nb", "é", too_long.as_str()] {
            assert!(name.parse::<ClientName>().is_err(), "{name:?}");
        }
        assert_eq!("_a.b-c".parse::<ClientName>().unwrap().as_str(), "_a.b-c");
    }
}
