//! Connections with certificates: each is taken in by a task of its own, so that a slow caller delays
//! nobody. Real processes only.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use quorate_tls::{Admitted, FirstWord, Tls};
use quorate_types::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tonic::transport::server::{Connected, TcpIncoming};
use tracing::debug;

use crate::access::Caller;
use crate::context::NodeContext;

/// A caller shows its certificate within this.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// Callers that may be doing so at the same time; further ones wait.
const HANDSHAKES_MAX: usize = 1_024;
/// Wait after the system could not take a connection in: mostly it lacks file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A connection whose caller is known.
pub(crate) struct Secured {
    stream: quorate_tls::Stream,
    /// Who calls.
    pub(crate) caller: Caller,
}

/// How a port takes callers in.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) context: Arc<NodeContext>,
    pub(crate) tls: Tls,
    pub(crate) admitted: Admitted,
    pub(crate) first_word: FirstWord,
}

impl Guard {
    /// Takes callers in until the receiver is dropped.
    pub(crate) fn secure(self, mut incoming: TcpIncoming) -> mpsc::Receiver<Secured> {
        let (send, receive) = mpsc::channel(16);
        let room = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        tokio::spawn(async move {
            loop {
                let permit = Arc::clone(&room).acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                let accepted = tokio::select! {
                    biased;
                    () = send.closed() => return,
                    accepted = incoming.next() => accepted,
                };
                match accepted {
                    Some(Ok(connection)) => {
                        let (guard, send) = (self.clone(), send.clone());
                        tokio::spawn(async move {
                            // A node that stops lets go of its folder at once.
                            let secured = tokio::select! {
                                biased;
                                () = guard.context.stopped() => None,
                                secured = guard.take_in(connection) => secured,
                            };
                            drop(permit);
                            if let Some(secured) = secured {
                                let _port_closed = send.send(secured).await.is_err();
                            }
                        });
                    }
                    Some(Err(error)) => {
                        debug!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    None => return,
                }
            }
        });
        receive
    }

    /// The connection, if its caller is admitted; otherwise it is counted and told of.
    async fn take_in(&self, connection: TcpStream) -> Option<Secured> {
        let address = connection.peer_addr().ok();
        let accepting = self.tls.accept(connection, self.admitted, self.first_word);
        let accepted = match tokio::time::timeout(HANDSHAKE_LIMIT, accepting).await {
            Ok(accepted) => accepted,
            Err(_elapsed) => Err(Error::new(Code::Unreachable, "no TLS handshake in time")),
        };
        match accepted {
            Ok(accepted) => {
                let identity = accepted.caller.map(Arc::new);
                let caller = Caller { identity, address, trace: None };
                Some(Secured { stream: accepted.stream, caller })
            }
            // A health check that only connects, or a caller that left.
            Err(error) if error.code == Code::Unreachable => {
                debug!(?address, %error, "a connection ended in its handshake");
                None
            }
            Err(error) => {
                if let Some(access) = &self.context.access {
                    access.count_refused_connection();
                    let caller = Caller { address, ..Caller::default() };
                    access.audit.refused(self.context.clock.now(), &caller, "connect", &error);
                }
                None
            }
        }
    }
}

/// What the router of a port serves.
pub(crate) fn connections(
    secured: mpsc::Receiver<Secured>,
) -> impl Stream<Item = Result<Secured, io::Error>> {
    futures::stream::unfold(secured, |mut secured| async move {
        secured.recv().await.map(|connection| (Ok(connection), secured))
    })
}

impl Connected for Secured {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
