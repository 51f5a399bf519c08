//! The parameters after the `?` of an address. They have the names and the meanings of RabbitMQ's URI specification.

use std::path::PathBuf;

use credentials::{ClientTls, Identity, Trust};
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};

/// All parameters. lapin reads those up to `auth_mechanism`.
const KNOWN: [&str; 10] = [
    "heartbeat",
    "connection_timeout",
    "channel_max",
    "frame_max",
    "auth_mechanism",
    "cacertfile",
    "certfile",
    "keyfile",
    "server_name_indication",
    "verify",
];

/// The maximum length of a name that an error quotes.
const MAX_QUOTED: usize = 40;

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsOptions {
    pub(super) client: ClientTls,
    /// The name that the certificate of the broker must have.
    pub(super) server_name: String,
}

/// Reads the parameters that concern TLS; `None` for an address without TLS. `more_authorities` is a file of trusted
/// certificates, in addition to those of the machine.
///
/// # Errors
/// Which parameter cannot be used, and why. The error never quotes a value that may be a secret.
pub(super) fn tls_options(
    url: &str,
    uri: &AMQPUri,
    more_authorities: Option<PathBuf>,
) -> Result<Option<TlsOptions>, String> {
    let mut written = Written::parse(url)?;
    let encrypts = uri.scheme == AMQPScheme::AMQPS;
    if let Some((name, _)) = written.tls.first().filter(|_| !encrypts) {
        return Err(format!("its parameter {name} needs amqps://"));
    }
    written.check_verify()?;
    let identity = match (written.take("certfile"), written.take("keyfile")) {
        (Some(certificate), Some(key)) => Some(Identity { certificate: certificate.into(), key: key.into() }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("its parameters certfile and keyfile belong together: give both or none".into());
        }
    };
    if uri.query.auth_mechanism == Some(SASLMechanism::External) && identity.is_none() {
        return Err("its parameter auth_mechanism=external needs amqps://, certfile and keyfile".into());
    }
    if !encrypts {
        return Ok(None);
    }
    let trust = match (written.take("cacertfile"), more_authorities) {
        (Some(_), Some(_)) => return Err("give its parameter cacertfile or --tls-ca, not both".into()),
        (Some(file), None) => Trust::Only(file.into()),
        (None, Some(file)) => Trust::MachineAnd(file),
        (None, None) => Trust::Machine,
    };
    let server_name = match written.take("server_name_indication") {
        Some(name) if name == "disable" => {
            return Err(
                "its parameter server_name_indication=disable is refused: waft checks the name of the broker".into()
            );
        }
        Some(name) => name,
        None => uri.authority.host.clone(),
    };
    Ok(Some(TlsOptions { client: ClientTls { trust, identity }, server_name }))
}

/// The parameters of an address that lapin does not read.
struct Written {
    tls: Vec<(String, String)>,
}

impl Written {
    fn parse(url: &str) -> Result<Self, String> {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        let (mut seen, mut tls) = (Vec::new(), Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let Some(position) = KNOWN.iter().position(|known| *known == name) else {
                let name: String = name.chars().take(MAX_QUOTED).collect();
                return Err(format!("there is no parameter {name:?}; the parameters are {}", KNOWN.join(", ")));
            };
            if seen.contains(&name) {
                return Err(format!("its parameter {name} is given twice"));
            }
            seen.push(name);
            // lapin has read the others.
            if position > 4 {
                let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
                if value.is_empty() {
                    return Err(format!("its parameter {name} has no value"));
                }
                tls.push((name.to_owned(), value));
            }
        }
        Ok(Self { tls })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let position = self.tls.iter().position(|(known, _)| known == name)?;
        Some(self.tls.remove(position).1)
    }

    fn check_verify(&mut self) -> Result<(), String> {
        match self.take("verify").as_deref() {
            None | Some("verify_peer") => Ok(()),
            Some("verify_none") => {
                Err("its parameter verify=verify_none is refused: waft checks the certificate of the \
                broker; name the authority of that certificate with cacertfile"
                    .into())
            }
            Some(_) => Err("its parameter verify can only be verify_peer".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, more: Option<&str>) -> Result<Option<TlsOptions>, String> {
        tls_options(url, &url.parse().unwrap(), more.map(PathBuf::from))
    }

    #[test]
    fn the_files_of_certificates_are_parameters_of_the_address() {
        let url = "amqps://broker/kitchen?cacertfile=/a%20b/ca.pem&heartbeat=40&certfile=c+1.pem&keyfile=k.pem\
                   &auth_mechanism=external&verify=verify_peer&server_name_indication=rabbit#x";
        let identity = Identity { certificate: "c+1.pem".into(), key: "k.pem".into() };
        let client = ClientTls { trust: Trust::Only("/a b/ca.pem".into()), identity: Some(identity) };
        assert_eq!(options(url, None), Ok(Some(TlsOptions { client, server_name: "rabbit".into() })));
        let trust = |url, more| options(url, more).map(|tls| tls.map(|tls| (tls.client.trust, tls.server_name)));
        assert_eq!(trust("amqps://broker", None), Ok(Some((Trust::Machine, "broker".into()))));
        let more = Trust::MachineAnd("ca.pem".into());
        assert_eq!(trust("amqps://broker", Some("ca.pem")), Ok(Some((more, "broker".into()))));
        assert_eq!(
            trust("amqp://broker?heartbeat=40", Some("ca.pem")),
            Ok(None),
            "the flag may be given for all brokers"
        );
    }

    #[test]
    fn a_parameter_that_cannot_be_used_is_named() {
        for (url, reason) in [
            ("amqps://broker?verify=verify_none", "verify=verify_none is refused"),
            ("amqps://broker?verify=sometimes", "verify can only be verify_peer"),
            ("amqps://broker?server_name_indication=disable", "server_name_indication=disable is refused"),
            ("amqps://broker?cacertfle=x", "there is no parameter \"cacertfle\"; the parameters are heartbeat,"),
            ("amqp://broker?password=x", "there is no parameter \"password\""),
            ("amqp://broker?cacertfile=x", "cacertfile needs amqps://"),
            ("amqp://broker?verify=verify_peer", "verify needs amqps://"),
            ("amqps://broker?certfile=x", "certfile and keyfile belong together"),
            ("amqps://broker?auth_mechanism=external", "auth_mechanism=external needs"),
            ("amqps://broker?heartbeat=4&heartbeat=5", "heartbeat is given twice"),
            ("amqps://broker?cacertfile=", "cacertfile has no value"),
        ] {
            let error = options(url, None).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
        let both = options("amqps://broker?cacertfile=x", Some("y")).unwrap_err();
        assert!(both.contains("cacertfile or --tls-ca"), "{both}");
    }
}
