//! What goes from one channel to one of its nodes, of one kind: a queue, and a task that keeps a
//! stream open while there is something to send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use selvage_env::Env;
use selvage_net::services::cluster_client::ClusterClient;
use selvage_net::services::cluster_node_service_client::ClusterNodeServiceClient;
use selvage_net::tonic::{Code, Response, Status, Streaming};
use selvage_net::{Backoff, CancellationToken, MAX_MESSAGE_BYTES, describe_status};
use selvage_proto::common::Envelope;
use selvage_proto::orderer::cluster_node_service_step_request::Payload as BftPayload;
use selvage_proto::orderer::step_request::Payload;
use selvage_proto::orderer::{
    ClusterNodeServiceStepRequest, ConsensusRequest, NodeConsensusRequest,
    NodeTransactionOrderRequest, StepRequest, SubmitRequest,
};
use tokio::time::Instant;

use super::auth;
use super::connections::{Connection, Opened, PAUSE};
use super::members::Node;
use super::metrics::CommMetrics;
use super::ports::Reports;
use super::queue::{Queue, Refused};
use crate::local_msp::Signer;

/// Bytes that may wait for one node and kind of message.
const MAX_BYTES: usize = 32 << 20;
/// A stream that lived for so long was no failure.
const STEADY: Duration = Duration::from_secs(5);
/// How often a trouble that lasts is told.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// The kinds of messages, each with its own stream, so that transactions cannot hold up consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Traffic {
    Consensus,
    Transaction,
}

impl Traffic {
    fn name(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Transaction => "transaction",
        }
    }
}

/// A message on its way out.
pub(crate) enum Outgoing {
    Consensus { payload: Bytes, metadata: Bytes },
    Transaction { envelope: Envelope, sequence: u64 },
}

impl Outgoing {
    fn size(&self) -> usize {
        match self {
            Self::Consensus { payload, metadata } => payload.len() + metadata.len(),
            Self::Transaction { envelope, .. } => envelope.payload.len() + envelope.signature.len(),
        }
    }

    fn for_raft(self, channel: &str) -> StepRequest {
        let channel = channel.to_owned();
        let payload = match self {
            Self::Consensus { payload, metadata } => Payload::ConsensusRequest(ConsensusRequest {
                channel,
                payload,
                metadata,
            }),
            Self::Transaction { envelope, sequence } => Payload::SubmitRequest(SubmitRequest {
                channel,
                last_validation_seq: sequence,
                payload: Some(envelope),
            }),
        };
        StepRequest {
            payload: Some(payload),
        }
    }

    fn for_bft(self) -> ClusterNodeServiceStepRequest {
        let payload = match self {
            Self::Consensus { payload, metadata } => {
                BftPayload::NodeConrequest(NodeConsensusRequest { payload, metadata })
            }
            Self::Transaction { envelope, sequence } => {
                BftPayload::NodeTranrequest(NodeTransactionOrderRequest {
                    last_validation_seq: sequence,
                    payload: Some(envelope),
                })
            }
        };
        ClusterNodeServiceStepRequest {
            payload: Some(payload),
        }
    }
}

/// What all lanes of a node share.
pub(crate) struct Common {
    pub(crate) env: Env,
    pub(crate) signer: Signer,
    pub(crate) metrics: Arc<CommMetrics>,
    pub(crate) rpc_timeout: Duration,
    pub(crate) max_message: usize,
    pub(crate) send_buffer: usize,
}

/// One way out of this node.
pub(crate) struct Lane {
    common: Arc<Common>,
    channel: String,
    pub(crate) node: Arc<Node>,
    /// This node's number, on BFT channels.
    pub(crate) own: Option<u64>,
    traffic: Traffic,
    reports: Arc<Reports>,
    connection: Arc<Connection>,
    queue: Arc<Queue<Outgoing>>,
    stop: CancellationToken,
    told: Mutex<Option<(String, Instant)>>,
}

/// Why a stream is over.
struct Failure {
    reason: String,
    /// Not to be tried again before then.
    until: Option<Instant>,
    /// Whether the connection under the stream is of no use any more.
    broken: bool,
}

