//! The certificates of a cluster: making, reading and judging them, and TLS at both ends of a connection.
//!
//! ```text
//!  make         a folder of certificates --> files, keys with mode 0600
//!  files        files --> Material: whom we trust, who we are
//!  judge        is the certificate of the other side one of this cluster, and of the right kind?
//!  ends         connect, accept: TLS around a connection, or a coded error that says what to do
//!  dial         the same as a connector for gRPC channels
//! ```
//!
//! Every connection is TLS 1.3 with certificates on both sides. Nobody is judged by the name of a host:
//! a certificate is good for what its identity says (`quorate_types::Identity`), in the cluster that this
//! identity names, if an authority in `ca.crt` signed it. What a client may do stands with the servers.
//!
//! The simulation has no TLS: nothing that is built for it depends on this crate.

mod certificate;
mod dial;
mod ends;
mod files;
mod judge;
mod make;
mod plain;

pub use certificate::{Certificate, read_all};
pub use dial::Dial;
pub use ends::{Accepted, FirstWord, Stream, Tls};
pub use files::Paths;
pub use judge::{Admitted, Expected};
pub use make::{Folder, HOSTS_MAX, NodeNames, YEAR};
pub use plain::is_refusal_of_plain_text;
