//! What a certificate says. Whether it is to be believed is for `judge`.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use quorate_types::{Code, Error, Identity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Most certificates of one file.
const CERTIFICATES_MAX: usize = 16;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Who its owner is; `None` if it names nobody of a cluster of ours.
    pub identity: Option<Identity>,
    /// The hosts it names, for clients that go by names of hosts.
    pub hosts: Vec<String>,
    /// The subject, as text.
    pub subject: String,
    /// Who signed it, as text.
    pub issuer: String,
    /// The number its signer gave it, in hexadecimal digits.
    pub serial: String,
    /// Not valid before this.
    pub not_before: SystemTime,
    /// Not valid after this.
    pub not_after: SystemTime,
    /// It may sign others.
    pub is_authority: bool,
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// What cannot be understood, as a sentence: other bytes than a certificate, or one that names
    /// several identities.
    pub fn read(der: &[u8]) -> Result<Certificate, String> {
        let (_, found) =
            X509Certificate::from_der(der).map_err(|error| format!("cannot be read: {error}"))?;
        let names = found
            .subject_alternative_name()
            .map_err(|error| format!("has names that cannot be read: {error}"))?;
        let names = names.map(|names| &names.value.general_names[..]).unwrap_or_default();
        let mut identity = None;
        let mut hosts = Vec::new();
        for name in names {
            match name {
                GeneralName::URI(uri) if uri.starts_with("quorate:") => {
                    let read = uri.parse()?;
                    if identity.replace(read).is_some() {
                        return Err("names several identities".to_owned());
                    }
                }
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(address(bytes)),
                _ => {}
            }
        }
        let validity = found.validity();
        Ok(Certificate {
            identity,
            hosts,
            subject: found.subject().to_string(),
            issuer: found.issuer().to_string(),
            serial: found.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
            is_authority: found.is_ca(),
        })
    }

    /// True if it is valid at this time, as far as its dates go.
    #[must_use]
    pub fn is_current(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

impl fmt::Display for Certificate {
    /// The identity, or the subject where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => identity.fmt(f),
            None => f.write_str(&self.subject),
        }
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or(v6).map(|address| address.to_string())
}

/// A time in seconds since 1970. Earlier ones are as good as that.
fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The certificates of a file, in order, as bytes.
pub(crate) fn ders(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| invalid(path, format!("is no PEM text: {error}")))?;
    match found.len() {
        0 => Err(invalid(path, "holds no certificate")),
        count if CERTIFICATES_MAX < count => {
            Err(invalid(path, format!("holds {count} certificates, at most {CERTIFICATES_MAX}")))
        }
        _ => Ok(found),
    }
}

/// What the certificates of a file say, in order.
///
/// # Errors
/// `CERTIFICATE_INVALID` with the file.
pub fn read_all(path: &Path) -> Result<Vec<Certificate>, Error> {
    let read = |der: CertificateDer<'static>| {
        Certificate::read(&der).map_err(|reason| invalid(path, reason))
    };
    ders(path)?.into_iter().map(read).collect()
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    invalid(path, format!("cannot be read: {error}"))
}

pub(crate) fn invalid(path: &Path, reason: impl fmt::Display) -> Error {
    Error::new(Code::CertificateInvalid, format!("{} {reason}", path.display()))
        .with("file", path.display())
}
