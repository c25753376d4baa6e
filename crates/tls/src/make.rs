//! Makes certificates: the authority of a cluster, its nodes, its clients, and new ones in place of old.
//!
//! A folder is written file by file, each under another name first. Between a new key and its new
//! certificate a reader finds two files that do not belong together, and looks again later.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use quorate_types::{ClientName, ClusterId, Code, Error, Identity, NodeId, Who};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::certificate::{self, Certificate, ders, invalid};
use crate::files::{Material, Paths, read_key};

/// 365 days.
pub const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Most hosts of a certificate.
pub const HOSTS_MAX: usize = 64;
/// Certificates are valid a little before they are made: clocks differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);
/// Most authorities in `ca.crt` at the same time.
const AUTHORITIES_MAX: usize = 8;

/// A node whose certificate is to be made.
#[derive(Clone, Debug)]
pub struct NodeNames<'a> {
    /// Its number in the cluster file.
    pub id: NodeId,
    /// Its name there.
    pub name: &'a str,
    /// The hosts it is reached by, for clients that go by names of hosts.
    pub hosts: &'a [String],
}

/// A folder of certificates.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: PathBuf,
}

/// What signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cluster: ClusterId,
    not_after: SystemTime,
}

impl Folder {
    /// The folder at a path.
    #[must_use]
    pub fn new(dir: &Path) -> Folder {
        Folder { dir: dir.to_owned() }
    }

    /// The certificates of the authorities, the newest first.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The key of the newest authority.
    #[must_use]
    pub fn ca_key(&self) -> PathBuf {
        self.dir.join("ca.key")
    }

    /// Makes the folder, if need be, and the authority of a cluster in it.
    ///
    /// # Errors
    /// `CONFIG_INVALID` if the folder has one already, `DISK_FAILED`.
    pub fn create_authority(&self, cluster: ClusterId, valid: Duration) -> Result<(), Error> {
        fs::create_dir_all(&self.dir).map_err(|error| not_written(&self.dir, &error))?;
        refuse_existing(&[&self.ca(), &self.ca_key()])?;
        let (certificate, key) = authority(cluster, valid)?;
        write_key(&self.ca_key(), &key)?;
        write(&self.ca(), &certificate, 0o644)
    }

    /// Makes the certificate and the key of a node.
    ///
    /// # Errors
    /// `CONFIG_INVALID` if it has them already, `CERTIFICATE_INVALID` if the authority is of no use.
    pub fn create_node(&self, node: &NodeNames<'_>, valid: Duration) -> Result<Paths, Error> {
        let paths = Paths::of_node(&self.dir, node.name);
        refuse_existing(&[&paths.certificate, &paths.key])?;
        self.sign(&paths, Who::Node(node.id), node.hosts, valid)?;
        Ok(paths)
    }

    /// Makes the certificate and the key of a client.
    ///
    /// # Errors
    /// As [`Folder::create_node`].
    pub fn create_client(&self, name: &ClientName, valid: Duration) -> Result<Paths, Error> {
        let paths = Paths::of_client(&self.dir, name);
        refuse_existing(&[&paths.certificate, &paths.key])?;
        self.sign(&paths, Who::Client(name.clone()), &[], valid)?;
        Ok(paths)
    }

    /// Replaces key and certificate of a node or a client by new ones that say the same.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` if the old certificate cannot be read, or the authority is of no use.
    pub fn rotate(&self, paths: &Paths, valid: Duration) -> Result<(), Error> {
        let said = certificate::read_all(&paths.certificate)?;
        let identity = said[0].identity.clone();
        let identity = identity.ok_or_else(|| invalid(&paths.certificate, "names no identity"))?;
        self.sign(paths, identity.who, &said[0].hosts, valid)
    }

    /// Makes another authority for the same cluster. It signs from now on; both are trusted until
    /// [`Folder::forget_old_authorities`].
    ///
    /// # Errors
    /// `CONFIG_INVALID` if there are too many already, `CERTIFICATE_INVALID` if the newest is of no use.
    pub fn rotate_authority(&self, valid: Duration) -> Result<(), Error> {
        let old = certificate::read_all(&self.ca())?;
        if AUTHORITIES_MAX <= old.len() {
            let message = format!("{} holds {} authorities", self.ca().display(), old.len());
            return Err(Error::new(Code::ConfigInvalid, message));
        }
        let text = fs::read_to_string(self.ca());
        let text = text.map_err(|error| certificate::unreadable(&self.ca(), &error))?;
        let (certificate, key) = authority(cluster_of(&self.ca(), &old)?, valid)?;
        // First the certificates: whoever is trusted too early harms nobody.
        write(&self.ca(), &format!("{certificate}{text}"), 0o644)?;
        write_key(&self.ca_key(), &key)
    }

    /// Trusts only the newest authority. Says how many were forgotten.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` if there is none, `DISK_FAILED`.
    pub fn forget_old_authorities(&self) -> Result<usize, Error> {
        const END: &str = "-----END CERTIFICATE-----\n";
        let count = ders(&self.ca())?.len();
        let text = fs::read_to_string(self.ca());
        let text = text.map_err(|error| certificate::unreadable(&self.ca(), &error))?;
        let first = text.replace("\r\n", "\n");
        let end =
            first.find(END).ok_or_else(|| invalid(&self.ca(), "does not end a certificate"))?;
        write(&self.ca(), &first[..end + END.len()], 0o644)?;
        Ok(count - 1)
    }

