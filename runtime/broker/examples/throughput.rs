//! Measures messages per second through a quorum queue, with this crate and with plain lapin, under the same guarantees:
//! persistent, mandatory, confirmed, and with equally many in flight.
//!
//! `cargo run --release -p waft-broker --example throughput -- amqp://guest:guest@127.0.0.1:5672/%2f [MESSAGES]`

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use broker::{Amqp, Broker, Message, Options, Properties, Queue, QueueKind, Routing};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::try_join, stream};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const REPETITIONS: usize = 5;
const QUEUE: &str = "waft-throughput";
const IN_FLIGHT: usize = 1000;
const PREFETCH: u16 = 200;
const BODY: [u8; 512] = [b'x'; 512];

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().ok_or("give the broker's address")?;
    let messages = arguments.next().map_or(Ok(50_000), |count| count.parse())?;
    let broker = Amqp::connect(Options::new(url.as_str())).await?;
    let kind = QueueKind::Quorum {
        delivery_limit: Some(5),
        dead_letter_to: None,
        single_active_consumer: false,
        expires: None,
    };
    broker.declare_queue(&Queue { name: QUEUE.to_owned(), kind }).await?;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    for _ in 0..REPETITIONS {
        report("lapin: publish", messages, timed(publish_with_lapin(&channel, messages)).await?);
        report("lapin: consume", messages, timed(consume_with_lapin(&channel, messages)).await?);
        let both =
            async { try_join(publish_with_lapin(&channel, messages), consume_with_lapin(&channel, messages)).await };
        report("lapin: both", messages, timed(both).await?);
        report("waft:  publish", messages, timed(publish(&broker, messages)).await?);
        report("waft:  consume", messages, timed(consume(&broker, messages)).await?);
        let both = async { try_join(publish(&broker, messages), consume(&broker, messages)).await };
        report("waft:  both", messages, timed(both).await?);
    }
    broker.delete_queue(QUEUE).await?;
    broker.close().await;
    Ok(())
}

fn report(what: &str, messages: usize, time: Duration) {
    println!("{what:<14} {:>9.0} messages/s", messages as f64 / time.as_secs_f64());
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<Duration> {
    let start = Instant::now();
    work.await?;
    Ok(start.elapsed())
}

async fn publish(broker: &Amqp, messages: usize) -> Result<()> {
    let message = Message {
        exchange: String::new(),
        key: QUEUE.to_owned(),
        routing: Routing::Mandatory,
        persistent: true,
        priority: 0,
        properties: Properties::default(),
        body: Bytes::from_static(&BODY),
    };
    stream::iter(0..messages)
        .map(|_| broker.publish(message.clone()))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(())
}

async fn consume(broker: &Amqp, messages: usize) -> Result<()> {
    let mut consumer = broker.consume(QUEUE, PREFETCH).await?;
    for _ in 0..messages {
        consumer.next().await.ok_or("the consumer has ended")?.accept();
    }
    Ok(())
}

async fn publish_with_lapin(channel: &Channel, messages: usize) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    stream::iter(0..messages)
        .map(|_| async {
            channel.basic_publish("".into(), QUEUE.into(), options, &BODY, properties.clone()).await?.await
        })
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

async fn consume_with_lapin(channel: &Channel, messages: usize) -> Result<()> {
    let (queue, tag) = (QUEUE.into(), "plain".into());
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue, tag, options, FieldTable::default()).await?;
    // No delivery waits for the acknowledgement of the previous one.
    consumer
        .take(messages)
        .map(|delivery| async { delivery?.ack(BasicAckOptions::default()).await })
        .buffer_unordered(PREFETCH.into())
        .try_for_each(|_| async { Ok(()) })
        .await?;
    channel.basic_cancel("plain".into(), Default::default()).await?;
    Ok(())
}
