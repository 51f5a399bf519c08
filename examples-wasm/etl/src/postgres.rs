//! A connection to PostgreSQL through `waft_guest::net`. The crate `postgres-protocol` encodes and decodes the messages, and has
//! the handshake SCRAM-SHA-256; this file sends and receives them.
//!
//! The connection has no TLS: what it transfers is readable on the network between the worker and the server. The password is
//! not transferred. A server that wants it in another way than by SCRAM is refused.

use std::{
    fmt,
    io::{Read, Write},
};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    IsNull,
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::{
        backend::{AuthenticationSaslBody, DataRowBody, ErrorResponseBody, Message},
        frontend,
    },
};
use waft_guest::{net::TcpStream, prelude::*};

/// How long the server lets a statement run, or a transaction wait for its next statement. If the worker's machine is lost, the
/// server notices no closed connection, and this ends the transaction.
const SERVER_TIMEOUT: &str = "60s";

/// The bytes that are read at once.
const READ_BYTES: usize = 4_096;

/// The columns of a row as texts. A column that is null is empty.
pub(crate) type Row = Vec<String>;

/// Where a database is, and as whom to connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    user: &'a str,
    /// The host and the port.
    server: &'a str,
    database: &'a str,
}

/// A connection. Dropping it ends the connection, and the server rolls an open transaction back.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    /// Messages to send.
    out: BytesMut,
    /// Bytes that were received, and are no whole message yet.
    received: BytesMut,
}

impl<'a> Address<'a> {
    /// Reads `postgres://USER@HOST:PORT/DATABASE`.
    pub(crate) fn parse(address: &'a str) -> Result<Self, Failure> {
        let parts = address.strip_prefix("postgres://").and_then(|rest| {
            let (user, rest) = rest.split_once('@')?;
            let (server, database) = rest.split_once('/')?;
            Some(Self { user, server, database })
        });
        match parts {
            // Not with the address in the message, which is recorded.
            Some(Self { user, .. }) if user.contains(':') => Err(Failure::permanent(
                "the address of the warehouse has a password, and the values of a run are recorded: leave the password out",
            )),
            Some(parts) => Ok(parts),
            None => Err(Failure::permanent(format!(
                "{address:?} is no address of a warehouse: write postgres://USER@HOST:PORT/DATABASE"
            ))),
        }
    }
}

impl Client {
    /// Connects to a database and authenticates.
    pub(crate) fn connect(address: &Address<'_>, password: &str) -> Result<Self, Failure> {
        Self::start(TcpStream::connect(address.server)?, address, password)
    }
}

impl<S: Read + Write> Client<S> {
    fn start(stream: S, address: &Address<'_>, password: &str) -> Result<Self, Failure> {
        let mut client = Self { stream, out: BytesMut::new(), received: BytesMut::new() };
        let parameters = [
            ("user", address.user),
            ("database", address.database),
            ("application_name", "waft etl"),
            ("client_encoding", "UTF8"),
            ("statement_timeout", SERVER_TIMEOUT),
            ("idle_in_transaction_session_timeout", SERVER_TIMEOUT),
        ];
        frontend::startup_message(parameters, &mut client.out)?;
        client.send()?;
        match client.receive()? {
            Message::AuthenticationSasl(body) => client.authenticate(&body, password)?,
            _ => {
                return Err(Failure::permanent(format!(
                    "the server {} does not ask for SCRAM-SHA-256: let pg_hba.conf say scram-sha-256 for the user {}",
                    address.server, address.user
                )));
            }
        }
        client.receive_until_ready()?;
        Ok(client)
    }

