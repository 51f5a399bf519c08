//! A broker's greeting before login: its product and version.
//!
//! AMQP sends them in the first frame of a connection, `connection.start`. lapin reads that frame and discards them.

use std::{io, sync::Arc};

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::{
    protocol::{self, AMQPClass, connection::AMQPMethod},
    tcp::{AMQPUriTcpExt as _, TLSConfig},
    types::{AMQPValue, FieldTable},
};

use super::{
    ConnectError,
    connect::{Encryption, explain_io, unencrypted},
    options::{Endpoint, Options},
};

/// The header with which an AMQP 0.9.1 client starts.
const PROTOCOL: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// A frame's type, channel and size.
const FRAME_HEADER: usize = 7;

/// The type of a frame that holds a method.
const METHOD: u8 = 1;

/// The maximum size of the first frame: RabbitMQ's has some 500 bytes.
const MAX_FRAME_BYTES: u32 = 64 * 1024;

/// A broker's description of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Host and port of the broker.
    pub address: String,
    /// The product, for example `RabbitMQ`.
    pub product: String,
    /// Its version.
    pub version: String,
}

impl Greeting {
    /// Asks a broker for its product and version. It needs no login, so it works with a wrong password too. It has no time
    /// limit; dropping the future is safe.
    ///
    /// # Errors
    /// [`ConnectError`] when nothing answers at the address, or no AMQP broker does.
    pub async fn ask(options: Options) -> Result<Self, ConnectError> {
        let endpoint = Endpoint::parse(options)?;
        let encryption = Encryption::read(&endpoint).await?;
        let start = match read_start(&endpoint, &encryption).await {
            Ok(start) => start,
            Err(error) => return Err(explain_io(&endpoint, error)),
        };
        let text = |name: &str| text(&start.server_properties, name);
        Ok(Self { address: endpoint.address(), product: text("product"), version: text("version") })
    }
}

async fn read_start(
    endpoint: &Endpoint,
    encryption: &Encryption,
) -> Result<protocol::connection::Start, Arc<io::Error>> {
    let runtime = lapin::runtime::default_runtime().map_err(|error| Arc::new(io::Error::other(error)))?;
    let stream = unencrypted(endpoint).connect_with_config_async(TLSConfig::default(), &runtime).await?;
    let mut stream = encryption.encrypt(stream).await?;
    stream.write_all(PROTOCOL).await?;
    stream.flush().await?;
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header).await?;
    let [kind, _, _, size @ ..] = header;
    let size = u32::from_be_bytes(size);
    if kind != METHOD || size > MAX_FRAME_BYTES {
        return Err(not_amqp());
    }
    let mut frame = vec![0; usize::try_from(size).map_err(|_| not_amqp())?];
    stream.read_exact(&mut frame).await?;
    match protocol::parse_class(&frame[..]) {
        Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) => Ok(start),
        Ok(_) | Err(_) => Err(not_amqp()),
    }
}

/// An error whose kind is neither a connection error nor a TLS error.
fn not_amqp() -> Arc<io::Error> {
    Arc::new(io::Error::other("its first frame is not AMQP's connection.start"))
}

fn text(table: &FieldTable, name: &str) -> String {
    match table.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::ShortString(text)) => text.to_string(),
        Some(_) | None => "unknown".to_owned(),
    }
}
