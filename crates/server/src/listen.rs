//! Binding an address and serving it. Real sockets are bound first, so that a port in use is a coded
//! error; the simulation has no way to hand a bound socket over.

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_types::{Code, Error};
use tonic::transport::server::Router;

use crate::context::NodeContext;

/// Parses an address of the cluster file. Names are resolved by the real network only.
pub(crate) fn parse(address: &str) -> Result<SocketAddr, Error> {
    use std::net::ToSocketAddrs;
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
    resolved.ok_or_else(|| {
        Error::new(
            Code::ConfigInvalid,
            format!("address {address:?} of the cluster file does not resolve"),
        )
    })
}

/// Whom a port takes in: everybody, unless the node has certificates.
pub(crate) struct Port {
    #[cfg(not(madsim))]
    guard: Option<crate::secured::Guard>,
}

impl Port {
    /// Nodes and clients.
    pub(crate) fn of_clients(context: &Arc<NodeContext>) -> Port {
        #[cfg(not(madsim))]
        return Port::guarded(context, quorate_tls::Admitted::Members);
        #[cfg(madsim)]
        Port::open(context)
    }

    /// Nodes.
    pub(crate) fn of_peers(context: &Arc<NodeContext>) -> Port {
        #[cfg(not(madsim))]
        return Port::guarded(context, quorate_tls::Admitted::Nodes);
        #[cfg(madsim)]
        Port::open(context)
    }

    #[cfg(not(madsim))]
    fn guarded(context: &Arc<NodeContext>, admitted: quorate_tls::Admitted) -> Port {
        let first_word = quorate_tls::FirstWord::Server;
        let guard = context.tls.clone().map(|tls| crate::secured::Guard {
            context: Arc::clone(context),
            tls,
            admitted,
            first_word,
        });
        Port { guard }
    }

    #[cfg(madsim)]
    fn open(_context: &Arc<NodeContext>) -> Port {
        Port {}
    }
}

/// A bound address.
pub(crate) struct Listener {
    #[cfg(not(madsim))]
    incoming: tonic::transport::server::TcpIncoming,
    #[cfg(madsim)]
    address: SocketAddr,
}

impl Listener {
    /// Binds.
    #[cfg(not(madsim))]
    pub(crate) fn bind(address: &str) -> Result<Listener, Error> {
        let socket = parse(address)?;
        let incoming = tonic::transport::server::TcpIncoming::bind(socket)
            .map_err(|error| bind_error(address, &error))?
            .with_nodelay(Some(true));
        Ok(Listener { incoming })
    }

    /// Remembers the address; it is bound when served.
    #[cfg(madsim)]
    pub(crate) fn bind(address: &str) -> Result<Listener, Error> {
        Ok(Listener { address: parse(address)? })
    }

    /// Serves until `shutdown`.
    pub(crate) async fn serve(
        self,
        router: Router,
        port: Port,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Error> {
        #[cfg(not(madsim))]
        let served = match port.guard {
            None => router.serve_with_incoming_shutdown(self.incoming, shutdown).await,
            Some(guard) => {
                let secured = crate::secured::connections(guard.secure(self.incoming));
                router.serve_with_incoming_shutdown(secured, shutdown).await
            }
        };
        #[cfg(madsim)]
        let served = {
            let Port {} = port;
            router.serve_with_shutdown(self.address, shutdown).await
        };
        served.map_err(|error| Error::new(Code::Internal, format!("serving stopped: {error}")))
    }
}

/// Why an address cannot be bound.
#[cfg(not(madsim))]
pub(crate) fn bind_error(address: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::new(Code::PortInUse, format!("{address} is in use by another process"))
                .with("address", address)
        }
        _ => Error::new(Code::ConfigInvalid, format!("{address} cannot be bound: {error}"))
            .with("address", address),
    }
}