    /// Proves that this client knows the password, and checks that the server does.
    fn authenticate(&mut self, body: &AuthenticationSaslBody, password: &str) -> Result<(), Failure> {
        if !body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256))? {
            return Err(Failure::permanent("the server does not offer SCRAM-SHA-256"));
        }
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.out)?;
        self.send()?;
        let Message::AuthenticationSaslContinue(body) = self.receive()? else { return Err(unexpected()) };
        scram.update(body.data())?;
        frontend::sasl_response(scram.message(), &mut self.out)?;
        self.send()?;
        let Message::AuthenticationSaslFinal(body) = self.receive()? else { return Err(unexpected()) };
        scram.finish(body.data())?;
        match self.receive()? {
            Message::AuthenticationOk => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Does work in a transaction, and commits it. After an error, drop the client: that rolls the transaction back.
    pub(crate) fn transaction<T>(mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        self.query("BEGIN", &[])?;
        let done = work(&mut self)?;
        self.query("COMMIT", &[])?;
        Ok(done)
    }

    /// Executes a statement with texts for its parameters, and returns its rows.
    pub(crate) fn query(&mut self, statement: &str, parameters: &[&str]) -> Result<Vec<Row>, Failure> {
        let out = &mut self.out;
        frontend::parse("", statement, [], out)?;
        let write = |text: &&str, out: &mut BytesMut| {
            out.extend_from_slice(text.as_bytes());
            Ok(IsNull::No)
        };
        frontend::bind("", "", [], parameters, write, [], out)
            .map_err(|_| Failure::permanent("a parameter of a statement is too long"))?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        self.send()?;
        self.receive_until_ready()
    }

    /// Receives the rows of a statement, until the server is ready for the next one.
    fn receive_until_ready(&mut self) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        loop {
            match self.receive()? {
                Message::DataRow(row) => rows.push(columns(&row)?),
                Message::ReadyForQuery(_) => return Ok(rows),
                Message::ParseComplete | Message::BindComplete | Message::CommandComplete(_) => {}
                _ => return Err(unexpected()),
            }
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.out.split())?;
        Ok(self.stream.flush()?)
    }

    /// Receives the next message that is neither an error nor only information.
    fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            match Message::parse(&mut self.received)? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::BackendKeyData(_)) => {}
                Some(Message::ErrorResponse(body)) => return Err(ServerError::read(&body)?.into_failure()),
                Some(message) => return Ok(message),
                None => {
                    let mut part = [0; READ_BYTES];
                    match self.stream.read(&mut part)? {
                        0 => return Err(Failure::transient("the database has closed the connection")),
                        read => self.received.extend_from_slice(&part[..read]),
                    }
                }
            }
        }
    }
}

