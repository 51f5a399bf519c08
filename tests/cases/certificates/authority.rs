//! An authority that issues certificates.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use xtask::tls::ServerTls;

/// An authority of its own, whose certificate is in a file. No machine trusts it.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of a certificate that an authority has issued, and of its key.
pub(super) struct Issued {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self { issuer, folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::write(authority.file(), authority.issuer.pem()).expect("the folder can be written");
        authority
    }

    /// The file of the certificate of the authority.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Issues a certificate with this common name, for these hosts.
    pub(super) fn issue(&self, name: &str, hosts: &[&str]) -> Issued {
        let (certificate, key) = self.issue_texts(name, hosts);
        let write = |kind: &str, text: &str| write_private(&self.folder.path().join(format!("{name}.{kind}")), text);
        Issued { certificate: write("pem", &certificate), key: write("key", &key) }
    }

    /// The TLS of a server on this machine whose clients must show a certificate of this authority.
    pub(super) fn server_tls(&self) -> ServerTls {
        let (certificate, key) = self.issue_texts("server", &["127.0.0.1", "localhost"]);
        ServerTls { certificate, key, client_authority: self.issuer.pem() }
    }

    fn issue_texts(&self, name: &str, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params(name, hosts).signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write_private(file: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).expect("the folder can be written");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
    file.to_owned()
}
