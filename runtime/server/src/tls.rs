//! TLS for the connections of a server. A certificate that is replaced on disk is used without a restart.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use credentials::{FileError, ServerTls};
use store::{FileStates, check_regularly};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tracing::{info, warn};

/// How often the files are compared with what was read. Certificates are replaced some weeks before they end.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// The certificate of a server, and whose certificates its clients must show.
pub struct Tls {
    source: ServerTls,
    states: FileStates,
    acceptor: Acceptor,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be read, or certificate and key do not belong together.
    pub fn read(source: ServerTls) -> Result<Self, FileError> {
        let states = FileStates::of(source.files());
        let acceptor = Acceptor { config: Arc::new(RwLock::new(config(&source)?)) };
        Ok(Self { source, states, acceptor })
    }

    /// Makes the TLS connections of a server.
    pub(crate) fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Reads the files again whenever one changes, for ever. Files that cannot be used change nothing.
    pub(crate) async fn follow_files(self) {
        match check_regularly("certificate", CHECK_INTERVAL, self, Self::check_files).await {}
    }

    fn check_files(&mut self) {
        let states = FileStates::of(self.source.files());
        if states == self.states {
            return;
        }
        self.states = states;
        match config(&self.source) {
            Ok(config) => {
                let file = self.source.identity.certificate.display();
                info!(%file, "the certificate has changed: new connections use it");
                *self.acceptor.config.write().unwrap_or_else(PoisonError::into_inner) = config;
            }
            // One of the files may have been replaced before the other.
            Err(error) => warn!(%error, "the certificate has changed: the one before it stays in use"),
        }
    }
}

/// A new configuration also forgets the sessions of clients, whose certificates another authority may have signed.
fn config(source: &ServerTls) -> Result<Arc<ServerConfig>, FileError> {
    let mut config = source.config()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Makes TLS connections with the current certificate.
#[derive(Clone)]
pub(crate) struct Acceptor {
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Acceptor {
    /// Makes the handshake.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    fn current(&self) -> Arc<ServerConfig> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        os::unix::fs::PermissionsExt as _,
        path::PathBuf,
        time::SystemTime,
    };

    use credentials::Identity;

    use super::*;

    #[test]
    fn a_replaced_certificate_is_used_once_its_key_belongs_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let files: [PathBuf; 3] = ["cert.pem", "key.pem", "clients.pem"].map(|name| folder.path().join(name));
        let mut seconds = 0;
        let mut write = |number: usize, text: String| {
            fs::write(&files[number], text).unwrap();
            fs::set_permissions(&files[number], Permissions::from_mode(0o600)).unwrap();
            // The clock of a file system may be coarse.
            seconds += 1;
            let changed = SystemTime::now() + Duration::from_secs(seconds);
            File::options().write(true).open(&files[number]).unwrap().set_modified(changed).unwrap();
        };
        let identity = Identity { certificate: files[0].clone(), key: files[1].clone() };
        let source = ServerTls { identity, client_authority: Some(files[2].clone()) };
        let refused = |culprit: &str| Tls::read(source.clone()).is_err_and(|error| error.to_string().contains(culprit));
        let made = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let [first, second] = [made(), made()];
        write(2, first.cert.pem());
        assert!(refused("cert.pem"));
        write(0, first.cert.pem());
        write(1, second.signing_key.serialize_pem());
        assert!(refused("key.pem"));
        write(1, first.signing_key.serialize_pem());
        fs::set_permissions(&files[1], Permissions::from_mode(0o644)).unwrap();
        assert!(refused("chmod o= "));
        write(1, first.signing_key.serialize_pem());
        write(2, "no certificate".to_owned());
        assert!(refused("clients.pem"));
        write(2, first.cert.pem());
        let mut tls = Tls::read(source.clone()).unwrap();
        let acceptor = tls.acceptor();
        let before = acceptor.current();
        tls.check_files();
        assert!(Arc::ptr_eq(&before, &acceptor.current()), "nothing has changed");
        write(0, second.cert.pem());
        tls.check_files();
        assert!(Arc::ptr_eq(&before, &acceptor.current()), "the key is still the old one");
        write(1, second.signing_key.serialize_pem());
        tls.check_files();
        let after = acceptor.current();
        assert!(!Arc::ptr_eq(&before, &after));
        write(2, second.cert.pem());
        tls.check_files();
        assert!(!Arc::ptr_eq(&after, &acceptor.current()), "another authority is in use");
    }
}