impl Lane {
    pub(crate) fn start(
        common: Arc<Common>,
        channel: &str,
        node: Arc<Node>,
        own: Option<u64>,
        traffic: Traffic,
        reports: Arc<Reports>,
        connection: Arc<Connection>,
    ) -> Arc<Self> {
        let lane = Arc::new(Self {
            queue: Arc::new(Queue::new(common.send_buffer, MAX_BYTES)),
            common,
            channel: channel.to_owned(),
            node,
            own,
            traffic,
            reports,
            connection,
            stop: CancellationToken::new(),
            told: Mutex::new(None),
        });
        lane.show_length();
        tokio::spawn(lane.clone().run());
        lane
    }

    /// Ends the lane; what waits is dropped.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.queue.suspend();
        let labels = self.labels();
        self.common.metrics.queue_length.remove(&labels);
        self.common.metrics.queue_capacity.remove(&labels);
    }

    /// Queues a message; the oldest ones make room.
    pub(crate) fn push(&self, message: Outgoing) {
        let size = message.size();
        if size > self.common.max_message {
            tracing::error!(
                channel = self.channel,
                "a message of {size} bytes to node {} is above the limit of {} bytes \
                 (General.MaxSendMsgSize) and was dropped",
                self.node.id,
                self.common.max_message
            );
            self.lost(1);
            return;
        }
        let dropped = self.queue.push(message, size);
        self.lost(dropped);
        self.show_length();
    }

    /// Queues a message where there is room.
    pub(crate) fn offer(&self, message: Outgoing) -> Result<(), Refused> {
        let size = message.size();
        let result = self.queue.offer(message, size);
        self.show_length();
        result
    }

    fn labels(&self) -> [&str; 3] {
        [&self.node.address, self.traffic.name(), &self.channel]
    }

    fn show_length(&self) {
        let metrics = &self.common.metrics;
        let labels = self.labels();
        let capacity = self.queue.capacity();
        metrics
            .queue_length
            .with(&labels)
            .set(self.queue.len() as i64);
        metrics.queue_capacity.with(&labels).set(capacity as i64);
    }

    fn lost(&self, messages: usize) {
        if messages == 0 {
            return;
        }
        let dropped = &self.common.metrics.dropped;
        dropped
            .with(&[&self.node.address, &self.channel])
            .add(messages as u64);
        self.reports.report(self.node.id);
    }

    async fn run(self: Arc<Self>) {
        let _worker = self.common.metrics.workers.enter(&self.channel);
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.queue.some() => {}
            }
            let began = Instant::now();
            let failure = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                failure = self.attempt() => failure,
            };
            if began.elapsed() > STEADY {
                backoff.reset();
            }
            let pause = backoff.pause(self.common.env.rng.as_ref());
            let until = (began + pause).max(failure.until.unwrap_or(began));
            // Old consensus messages are of no use later, and transactions are handed on again by
            // whoever waits for them.
            let dropped = self.queue.suspend();
            self.lost(dropped);
            self.reports.report(self.node.id);
            self.show_length();
            self.tell(failure.reason);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(until) => {}
            }
            self.queue.resume();
        }
    }

    fn tell(&self, reason: String) {
        let mut told = self.told.lock();
        let (channel, node, address) = (&self.channel, self.node.id, &self.node.address);
        let kind = self.traffic.name();
        let again = told
            .as_ref()
            .is_none_or(|(text, at)| *text != reason || at.elapsed() > TELL_AGAIN);
        if !again {
            tracing::debug!(channel, "still no {kind} stream to {address}: {reason}");
            return;
        }
        tracing::warn!(
            channel,
            node,
            "the {kind} stream to {address} failed, trying again with growing pauses: {reason}"
        );
        *told = Some((reason, Instant::now()));
    }

    fn tell_steady(&self) {
        if self.told.lock().take().is_some() {
            let (channel, node, address) = (&self.channel, self.node.id, &self.node.address);
            let kind = self.traffic.name();
            tracing::info!(channel, node, "the {kind} stream to {address} works again");
        }
    }

    async fn attempt(&self) -> Failure {
        let opened = match self.connection.open().await {
            Ok(opened) => opened,
            Err(down) => {
                return Failure {
                    reason: down.reason,
                    until: Some(down.until),
                    broken: false,
                };
            }
        };
        let _stream = self.common.metrics.egress_streams.enter(&self.channel);
        let failure = match self.own {
            None => self.raft_stream(&opened).await,
            Some(own) => self.bft_stream(&opened, own).await,
        };
        if failure.broken {
            self.connection.broken(&opened).await;
        }
        failure
    }

    async fn raft_stream(&self, opened: &Opened) -> Failure {
        let channel = self.channel.clone();
        let requests = self.messages().map(move |m| m.for_raft(&channel));
        let mut client = ClusterClient::new(opened.dialled.channel.clone())
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let call = client.step(requests);
        self.watch(call, opened).await
    }

    async fn bft_stream(&self, opened: &Opened, own: u64) -> Failure {
        let tls = opened.dialled.tls.as_ref();
        let now = self.common.env.clock.unix_seconds();
        let signer = self.common.signer.current();
        let request = tls.and_then(|tls| {
            auth::node_auth_request(&self.channel, own, self.node.id, now, tls, &signer)
        });
        let Some(request) = request else {
            return Failure {
                reason: "the connection was closed".to_owned(),
                until: None,
                broken: true,
            };
        };
        let first = ClusterNodeServiceStepRequest {
            payload: Some(BftPayload::NodeAuthrequest(request)),
        };
        let requests = futures::stream::iter([first]).chain(self.messages().map(Outgoing::for_bft));
        let mut client = ClusterNodeServiceClient::new(opened.dialled.channel.clone())
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let call = client.step(requests);
        let mut failure = self.watch(call, opened).await;
        if failure.reason.contains("access denied") {
            failure.reason.push_str(
                " (the other node's log says why; Hyperledger Fabric's BFT orderers always answer \
                 so, and cannot order together with these)",
            );
        }
        failure
    }

    /// What waits and what comes, until another stream begins.
    fn messages(&self) -> impl Stream<Item = Outgoing> + Send + 'static + use<> {
        let queue = self.queue.clone();
        let reader = queue.begin();
        let metrics = self.common.metrics.clone();
        let (host, channel) = (self.node.address.clone(), self.channel.clone());
        let kind = self.traffic.name();
        let sent = metrics.send_time.with(&[&host, &channel]);
        let length = metrics.queue_length.with(&[&host, kind, &channel]);
        futures::stream::unfold(
            (queue, sent, length),
            move |(queue, sent, length)| async move {
                let (message, waited) = queue.take(reader).await?;
                sent.observe(waited);
                length.set(queue.len() as i64);
                Some((message, (queue, sent, length)))
            },
        )
    }

    /// Waits for the end of a stream. Servers say nothing but why they end it.
    async fn watch<A>(
        &self,
        call: impl Future<Output = Result<Response<Streaming<A>>, Status>>,
        opened: &Opened,
    ) -> Failure {
        tokio::pin!(call);
        let steady = tokio::time::sleep(STEADY);
        tokio::pin!(steady);
        let (mut answers, mut is_steady) = (None, false);
        loop {
            tokio::select! {
                answer = &mut call, if answers.is_none() => match answer {
                    Ok(answer) => answers = Some(answer.into_inner()),
                    Err(status) => return ended(&status),
                },
                message = next(&mut answers) => match message {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        let reason = "the other node ended the stream".to_owned();
                        return Failure { reason, until: None, broken: false };
                    }
                    Err(status) => return ended(&status),
                },
                () = self.queue.stalled(self.common.rpc_timeout) => {
                    // A call that has not been answered is cancelled by dropping it. One that has
                    // been would live on, with what it holds, as long as its connection.
                    let answered = answers.is_some();
                    if answered {
                        opened.dialled.close();
                    }
                    return Failure {
                        reason: format!(
                            "it has left messages unread for {:?} (General.Cluster.RPCTimeout)",
                            self.common.rpc_timeout
                        ),
                        until: None,
                        broken: answered,
                    };
                },
                () = &mut steady, if !is_steady => {
                    is_steady = true;
                    self.tell_steady();
                }
            }
        }
    }
}

async fn next<A>(answers: &mut Option<Streaming<A>>) -> Result<Option<A>, Status> {
    match answers {
        Some(answers) => answers.message().await,
        None => std::future::pending().await,
    }
}

fn ended(status: &Status) -> Failure {
    // A status with a cause comes from the transport, one without from the other node.
    let transport = std::error::Error::source(status).is_some();
    Failure {
        reason: describe_status(status),
        until: None,
        broken: transport || status.code() == Code::Unavailable,
    }
}