    /// Writes a new key and a certificate for it, and checks that it would be believed.
    fn sign(
        &self,
        paths: &Paths,
        who: Who,
        hosts: &[String],
        valid: Duration,
    ) -> Result<(), Error> {
        let authority = self.authority()?;
        let identity = Identity { cluster: authority.cluster, who };
        let mut params = params(&identity, valid, authority.not_after)?;
        if HOSTS_MAX < hosts.len() {
            let message = format!("{} hosts are named, at most {HOSTS_MAX}", hosts.len());
            return Err(Error::new(Code::InvalidRequest, message));
        }
        for host in hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node calls its peers and is called by them.
        params.extended_key_usages = match identity.who {
            Who::Node(_) => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Who::Client(_) | Who::Authority => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(not_made)?;
        let signed = params.signed_by(&key, &authority.issuer).map_err(not_made)?;
        write_key(&paths.key, &key)?;
        write(&paths.certificate, &signed.pem(), 0o644)?;
        Material::read(paths).map(|_| ())
    }

    /// The newest authority, which `ca.key` belongs to.
    fn authority(&self) -> Result<Authority, Error> {
        let said = certificate::read_all(&self.ca())?;
        let cluster = cluster_of(&self.ca(), &said)?;
        read_key(&self.ca_key())?;
        let key = fs::read_to_string(self.ca_key());
        let key = key.map_err(|error| certificate::unreadable(&self.ca_key(), &error))?;
        let key = KeyPair::from_pem(&key).map_err(|error| invalid(&self.ca_key(), error))?;
        let der = &ders(&self.ca())?[0];
        // Before anything is written over: what it signs would be believed by nobody.
        if !said[0].is_current(SystemTime::now()) {
            return Err(invalid(&self.ca(), "begins with an authority that has expired"));
        }
        let is_its_key = X509Certificate::from_der(der)
            .is_ok_and(|(_, own)| own.public_key().raw == key.subject_public_key_info());
        if !is_its_key {
            let reason = format!("does not belong to the first of {}", self.ca().display());
            return Err(invalid(&self.ca_key(), reason));
        }
        let issuer = Issuer::from_ca_cert_der(der, key);
        let issuer = issuer.map_err(|error| invalid(&self.ca(), error))?;
        Ok(Authority { issuer, cluster, not_after: said[0].not_after })
    }
}

/// The cluster of the newest authority of a file.
fn cluster_of(path: &Path, said: &[Certificate]) -> Result<ClusterId, Error> {
    match said.first().and_then(|newest| newest.identity.as_ref()) {
        Some(Identity { cluster, who: Who::Authority }) => Ok(*cluster),
        Some(_) | None => Err(invalid(path, "does not begin with the authority of a cluster")),
    }
}

/// The certificate of a new authority, and its key.
fn authority(cluster: ClusterId, valid: Duration) -> Result<(String, KeyPair), Error> {
    let identity = Identity { cluster, who: Who::Authority };
    let mut params = params(&identity, valid, SystemTime::now() + valid)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(not_made)?;
    // Two authorities of a cluster must not bear the same name, or what one signed looks like a forgery
    // of the other's.
    let mark: String =
        params.key_identifier(&key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("quorate authority {mark}"));
    let signed = params.self_signed(&key).map_err(not_made)?;
    Ok((signed.pem(), key))
}

/// What every certificate has. None outlives its authority.
fn params(
    identity: &Identity,
    valid: Duration,
    latest: SystemTime,
) -> Result<CertificateParams, Error> {
    let now = SystemTime::now();
    let end = now.checked_add(valid).unwrap_or(latest).min(latest);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("quorate {}", identity.who));
    params.distinguished_name.push(DnType::OrganizationName, identity.cluster.to_string());
    params.not_before = (now - CLOCKS_DIFFER).into();
    params.not_after = end.into();
    let uri = Ia5String::try_from(identity.to_string()).map_err(not_made)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params)
}

fn host_name(host: &str) -> Result<SanType, Error> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let wrong = || Error::new(Code::InvalidRequest, format!("{host:?} is no name of a host"));
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || !host.chars().all(is_part) {
        return Err(wrong());
    }
    Ia5String::try_from(host).map(SanType::DnsName).map_err(|_| wrong())
}

fn not_made(error: rcgen::Error) -> Error {
    Error::new(Code::Internal, format!("a certificate cannot be made: {error}"))
}

fn refuse_existing(paths: &[&Path]) -> Result<(), Error> {
    match paths.iter().find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => {
            let message = format!("{} exists already", path.display());
            Err(Error::new(Code::ConfigInvalid, message).with("file", path.display()))
        }
    }
}

fn not_written(path: &Path, error: &io::Error) -> Error {
    let message = format!("{} cannot be written: {error}", path.display());
    Error::new(Code::DiskFailed, message).with("file", path.display())
}

fn write_key(path: &Path, key: &KeyPair) -> Result<(), Error> {
    write(path, &key.serialize_pem(), 0o600)
}

/// Writes a file that is never there in part, and never readable by more people than its mode says.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = || {
        // Left by one that was interrupted; its mode would stay.
        let _not_there = fs::remove_file(&new).is_err();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|error| not_written(path, &error))
}