fn columns(row: &DataRowBody) -> Result<Row, Failure> {
    let column = |range: Option<std::ops::Range<usize>>| {
        let bytes = range.and_then(|range| row.buffer().get(range)).unwrap_or_default();
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(row.ranges().map(column).collect()?)
}

fn unexpected() -> Failure {
    Failure::permanent("the database has sent an unexpected message: is it PostgreSQL?")
}

/// An error that the server reports.
#[derive(Debug, Default)]
struct ServerError {
    /// Five characters (SQLSTATE), of which the first two are the class.
    code: String,
    message: String,
}

impl ServerError {
    fn read(body: &ErrorResponseBody) -> Result<Self, Failure> {
        let mut error = Self::default();
        let mut fields = body.fields();
        while let Some(field) = fields.next()? {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => error.code = text(),
                b'M' => error.message = text(),
                _ => {}
            }
        }
        Ok(error)
    }

    /// Whether another attempt may succeed: the connection was lost, transactions were in each other's way, or the server has too
    /// little of something, or is stopped or restarted.
    fn is_transient(&self) -> bool {
        ["08", "40", "53", "57"].iter().any(|class| self.code.starts_with(class)) || self.code == "55P03"
    }

    fn into_failure(self) -> Failure {
        let message = self.to_string();
        if self.is_transient() { Failure::transient(message) } else { Failure::permanent(message) }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the database says: {} ({})", self.message, self.code)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor};

    use waft_guest::Retryable;

    use super::*;

    /// A server that says what it says, whatever it receives.
    struct Script {
        says: Cursor<Vec<u8>>,
        received: Vec<u8>,
    }

    impl Script {
        fn new(messages: &[(u8, &[u8])]) -> Self {
            let mut bytes = Vec::new();
            for (tag, body) in messages {
                bytes.push(*tag);
                bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
                bytes.extend_from_slice(body);
            }
            Self { says: Cursor::new(bytes), received: Vec::new() }
        }
    }

    impl Read for Script {
        /// A byte at a time, so that each message arrives in parts.
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.says.read(&mut buffer[..1])
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.received.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const ADDRESS: Address<'static> = Address { user: "etl", server: "db.example:5432", database: "warehouse" };

    fn connected(messages: &[(u8, &[u8])]) -> Client<Script> {
        Client { stream: Script::new(messages), out: BytesMut::new(), received: BytesMut::new() }
    }

    /// The failure of a connection to a server that says this.
    fn refused(messages: &[(u8, &[u8])]) -> Failure {
        Client::start(Script::new(messages), &ADDRESS, "secret").err().expect("it fails")
    }

    #[test]
    fn an_address_has_a_user_and_no_password() {
        assert_eq!(Address::parse("postgres://etl@db.example:5432/warehouse").unwrap(), ADDRESS);
        for wrong in ["db.example:5432", "postgres://db.example:5432/warehouse", "postgres://etl@db.example:5432"] {
            assert!(Address::parse(wrong).unwrap_err().message().contains("is no address"), "{wrong}");
        }
        let failure = Address::parse("postgres://etl:secret@db.example:5432/warehouse").unwrap_err();
        assert!(failure.message().contains("has a password") && !failure.message().contains("secret"), "{failure}");
    }

    #[test]
    fn the_password_is_sent_to_no_server() {
        // It wants no password, the password itself, its MD5 sum, or another handshake.
        for wish in [&[0, 0, 0, 0][..], &[0, 0, 0, 3], &[0, 0, 0, 5, 1, 2, 3, 4], b"\0\0\0\x0aOTHER\0\0"] {
            let failure = refused(&[(b'R', wish)]);
            assert_eq!(failure.retryable(), Retryable::Permanent);
            assert!(failure.message().contains("SCRAM-SHA-256"), "{failure}");
        }
        let mut client = connected(&[]);
        let body = (b'R', &b"\0\0\0\x0aSCRAM-SHA-256\0\0"[..]);
        client.stream = Script::new(&[body, (b'R', b"\0\0\0\x0br=another,s=AAAA,i=4096")]);
        let Message::AuthenticationSasl(body) = client.receive().unwrap() else { panic!("it asks for SCRAM") };
        assert!(client.authenticate(&body, "secret").unwrap_err().message().contains("invalid nonce"));
        let sent = String::from_utf8_lossy(&client.stream.received).into_owned();
        assert!(sent.contains("SCRAM-SHA-256") && !sent.contains("secret"), "{sent}");
    }

    #[test]
    fn an_error_of_the_server_says_whether_a_retry_can_help() {
        for (code, retryable) in [
            ("23505", Retryable::Permanent),
            ("28P01", Retryable::Permanent),
            ("40001", Retryable::Transient),
            ("53300", Retryable::Transient),
            ("57P01", Retryable::Transient),
            ("55P03", Retryable::Transient),
        ] {
            let body = format!("SERROR\0C{code}\0Mno\0\0");
            let failure = refused(&[(b'N', b"SNOTICE\0\0"), (b'E', body.as_bytes())]);
            assert_eq!(
                (failure.message(), failure.retryable()),
                (&*format!("the database says: no ({code})"), retryable)
            );
        }
        let lost = refused(&[]);
        assert_eq!(
            (lost.message(), lost.retryable()),
            ("the database has closed the connection", Retryable::Transient)
        );
    }

    #[test]
    fn a_statement_has_parameters_and_rows() {
        let row = b"\0\x02\0\0\0\x0290\xff\xff\xff\xff";
        let mut client = connected(&[(b'1', b""), (b'2', b""), (b'D', row), (b'C', b"SELECT 1\0"), (b'Z', b"I")]);
        assert_eq!(client.query("SELECT $1", &["a page"]).unwrap(), [["90", ""]]);
        let sent = String::from_utf8_lossy(&client.stream.received).into_owned();
        assert!(sent.contains("SELECT $1\0") && sent.contains("\0\0\0\x06a page"), "{sent:?}");
        let unexpected = connected(&[(b'G', b"\0\0\0")]).query("COPY", &[]).unwrap_err();
        assert!(unexpected.message().contains("is it PostgreSQL?"), "{unexpected}");
    }
}
