//! TLS around a connection, at either end, and what went wrong in words that help.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use quorate_types::{Code, Error, Identity};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{AlertDescription, ClientConfig, InvalidMessage, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::certificate::Certificate;
use crate::files::{Material, Paths, provider};
use crate::judge::{self, Admitted, CallerJudge, Expected, ServerJudge};
use crate::plain;

/// A connection in TLS.
pub type Stream = TlsStream<TcpStream>;

/// Who sends the first bytes inside a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWord {
    /// The server, as in HTTP/2. Its first bytes are waited for: only they show that it has taken the
    /// caller's certificate, because in TLS 1.3 the caller is through before the server has looked.
    Server,
    /// The caller, as in HTTP/1.
    Caller,
}

/// A connection that was taken in.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Who calls; `None` if the port takes in everybody and the caller shows nothing.
    pub caller: Option<Identity>,
}

/// The certificates of one party: a node or a client. Clones share them.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    paths: Paths,
    current: RwLock<Arc<Material>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.identity())
    }
}

impl Tls {
    /// Reads the files of a party.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` with the file and what is wrong with it.
    pub fn open(paths: Paths) -> Result<Tls, Error> {
        let current = RwLock::new(Arc::new(Material::read(&paths)?));
        Ok(Tls { inner: Arc::new(Inner { paths, current }) })
    }

    fn current(&self) -> Arc<Material> {
        Arc::clone(&self.inner.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.current().identity.clone()
    }

    /// When our certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.current().not_after
    }

    /// Looks whether the files have changed, and if so uses them from the next connection on. True if
    /// they had.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` if the new files are of no use, or of somebody else; the old ones stay in
    /// use.
    pub fn refresh(&self) -> Result<bool, Error> {
        let old = self.current();
        if self.inner.paths.stamp() == old.stamp {
            return Ok(false);
        }
        let new = Material::read(&self.inner.paths)?;
        if new.identity != old.identity {
            let file = self.inner.paths.certificate.display();
            let message = format!("{file} is now of {}, was of {}", new.identity, old.identity);
            return Err(Error::new(Code::CertificateInvalid, message));
        }
        *self.inner.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(true)
    }

    /// Calls. `address` is for messages.
    ///
    /// # Errors
    /// Coded, with what is wrong: `CERTIFICATE_INVALID` if the other side is not whom we expect,
    /// `UNAUTHENTICATED` if it refuses us, `TLS_MISMATCH` if it speaks no TLS, `UNREACHABLE` if the
    /// connection broke.
    pub async fn connect<C>(
        &self,
        connection: C,
        address: &str,
        expected: Expected,
        first_word: FirstWord,
    ) -> Result<TlsStream<C>, Error>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let config = client_config(&self.current(), expected, first_word);
        let config = config.map_err(|error| internal(&error))?;
        let explain = |error: &io::Error| explain_call(address, error);
        let calling =
            TlsConnector::from(Arc::new(config)).connect(server_name(address), connection);
        let mut stream = TlsStream::from(calling.await.map_err(|error| explain(&error))?);
        if first_word == FirstWord::Server {
            let first = stream.fill_buf().await.map_err(|error| explain(&error))?;
            if first.is_empty() {
                return Err(explain(&io::Error::from(io::ErrorKind::UnexpectedEof)));
            }
        }
        Ok(stream)
    }

    /// Takes a call in. A caller without TLS is told so in words that it can read.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if the caller is not admitted, `TLS_MISMATCH` if it speaks no TLS,
    /// `UNREACHABLE` if the connection broke.
    pub async fn accept(
        &self,
        mut connection: TcpStream,
        admitted: Admitted,
        first_word: FirstWord,
    ) -> Result<Accepted, Error> {
        if plain::refuse(&mut connection).await {
            return Err(Error::new(Code::TlsMismatch, "the caller speaks no TLS"));
        }
        let config = server_config(&self.current(), admitted, first_word);
        let config = config.map_err(|error| internal(&error))?;
        let accepting = TlsAcceptor::from(Arc::new(config)).accept(connection);
        let stream = accepting.await.map_err(|error| explain_accept(&error))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        // The judge has read it before.
        let caller = shown.and_then(|der| Certificate::read(der).ok()?.identity);
        Ok(Accepted { stream: TlsStream::from(stream), caller })
    }
}

/// HTTP/2 is agreed on in the handshake, or clients of other languages refuse to speak it.
fn protocols(first_word: FirstWord) -> Vec<Vec<u8>> {
    match first_word {
        FirstWord::Server => vec![b"h2".to_vec()],
        FirstWord::Caller => vec![b"http/1.1".to_vec()],
    }
}

fn client_config(
    material: &Material,
    expected: Expected,
    first_word: FirstWord,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(ServerJudge::new(material, expected))
        .with_client_auth_cert(material.chain.clone(), material.key.clone_key())?;
    config.alpn_protocols = protocols(first_word);
    // Connections live long; a resumed one would not be judged again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    material: &Material,
    admitted: Admitted,
    first_word: FirstWord,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(CallerJudge::new(material, admitted)?)
        .with_single_cert(material.chain.clone(), material.key.clone_key())?;
    config.alpn_protocols = protocols(first_word);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The name that TLS wants to be given. Nobody is judged by it.
fn server_name(address: &str) -> ServerName<'static> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned())
        .or_else(|_| ServerName::try_from("quorate"))
        .expect("a valid name")
}

fn internal(error: &rustls::Error) -> Error {
    Error::new(Code::Internal, format!("TLS: {error}"))
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why a call failed.
fn explain_call(address: &str, error: &io::Error) -> Error {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => {
            let reason = match alert {
                AlertDescription::UnknownCA => "it trusts no authority that signed it",
                AlertDescription::CertificateExpired => "it has expired",
                AlertDescription::CertificateRequired => "none was shown",
                AlertDescription::CertificateUnknown => {
                    "it is of another cluster, or this port is not for its kind"
                }
                _ => return refused_by(address, &format!("TLS alert {alert:?}")),
            };
            refused_by(address, reason)
        }
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            let message = format!("the certificate of {address} {}", judge::words(error));
            Error::new(Code::CertificateInvalid, message)
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Error::new(Code::TlsMismatch, format!("{address} speaks no TLS"))
        }
        Some(error) => {
            Error::new(Code::Unreachable, format!("no TLS connection to {address}: {error}"))
        }
        None => Error::new(
            Code::Unreachable,
            format!("the connection to {address} broke in the TLS handshake: {error}"),
        ),
    }
}

fn refused_by(address: &str, reason: &str) -> Error {
    let message = format!("{address} refuses our certificate: {reason}");
    Error::new(Code::Unauthenticated, message)
}

/// Why a call was not taken in.
fn explain_accept(error: &io::Error) -> Error {
    match tls_error(error) {
        Some(rustls::Error::NoCertificatesPresented) => {
            Error::new(Code::Unauthenticated, "the caller shows no certificate")
        }
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            let message = format!("the caller's certificate {}", judge::words(error));
            Error::new(Code::Unauthenticated, message)
        }
        Some(rustls::Error::AlertReceived(alert)) => Error::new(
            Code::Unauthenticated,
            format!("the caller refuses our certificate: TLS alert {alert:?}"),
        ),
        Some(error) => Error::new(Code::Unauthenticated, format!("no TLS connection: {error}")),
        None => Error::new(Code::Unreachable, format!("the TLS handshake broke: {error}")),
    }
}
