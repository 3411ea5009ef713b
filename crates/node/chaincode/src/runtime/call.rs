//! One call: a transaction sent to a registered chaincode and the requests it makes until it ends.

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::peer::ChaincodeMessage;
use selvage_proto::peer::chaincode_message::Type;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::shim::{Step, TxContext, TxHandler};

use super::error::InvokeError;
use super::parts::{Invocation, InvokeKind, RuntimeConfig};
use super::registry::{Link, lock};

/// A request and an end; see the dispatch of streams.
const TX_QUEUE: usize = 2;

/// Ends a transaction on the session however its call ends.
struct OpenTx<'a> {
    link: &'a Link,
    channel: &'a str,
    txid: &'a str,
}

impl Drop for OpenTx<'_> {
    fn drop(&mut self) {
        lock(&self.link.session).close(self.channel, self.txid);
    }
}

pub(super) async fn run(
    config: &RuntimeConfig,
    link: &Link,
    invocation: Invocation,
    ctx: &mut dyn TxContext,
) -> Result<ChaincodeMessage, InvokeError> {
    let Ok(_permit) = link.calls.try_acquire() else {
        return Err(InvokeError::Overloaded(config.concurrent_calls));
    };
    let deadline = Instant::now() + invocation.timeout.unwrap_or(config.execute_timeout);
    let (sender, mut messages) = mpsc::channel(TX_QUEUE);
    lock(&link.session)
        .open(&invocation.channel, &invocation.txid, sender)
        .map_err(InvokeError::Duplicate)?;
    let _open = OpenTx {
        link,
        channel: &invocation.channel,
        txid: &invocation.txid,
    };
    let first = first_message(&invocation);
    let mut handler = TxHandler::new(
        &invocation.target.name,
        &invocation.channel,
        &invocation.txid,
        invocation.kind == InvokeKind::Init,
        config.queries,
    );
    let conversation = converse(link, first, &mut messages, &mut handler, ctx);
    let outcome = tokio::select! {
        outcome = conversation => outcome,
        () = sleep_until(deadline) => Err(InvokeError::Timeout),
        () = ended(link) => Err(InvokeError::Terminated),
    };
    if outcome.is_err() {
        handler.abandon(ctx);
    }
    outcome
}

async fn ended(link: &Link) {
    // The sender lives in the link, so waiting only ends with the stream.
    let _ = link.ended.subscribe().wait_for(|ended| *ended).await;
}

async fn converse(
    link: &Link,
    first: ChaincodeMessage,
    messages: &mut mpsc::Receiver<ChaincodeMessage>,
    handler: &mut TxHandler,
    ctx: &mut dyn TxContext,
) -> Result<ChaincodeMessage, InvokeError> {
    link.outbound
        .send(first)
        .await
        .map_err(|_| InvokeError::Terminated)?;
    loop {
        let message = messages.recv().await.ok_or(InvokeError::Terminated)?;
        let reply = match handler.handle(message, ctx) {
            Step::Finished(message) => return Ok(message),
            Step::Reply(reply) => reply,
            Step::Call(call) => {
                let outcome = ctx.call_chaincode(call).await;
                handler.answer_call(outcome)
            }
        };
        // Before the answer leaves: the next request may follow at once.
        lock(&link.session).answered(&reply.channel_id, &reply.txid);
        link.outbound
            .send(reply)
            .await
            .map_err(|_| InvokeError::Terminated)?;
    }
}

fn first_message(invocation: &Invocation) -> ChaincodeMessage {
    let kind = match invocation.kind {
        InvokeKind::Transaction => Type::Transaction,
        InvokeKind::Init => Type::Init,
    };
    ChaincodeMessage {
        r#type: kind as i32,
        payload: Bytes::from(invocation.input.encode_to_vec()),
        txid: invocation.txid.clone(),
        channel_id: invocation.channel.clone(),
        proposal: invocation.proposal.clone(),
        ..Default::default()
    }
}
