//! Is the certificate of the other side to be believed? One that an authority in `ca.crt` has signed,
//! that is valid today, and whose identity is of our cluster and of the kind that is expected here.

use std::fmt;
use std::sync::Arc;

use quorate_types::{ClusterId, Identity, NodeId, Who};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::certificate::Certificate;
use crate::files::{Material, provider};

/// Whom a caller expects to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Any node of its own cluster.
    AnyNode,
    /// This node of it.
    Node(NodeId),
}

/// Whom a port takes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Nodes of the cluster.
    Nodes,
    /// Nodes and clients of the cluster.
    Members,
    /// Members, and callers who show no certificate.
    Everybody,
}

/// Why an identity is refused, for people.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(reason: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(reason)))))
}

/// The identity in a certificate, if it is one of this cluster.
fn member(der: &CertificateDer<'_>, cluster: ClusterId) -> Result<Identity, Error> {
    let said = Certificate::read(der).map_err(refused)?;
    let Some(identity) = said.identity else {
        return Err(refused(format!("is of {}, nobody of a cluster", said.subject)));
    };
    if identity.cluster != cluster {
        return Err(refused(format!(
            "is of {} of another cluster, {}; ours is {cluster}",
            identity.who, identity.cluster
        )));
    }
    Ok(identity)
}

/// Judges who calls.
#[derive(Debug)]
pub(crate) struct CallerJudge {
    signed: Arc<dyn ClientCertVerifier>,
    cluster: ClusterId,
    admitted: Admitted,
}

impl CallerJudge {
    pub(crate) fn new(material: &Material, admitted: Admitted) -> Result<Arc<CallerJudge>, Error> {
        let roots = Arc::clone(&material.roots);
        let signed = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let signed = signed.build().map_err(|error| Error::General(error.to_string()))?;
        let cluster = material.identity.cluster;
        Ok(Arc::new(CallerJudge { signed, cluster, admitted }))
    }
}

impl ClientCertVerifier for CallerJudge {
    fn client_auth_mandatory(&self) -> bool {
        self.admitted != Admitted::Everybody
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.signed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let signed = self.signed.verify_client_cert(end_entity, intermediates, now)?;
        let identity = member(end_entity, self.cluster)?;
        match (&identity.who, self.admitted) {
            (Who::Node(_), _) | (Who::Client(_), Admitted::Members | Admitted::Everybody) => {
                Ok(signed)
            }
            (Who::Client(_), Admitted::Nodes) | (Who::Authority, _) => {
                Err(refused(format!("is of {}, this port is for nodes", identity.who)))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}

/// Judges who was reached.
#[derive(Debug)]
pub(crate) struct ServerJudge {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    cluster: ClusterId,
    expected: Expected,
}

impl ServerJudge {
    pub(crate) fn new(material: &Material, expected: Expected) -> Arc<ServerJudge> {
        Arc::new(ServerJudge {
            roots: Arc::clone(&material.roots),
            algorithms: provider().signature_verification_algorithms,
            cluster: material.identity.cluster,
            expected,
        })
    }
}

impl ServerCertVerifier for ServerJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let identity = member(end_entity, self.cluster)?;
        match (&identity.who, self.expected) {
            (Who::Node(_), Expected::AnyNode) => Ok(ServerCertVerified::assertion()),
            (Who::Node(node), Expected::Node(expected)) if *node == expected => {
                Ok(ServerCertVerified::assertion())
            }
            (who, Expected::AnyNode) => Err(refused(format!("is of {who}, no node"))),
            (who, Expected::Node(node)) => Err(refused(format!("is of {who}, not of {node}"))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Would the others believe us? What they would refuse is better found here.
pub(crate) fn check_own(material: &Material) -> Result<(), Error> {
    let judge = CallerJudge::new(material, Admitted::Members)?;
    let (own, rest) = material.chain.split_first().expect("a chain has a certificate");
    judge.verify_client_cert(own, rest, UnixTime::now()).map(|_| ())
}

/// What is wrong with a certificate, after "it".
pub(crate) fn words(error: &Error) -> String {
    let Error::InvalidCertificate(error) = error else {
        return format!("is refused: {error}");
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is signed by no authority of ca.crt".to_owned()
        }
        CertificateError::Other(reason) => reason.0.to_string(),
        other => format!("is refused: {other}"),
    }
}
