//! Takes the messages of a queue one by one. A consumer would get as many as its prefetch count, of any size, at once.

use lapin::options::BasicGetOptions;

use super::{
    consumer::retry_or_fail,
    properties::check_name,
    session::{Failure, Session},
    sessions::Sessions,
    settler::ChannelSettler,
};
use crate::{ConsumeError, Delivery, TakeLimits};

/// Takes messages on the current session, or on the next.
pub(super) async fn take(sessions: &Sessions, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, ConsumeError> {
    check_name(queue).map_err(|reason| ConsumeError::Refused { queue: queue.to_owned(), reason })?;
    loop {
        let session = sessions.current().await.ok_or(ConsumeError::Closed)?;
        match take_on(&session, queue, limits).await {
            Ok(deliveries) => return Ok(deliveries),
            Err(error) => retry_or_fail(queue, &session, &error).await?,
        }
    }
}

/// The channel lasts until the last delivery is settled.
async fn take_on(session: &Session, queue: &str, limits: TakeLimits) -> Result<Vec<Delivery>, Failure> {
    let channel = session.with_timeout(session.open_channel()).await?;
    let settler = ChannelSettler::new(channel.clone());
    session.flush_on_close(&settler);
    let name = channel.queue_name(queue);
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while taken.len() < limits.messages && bytes < limits.bytes {
        let message = session.with_timeout(channel.basic_get(name.as_str().into(), BasicGetOptions::default())).await?;
        let Some(message) = message else { break };
        let delivery = settler.take(message.delivery);
        bytes += delivery.message.body.len();
        taken.push(delivery);
    }
    Ok(taken)
}
