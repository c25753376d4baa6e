//! The way to a node as a connector of gRPC channels.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use quorate_types::{Code, Error};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::ends::{FirstWord, Stream, Tls};
use crate::judge::Expected;

/// Connects to nodes. Looks before each call whether there are new certificates.
#[derive(Clone, Debug)]
pub struct Dial {
    tls: Tls,
    expected: Expected,
}

impl Dial {
    /// Connects as this party, to whom is expected.
    #[must_use]
    pub fn new(tls: Tls, expected: Expected) -> Dial {
        Dial { tls, expected }
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Stream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Dial { tls, expected } = self.clone();
        Box::pin(async move {
            // Files of no use leave the old ones in use; the other side judges those.
            let _still_the_old = tls.refresh().is_err();
            let address = uri.authority().map(ToString::to_string).unwrap_or_default();
            let unreachable = |error: std::io::Error| {
                let reason = error.to_string().to_lowercase();
                Error::new(Code::Unreachable, format!("cannot connect to {address}: {reason}"))
            };
            let connection = TcpStream::connect(&address).await.map_err(unreachable)?;
            connection.set_nodelay(true).map_err(unreachable)?;
            let calling = tls.connect(connection, &address, expected, FirstWord::Server);
            Ok(TokioIo::new(calling.await?))
        })
    }
}
