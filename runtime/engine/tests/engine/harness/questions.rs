//! Questions of workers whether a call may start.

use broker::{Broker as _, Message, Properties, Queue, QueueKind, Routing};
use flow::CallId;
use protocol::{Control, EngineSecret, Report, topology};

use super::Harness;

impl Harness {
    /// A worker asks whether it may begin a call; returns the engine's reply.
    pub(crate) async fn may_start(&self, call: &CallId) -> bool {
        match self.answer_to_question(call, &self.secret).await {
            Control::MayStart { call: about, wanted, .. } if about == *call => wanted,
            other => panic!("{other:?}"),
        }
    }

    /// A worker with a job of some engines asks whether it may begin its call; returns the engine's reply.
    pub(crate) async fn answer_to_question(&self, call: &CallId, secret: &EngineSecret) -> Control {
        let queue = format!("waft.reply.{}", uuid::Uuid::now_v7());
        let broker = self.broker.connect();
        let reply_queue = Queue { name: queue.clone(), kind: QueueKind::Private };
        broker::topology::declare_bound(&broker, &reply_queue, &[topology::REPLIES]).await.unwrap();
        let mut answers = broker.consume(&queue, 1).await.unwrap();
        let message = Message {
            exchange: topology::REPORTS.into(),
            key: self.signal_to.clone(),
            routing: Routing::Mandatory,
            persistent: false,
            priority: 0,
            properties: Properties { reply_to: Some(queue), ..Properties::default() },
            body: Report::AskStart { call: call.clone() }.encode(&secret.call_keys(call, [])).into(),
        };
        broker.publish(message).await.unwrap();
        let delivery = answers.next().await.expect("an answer");
        let control = Control::decode(&delivery.message.body).expect("it can be read");
        delivery.accept();
        control
    }
}
