//! The baseline: publish, consume, answer, acknowledge with lapin alone, and with waft's delivery guarantees.
//!
//! It uses quorum queues, persistent and mandatory messages, and a confirm for every publish. An answer is confirmed before
//! its job is acknowledged. A job's outcome counts once its answer is consumed.

use std::sync::Arc;

use anyhow::{Context, ensure};
use futures::{StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// Roughly the size of a small job in bytes.
const JOB: [u8; 300] = [7; 300];
const ANSWER: [u8; 80] = [8; 80];

/// A client and a worker, with one connection each.
pub(crate) struct RawBaseline {
    client: Connection,
    jobs: Channel,
    answers: Consumer,
    names: [String; 2],
    _worker: (Connection, AbortOnDropHandle<()>),
}

impl RawBaseline {
    pub(crate) async fn start(url: &str, slots: u16) -> anyhow::Result<Self> {
        let unique = uuid::Uuid::now_v7();
        let names = [format!("bench.raw.jobs.{unique}"), format!("bench.raw.answers.{unique}")];
        let client = connect(url).await?;
        let jobs = confirming(&client).await?;
        for name in &names {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            jobs.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
        }
        let answers = consume(&client, &names[1], 2_048).await?;
        let worker = connect(url).await?;
        let channel = confirming(&worker).await?;
        let consumer = consume(&worker, &names[0], slots).await?;
        let worker_task = TaskTracker::new().spawn(work(consumer, channel, names[1].clone()));
        Ok(Self { client, jobs, answers, names, _worker: (worker, AbortOnDropHandle::new(worker_task)) })
    }

    /// Publishes `count` jobs and returns when all are answered.
    pub(crate) async fn round(&mut self, count: usize) -> anyhow::Result<()> {
        let publishing = try_join_all((0..count).map(|_| publish(&self.jobs, &self.names[0], &JOB)));
        let answers = &mut self.answers;
        let receiving = async move {
            for _ in 0..count {
                let delivery = answers.next().await.context("the answers ended")??;
                delivery.ack(BasicAckOptions::default()).await?;
            }
            anyhow::Ok(())
        };
        futures::try_join!(publishing, receiving)?;
        Ok(())
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for name in self.names {
            self.jobs.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        self.client.close(200, "done".into()).await?;
        Ok(())
    }
}

async fn work(mut jobs: Consumer, answers: Channel, to: String) {
    let answers = Arc::new(answers);
    let calls = TaskTracker::new();
    while let Some(Ok(delivery)) = jobs.next().await {
        let (answers, to) = (answers.clone(), to.clone());
        calls.spawn(async move {
            if publish(&answers, &to, &ANSWER).await.is_ok() {
                // A closing connection does not reply.
                let _ = delivery.ack(BasicAckOptions::default()).await;
            }
        });
    }
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) -> anyhow::Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id("run.task.1.1.apply".into());
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    ensure!(confirm.is_ack(), "the broker did not take a message");
    Ok(())
}

async fn connect(url: &str) -> anyhow::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("bench raw".into());
    Ok(Connection::connect(url, properties).await?)
}

async fn confirming(connection: &Connection) -> anyhow::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn consume(connection: &Connection, queue: &str, prefetch: u16) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), "bench".into(), options, FieldTable::default()).await?)
}
