//! The flags by which a command finds its certificate.

use std::path::{Path, PathBuf};

use clap::Args;
use quorate_client::{Paths, Tls};
use quorate_types::{ClientName, Code};

use crate::exit::Failure;

/// The variable that names the folder.
pub(crate) const FOLDER_VARIABLE: &str = "QUORATE_TLS_DIR";
/// The variables that the flags below read. Processes that are started without certificates must not
/// inherit them.
pub(crate) const VARIABLES: [&str; 5] =
    [FOLDER_VARIABLE, "QUORATE_IDENTITY", "QUORATE_CA", "QUORATE_CERT", "QUORATE_KEY"];

/// Where the certificate of this program lies. Without any of them it speaks plain text.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct TlsArgs {
    /// The folder of certificates; without it connections are not encrypted
    #[arg(long, global = true, env = FOLDER_VARIABLE, value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// Which client of the folder to be, if it holds several
    #[arg(long, global = true, env = "QUORATE_IDENTITY", value_name = "NAME")]
    identity: Option<ClientName>,
    /// The authorities to trust, in place of ca.crt of the folder
    #[arg(id = "tls_ca", long = "ca", global = true, env = "QUORATE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show, in place of one of the folder
    #[arg(
        id = "tls_cert",
        long = "cert",
        global = true,
        env = "QUORATE_CERT",
        value_name = "FILE"
    )]
    cert: Option<PathBuf>,
    /// Its key
    // Ids of their own: a global argument shares its id with no argument of any command.
    #[arg(id = "tls_key", long = "key", global = true, env = "QUORATE_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

impl TlsArgs {
    /// The folder, if one is named.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.tls_dir.as_deref()
    }

    /// The certificate of a client, if one is named.
    ///
    /// # Errors
    /// `CERTIFICATE_INVALID` with the file that is of no use.
    pub(crate) fn open(&self) -> Result<Option<Tls>, Failure> {
        let Some(paths) = self.paths()? else { return Ok(None) };
        Ok(Some(Tls::open(paths)?))
    }

    fn paths(&self) -> Result<Option<Paths>, Failure> {
        let ca = self.ca.clone().or_else(|| Some(self.dir()?.join("ca.crt")));
        match (&self.cert, &self.key, ca, self.dir()) {
            (Some(certificate), Some(key), Some(ca), _) => {
                Ok(Some(Paths { ca, certificate: certificate.clone(), key: key.clone() }))
            }
            (None, None, Some(ca), Some(dir)) => {
                let paths = match &self.identity {
                    Some(name) => Paths::of_client(dir, name),
                    None => Paths::of_only_client(dir).map_err(|error| {
                        Failure::from(error).with_fix(
                            "say which with --identity NAME, or make one with `quorate cert \
                             create-client`",
                        )
                    })?,
                };
                Ok(Some(Paths { ca, ..paths }))
            }
            (None, None, None, None) => Ok(None),
            _ => Err(Failure::new(
                Code::InvalidRequest,
                "to show a certificate takes a certificate, its key and whom to trust",
            )
            .with_fix("give --tls-dir DIR, or --ca, --cert and --key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: Option<&str>, ca: Option<&str>, cert: Option<&str>) -> TlsArgs {
        let path = |text: &str| PathBuf::from(text);
        TlsArgs {
            tls_dir: dir.map(path),
            identity: Some("shop".parse().unwrap()),
            ca: ca.map(path),
            cert: cert.map(path),
            key: cert.map(|text| PathBuf::from(text).with_extension("key")),
        }
    }

    #[test]
    fn a_certificate_is_found_by_folder_or_by_file() {
        // Goal: files win over the folder, one by one, and half a certificate is a mistake.
        let found = |dir, ca, cert| {
            let paths = args(dir, ca, cert).paths().map_err(|failure| failure.exit().number())?;
            Ok(paths.map(|it| (it.ca.display().to_string(), it.certificate.display().to_string())))
        };
        let some = |ca: &str, cert: &str| Ok(Some((ca.to_owned(), cert.to_owned())));
        assert_eq!(found(None, None, None), Ok(None));
        assert_eq!(found(Some("d"), None, None), some("d/ca.crt", "d/client-shop.crt"));
        assert_eq!(found(Some("d"), Some("c"), None), some("c", "d/client-shop.crt"));
        assert_eq!(found(Some("d"), None, Some("x.crt")), some("d/ca.crt", "x.crt"));
        assert_eq!(found(None, Some("c"), Some("x.crt")), some("c", "x.crt"));
        assert_eq!(found(None, Some("c"), None), Err(2));
        assert_eq!(found(None, None, Some("x.crt")), Err(2));
    }
}
