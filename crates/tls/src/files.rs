//! From files to what a connection needs: whom we trust, who we are.
//!
//! ```text
//!  DIR/ca.crt            whom everybody trusts; more than one while an authority is replaced
//!  DIR/ca.key            signs; stays with whoever makes certificates
//!  DIR/node-n1.crt .key  node n1
//!  DIR/client-shop.crt   client shop
//!  DIR/rights.toml       what clients may do; read by servers
//! ```

use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use quorate_types::{ClientName, Error, Identity, Who};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificate::{Certificate, ders, invalid, unreadable};
use crate::judge;

/// Files that anybody on the machine may read or write hold no key.
const MODE_OF_OTHERS: u32 = 0o007;

/// Where the certificate, the key and the authorities of one party lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The authorities that are trusted, one or more.
    pub ca: PathBuf,
    /// The party's own certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Paths {
    /// A node, by its name in the cluster file.
    #[must_use]
    pub fn of_node(dir: &Path, name: &str) -> Paths {
        Paths::named(dir, &format!("node-{name}"))
    }

    /// A client.
    #[must_use]
    pub fn of_client(dir: &Path, name: &ClientName) -> Paths {
        Paths::named(dir, &format!("client-{name}"))
    }

    /// The only client of a folder.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` if there is none, or several.
    pub fn of_only_client(dir: &Path) -> Result<Paths, Error> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .map_err(|error| unreadable(dir, &error))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| Some(file.strip_prefix("client-")?.strip_suffix(".crt")?.to_owned()))
            .collect();
        names.sort();
        match &names[..] {
            [name] => Ok(Paths::named(dir, &format!("client-{name}"))),
            [] => Err(invalid(dir, "holds no certificate of a client, client-NAME.crt")),
            several => {
                let several = several.join(", ");
                Err(invalid(dir, format!("holds several clients, {several}: say which one")))
            }
        }
    }

    fn named(dir: &Path, name: &str) -> Paths {
        let file = |end: &str| dir.join(format!("{name}.{end}"));
        Paths { ca: dir.join("ca.crt"), certificate: file("crt"), key: file("key") }
    }

    /// Changes whenever one of the files does.
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp([&self.ca, &self.certificate, &self.key].map(|path| stamp_of(path)))
    }
}

/// What tells one content of the files from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([Option<(i64, i64, u64, u64)>; 3]);

fn stamp_of(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

/// Whom we trust and who we are. Complete: key and certificate belong together, and an authority that
/// we trust has signed the certificate.
pub(crate) struct Material {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) identity: Identity,
    pub(crate) not_after: SystemTime,
    pub(crate) stamp: Stamp,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and its key", self.identity)
    }
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` with the file that is wrong.
    pub(crate) fn read(paths: &Paths) -> Result<Material, Error> {
        // Before the files: a change while they are read is found at the next look.
        let stamp = paths.stamp();
        let mut roots = RootCertStore::empty();
        for der in ders(&paths.ca)? {
            let said = Certificate::read(&der).map_err(|reason| invalid(&paths.ca, reason))?;
            if !said.is_authority {
                return Err(invalid(&paths.ca, format!("holds {said}, which is no authority")));
            }
            roots.add(der).map_err(|error| invalid(&paths.ca, error))?;
        }
        let chain = ders(&paths.certificate)?;
        let said = Certificate::read(&chain[0]);
        let said = said.map_err(|reason| invalid(&paths.certificate, reason))?;
        let Some(identity) = said.identity else {
            let subject = said.subject;
            let reason = format!("is of {subject}, nobody of a cluster: it lacks a quorate:// URI");
            return Err(invalid(&paths.certificate, reason));
        };
        if identity.who == Who::Authority {
            let reason = "is of an authority, which signs and does nothing else";
            return Err(invalid(&paths.certificate, reason));
        }
        let key = read_key(&paths.key)?;
        let material = Material {
            roots: Arc::new(roots),
            chain,
            key,
            identity,
            not_after: said.not_after,
            stamp,
        };
        material.check(paths)?;
        Ok(material)
    }

    /// Refuses what every other party would refuse.
    fn check(&self, paths: &Paths) -> Result<(), Error> {
        judge::check_own(self).map_err(|error| {
            let reason = judge::words(&error);
            invalid(&paths.certificate, format!("cannot be used: it {reason}"))
        })?;
        let key = provider().key_provider.load_private_key(self.key.clone_key());
        let key = key.map_err(|error| invalid(&paths.key, format!("is no key: {error}")))?;
        rustls::sign::CertifiedKey::new(self.chain.clone(), key).keys_match().map_err(|_| {
            let certificate = paths.certificate.display();
            invalid(&paths.key, format!("does not belong to {certificate}"))
        })
    }
}

/// A key that only its owner, or the owner's group, can read.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let found = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    let mode = found.permissions().mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        let reason =
            format!("has mode {mode:04o}: everybody on this machine can use it; chmod 0600");
        return Err(invalid(path, reason));
    }
    let text = fs::read(path).map_err(|error| unreadable(path, &error))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| invalid(path, format!("holds no key: {error}")))
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
