//! Two ends of a connection with certificates of all kinds: who gets through, and what the others hear.
#![allow(missing_docs)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quorate_tls::{Admitted, Expected, FirstWord, Folder, NodeNames, Paths, Tls, YEAR, read_all};
use quorate_types::{ClientName, ClusterId, Code, Error, NodeId, Who};
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CLUSTER: ClusterId = ClusterId(7);

/// A folder with an authority, nodes n1 and n2 and client shop.
fn folder_of(cluster: ClusterId) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = Folder::new(dir.path());
    folder.create_authority(cluster, 10 * YEAR).expect("an authority");
    for (id, name) in [(1, "n1"), (2, "n2")] {
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let node = NodeNames { id: NodeId(id), name, hosts: &hosts };
        folder.create_node(&node, YEAR).expect("a node");
    }
    folder.create_client(&shop(), YEAR).expect("a client");
    dir
}

fn shop() -> ClientName {
    "shop".parse().expect("a name")
}

fn node(dir: &TempDir, name: &str) -> Tls {
    Tls::open(Paths::of_node(dir.path(), name)).expect("a node")
}

fn client(dir: &TempDir) -> Tls {
    Tls::open(Paths::of_client(dir.path(), &shop())).expect("a client")
}

/// What both ends say of one call: the caller's error or what it was told, the server's error or who it
/// believes calls.
async fn call(
    caller: &Tls,
    server: &Tls,
    expected: Expected,
    admitted: Admitted,
) -> (Result<String, Error>, Result<Option<Who>, Error>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = async {
        let (connection, _) = listener.accept().await.expect("a connection");
        let mut accepted = server.accept(connection, admitted, FirstWord::Server).await?;
        let said = accepted.stream.write_all(b"hello").await;
        let _closed = said.is_err() || accepted.stream.shutdown().await.is_err();
        Ok(accepted.caller.map(|caller| caller.who))
    };
    let calling = async {
        let connection = TcpStream::connect(&address).await.expect("a connection");
        let mut stream = caller.connect(connection, "node:1", expected, FirstWord::Server).await?;
        let mut told = String::new();
        stream.read_to_string(&mut told).await.expect("it reads");
        Ok(told)
    };
    tokio::join!(calling, serving)
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    let error = result.expect_err("refused");
    (error.code, error.message)
}

#[tokio::test]
async fn members_get_through_and_are_known() {
    // Goal: with the right certificates both ends know each other, and bytes go through.
    let dir = folder_of(CLUSTER);
    let (n1, n2, shop) = (node(&dir, "n1"), node(&dir, "n2"), client(&dir));
    let (told, caller) = call(&n1, &n2, Expected::Node(NodeId(2)), Admitted::Nodes).await;
    assert_eq!((told, caller), (Ok("hello".to_owned()), Ok(Some(Who::Node(NodeId(1))))));
    let (told, caller) = call(&shop, &n1, Expected::AnyNode, Admitted::Members).await;
    assert_eq!(told, Ok("hello".to_owned()));
    assert_eq!(caller, Ok(Some(Who::Client("shop".parse().expect("a name")))));
}

#[tokio::test]
async fn others_get_nowhere_and_hear_why() {
    // Goal: another cluster, another node, another kind and another authority are told apart and refused.
    let (dir, other) = (folder_of(CLUSTER), folder_of(ClusterId(8)));
    let (n1, n2, shop) = (node(&dir, "n1"), node(&dir, "n2"), client(&dir));

    let (told, caller) = call(&shop, &n1, Expected::AnyNode, Admitted::Nodes).await;
    let (told, caller) = (code(told), code(caller));
    assert_eq!((told.0, caller.0), (Code::Unauthenticated, Code::Unauthenticated));
    assert!(told.1.contains("this port is not for its kind"), "{}", told.1);
    assert!(caller.1.contains("is of client shop, this port is for nodes"), "{}", caller.1);

    let (told, _) = call(&n1, &n2, Expected::Node(NodeId(3)), Admitted::Nodes).await;
    let told = code(told);
    assert_eq!(told.0, Code::CertificateInvalid);
    assert!(told.1.contains("is of node n2, not of n3"), "{}", told.1);

    let (told, _) = call(&n1, &shop, Expected::AnyNode, Admitted::Nodes).await;
    assert_eq!(code(told).0, Code::CertificateInvalid, "a client is no server");

    let (told, _) = call(&client(&other), &n1, Expected::AnyNode, Admitted::Members).await;
    let told = code(told);
    assert_eq!(told.0, Code::CertificateInvalid);
    assert!(told.1.contains("is signed by no authority of ca.crt"), "{}", told.1);

    // Both trust both authorities now: what is left is the cluster in the identity.
    let both = [dir.path(), other.path()]
        .map(|dir| std::fs::read_to_string(dir.join("ca.crt")).expect("an authority"));
    for dir in [dir.path(), other.path()] {
        std::fs::write(dir.join("ca.crt"), both.concat()).expect("written");
    }
    let stranger = client(&other);
    let (told, _) = call(&stranger, &node(&dir, "n1"), Expected::AnyNode, Admitted::Members).await;
    let told = code(told);
    assert_eq!(told.0, Code::CertificateInvalid);
    assert!(told.1.contains("is of node n1 of another cluster"), "{}", told.1);
    let n1 = node(&dir, "n1");
    let refused = code(
        raw_call(&other, &Paths::of_client(other.path(), &"shop".parse().expect("a name")), &n1)
            .await,
    );
    assert_eq!(refused.0, Code::Unauthenticated);
    assert!(refused.1.contains("is of client shop of another cluster"), "{}", refused.1);
}

/// A caller that checks nothing, with these files: what the server says.
async fn raw_call(dir: &TempDir, paths: &Paths, server: &Tls) -> Result<Option<Who>, Error> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_file_iter(dir.path().join("ca.crt")).expect("a file") {
        roots.add(der.expect("a certificate")).expect("an authority");
    }
    let chain = CertificateDer::pem_file_iter(&paths.certificate).expect("a file");
    let key = PrivateKeyDer::from_pem_file(&paths.key).expect("a key");
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(|der| der.expect("a certificate")).collect(), key)
        .expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let calling = async {
        let connection = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        // It may fail; what counts is what the server says.
        if let Ok(mut stream) = connector.connect(name, connection).await {
            let _ended = stream.read_to_end(&mut Vec::new()).await.is_err();
        }
    };
    let serving = async {
        let (connection, _) = listener.accept().await.expect("a connection");
        let accepted = server.accept(connection, Admitted::Members, FirstWord::Server).await?;
        Ok(accepted.caller.map(|caller| caller.who))
    };
    tokio::join!(calling, serving).1
}

/// Makes a client certificate that ended an hour ago.
fn write_expired(dir: &Path) -> Paths {
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a file");
    let authority = KeyPair::from_pem(&text("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&text("ca.crt"), authority).expect("an authority");
    let mut params = CertificateParams::default();
    let hour = Duration::from_secs(3600);
    params.not_before = (SystemTime::now() - 2 * hour).into();
    params.not_after = (SystemTime::now() - hour).into();
    let uri = Ia5String::try_from(format!("quorate://{CLUSTER}/client/old")).expect("a URI");
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, &issuer).expect("a certificate");
    let paths = Paths::of_client(dir, &"old".parse().expect("a name"));
    std::fs::write(&paths.certificate, signed.pem()).expect("written");
    std::fs::write(&paths.key, key.serialize_pem()).expect("written");
    std::fs::set_permissions(&paths.key, PermissionsExt::from_mode(0o600)).expect("a mode");
    paths
}

#[tokio::test]
async fn expired_certificates_are_refused_at_both_ends() {
    // Goal: an expired certificate is found by its owner, and refused by a server if its owner goes on.
    let dir = folder_of(CLUSTER);
    let paths = write_expired(dir.path());
    let error = Tls::open(paths.clone()).expect_err("expired");
    assert_eq!(error.code, Code::CertificateInvalid);
    assert!(error.message.contains("client-old.crt cannot be used: it has expired"), "{error}");
    let refused = code(raw_call(&dir, &paths, &node(&dir, "n1")).await);
    assert_eq!(refused.0, Code::Unauthenticated);
    assert!(refused.1.contains("has expired"), "{}", refused.1);
}

#[tokio::test]
async fn plain_text_and_tls_meet_with_words() {
    // Goal: a caller without TLS and a server without TLS are named, not a malformed frame.
    let dir = folder_of(CLUSTER);
    let n1 = node(&dir, "n1");
    for (words, part) in
        [("PRI * HTTP/2.0", "QUORATE_TLS_MISMATCH"), ("GET / HTTP/1.1", "speaks TLS")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let calling = async {
            let mut connection = TcpStream::connect(address).await.expect("a connection");
            connection.write_all(words.as_bytes()).await.expect("it writes");
            let mut told = Vec::new();
            let mut answer = [0; 256];
            while let Ok(length @ 1..) = connection.read(&mut answer).await {
                told.extend_from_slice(&answer[..length]);
            }
            String::from_utf8_lossy(&told).into_owned()
        };
        let serving = async {
            let (connection, _) = listener.accept().await.expect("a connection");
            n1.accept(connection, Admitted::Members, FirstWord::Server).await
        };
        let (told, served) = tokio::join!(calling, serving);
        assert!(told.contains(part), "{told:?}");
        assert_eq!(code(served).0, Code::TlsMismatch);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = async {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        // The SETTINGS with which a server of HTTP/2 begins.
        connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("it writes");
        let _reset = connection.read_to_end(&mut Vec::new()).await.is_err();
    };
    let shop = client(&dir);
    let calling = async {
        let connection = TcpStream::connect(address).await.expect("a connection");
        shop.connect(connection, "node:1", Expected::AnyNode, FirstWord::Server).await
    };
    let (_, called) = tokio::join!(serving, calling);
    let called = code(called);
    assert_eq!(called.0, Code::TlsMismatch, "{}", called.1);
}

#[tokio::test]
async fn an_authority_is_replaced_while_everybody_talks() {
    // Goal: at no step of a rotation do two parties refuse each other, and after it the old key signs nobody.
    let dir = folder_of(CLUSTER);
    let folder = Folder::new(dir.path());
    let (n1, shop) = (node(&dir, "n1"), client(&dir));
    let talks = async || {
        let (told, _) = call(&shop, &n1, Expected::AnyNode, Admitted::Members).await;
        assert_eq!(told, Ok("hello".to_owned()));
    };
    let old = tempfile::tempdir().expect("a folder");
    for name in ["ca.crt", "ca.key"] {
        std::fs::copy(dir.path().join(name), old.path().join(name)).expect("copied");
    }
    folder.rotate_authority(10 * YEAR).expect("another authority");
    assert_eq!(read_all(&folder.ca()).expect("authorities").len(), 2);
    assert_eq!(n1.refresh(), Ok(true));
    talks().await;
    folder.rotate(&Paths::of_client(dir.path(), &self::shop()), YEAR).expect("rotated");
    assert_eq!((shop.refresh(), shop.refresh()), (Ok(true), Ok(false)));
    talks().await;
    folder.rotate(&Paths::of_node(dir.path(), "n1"), YEAR).expect("rotated");
    let said = read_all(&Paths::of_node(dir.path(), "n1").certificate).expect("a certificate");
    assert_eq!(said[0].hosts, ["127.0.0.1", "localhost"], "it says what the old one said");
    assert_eq!(n1.refresh(), Ok(true));
    talks().await;
    assert_eq!(folder.forget_old_authorities(), Ok(1));
    assert_eq!((n1.refresh(), shop.refresh()), (Ok(true), Ok(true)));
    talks().await;

    // Whoever has the old key makes certificates that nobody believes.
    let forged = Folder::new(old.path()).create_client(&self::shop(), YEAR).expect("made");
    let refused = code(raw_call(&dir, &forged, &n1).await);
    assert_eq!(refused.0, Code::Unauthenticated);
    assert!(refused.1.contains("is signed by no authority of ca.crt"), "{}", refused.1);
}

#[test]
fn files_that_are_wrong_are_named() {
    // Goal: what an operator may confuse is found at the start, and files in use are kept until they are good.
    let dir = folder_of(CLUSTER);
    let folder = Folder::new(dir.path());
    let (n1, n2) = (Paths::of_node(dir.path(), "n1"), Paths::of_node(dir.path(), "n2"));
    let mode = |path: &Path| path.metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!(
        [mode(&n1.key), mode(&folder.ca_key()), mode(&n1.certificate)],
        [0o600, 0o600, 0o644]
    );
    let opened = |paths: Paths| {
        let error = Tls::open(paths).expect_err("of no use");
        assert_eq!(error.code, Code::CertificateInvalid, "{error}");
        error.message
    };
    let mixed = Paths { key: n2.key.clone(), ..n1.clone() };
    assert!(opened(mixed).contains("does not belong to"));
    let missing = Paths { key: dir.path().join("no.key"), ..n1.clone() };
    assert!(opened(missing).contains("no.key cannot be read"));
    let authority = Paths { certificate: folder.ca(), key: folder.ca_key(), ..n1.clone() };
    assert!(opened(authority).contains("is of an authority"));
    let own = Paths { ca: n1.certificate.clone(), ..n1.clone() };
    assert!(opened(own).contains("which is no authority"));
    std::fs::set_permissions(&n2.key, PermissionsExt::from_mode(0o644)).expect("a mode");
    assert!(opened(n2.clone()).contains("has mode 0644"));

    let tls = Tls::open(n1.clone()).expect("a node");
    std::fs::write(&n1.certificate, "no PEM").expect("written");
    assert_eq!(tls.refresh().expect_err("of no use").code, Code::CertificateInvalid);
    assert_eq!(tls.identity().who, Who::Node(NodeId(1)), "the old one stays in use");
    let names = NodeNames { id: NodeId(1), name: "n1", hosts: &[] };
    // A key that does not sign for ca.crt makes nothing, and leaves what there is.
    let (strange, before) = (folder_of(CLUSTER), std::fs::read(&n2.certificate).expect("a file"));
    std::fs::copy(strange.path().join("ca.key"), folder.ca_key()).expect("copied");
    let error = folder.rotate(&n2, YEAR).expect_err("nobody would believe it");
    assert!(error.message.contains("ca.key does not belong to the first of"), "{error}");
    assert_eq!(std::fs::read(&n2.certificate).expect("a file"), before);
    let again = folder.create_node(&names, YEAR).expect_err("it exists");
    assert_eq!(again.code, Code::ConfigInvalid);
}
