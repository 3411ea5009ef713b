//! Connections to peers and orderers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::try_join_all;
use selvage_net::services::atomic_broadcast_client::AtomicBroadcastClient;
use selvage_net::services::endorser_client::EndorserClient;
use selvage_net::tonic::transport::Channel;
use selvage_net::{Endpoint, MAX_MESSAGE_BYTES, connect};
use selvage_proto::Message;
use selvage_proto::common::{Envelope, Status};
use selvage_proto::orderer::BroadcastResponse;
use selvage_proto::peer::{ProposalResponse, Response, SignedProposal};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::error::ClientError;
use crate::proposal::{Invocation, Proposal, check_success};
use crate::user::User;

fn open(endpoint: &Endpoint) -> Result<Channel, ClientError> {
    connect(endpoint).map_err(|source| ClientError::Endpoint {
        address: endpoint.address.clone(),
        source,
    })
}

/// A peer. Connects when first used and again after failures; cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer {
    pub(crate) address: String,
    pub(crate) channel: Channel,
    pub(crate) tls_cert_hash: Option<[u8; 32]>,
}

impl Peer {
    /// A peer at this endpoint.
    pub fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        Ok(Self {
            address: endpoint.address.clone(),
            channel: open(endpoint)?,
            tls_cert_hash: endpoint.tls.as_ref().and_then(|t| t.identity_hash()),
        })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a proposal and returns the answer, whatever its status.
    pub async fn process(&self, signed: SignedProposal) -> Result<ProposalResponse, ClientError> {
        check_size(&self.address, &signed)?;
        EndorserClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
            .process_proposal(signed)
            .await
            .map(|answer| answer.into_inner())
            .map_err(|status| ClientError::grpc(&self.address, &status))
    }

    /// Calls a chaincode on this peer alone and returns what it answers. An empty channel id
    /// addresses the peer itself.
    pub async fn query(
        &self,
        user: &User,
        channel_id: &str,
        invocation: &Invocation,
    ) -> Result<Response, ClientError> {
        let proposal = Proposal::new(user, channel_id, invocation.clone());
        let answer = self.process(proposal.signed).await?;
        check_success(&self.address, &answer).cloned()
    }
}

/// Asks several peers at once to endorse a proposal. The first refusal is the result.
pub async fn endorse(
    proposal: &Proposal,
    peers: &[Peer],
) -> Result<Vec<(String, ProposalResponse)>, ClientError> {
    let ask = |peer: &Peer| {
        let (peer, signed) = (peer.clone(), proposal.signed.clone());
        async move {
            let answer = peer.process(signed).await?;
            check_success(&peer.address, &answer)?;
            Ok((peer.address, answer))
        }
    };
    try_join_all(peers.iter().map(ask)).await
}

/// Messages that may be on their way to an orderer on one stream.
const PIPELINE: usize = 512;

/// An orderer. Messages share one stream and are not held up by each other's answers; cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Orderer {
    pub(crate) address: String,
    pub(crate) channel: Channel,
    pub(crate) tls_cert_hash: Option<[u8; 32]>,
    stream: Arc<Mutex<Option<Stream>>>,
}

/// A message's way back.
type Waiter = oneshot::Sender<Result<BroadcastResponse, String>>;

#[derive(Debug, Clone)]
struct Stream {
    messages: mpsc::Sender<Envelope>,
    waiters: Arc<std::sync::Mutex<Waiters>>,
}

/// Who waits for an answer, in the order of the messages.
#[derive(Debug, Default)]
struct Waiters {
    queue: VecDeque<Waiter>,
    /// Set when the stream has ended; nobody may join any more.
    ended: Option<String>,
}

impl Orderer {
    /// An orderer at this endpoint.
    pub fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        Ok(Self {
            address: endpoint.address.clone(),
            channel: open(endpoint)?,
            tls_cert_hash: endpoint.tls.as_ref().and_then(|t| t.identity_hash()),
            stream: Arc::default(),
        })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends a message and waits for the acknowledgement.
    ///
    /// [`ClientError::Unconfirmed`] means that nobody knows whether it will be ordered: an orderer
    /// ends the stream after a message it refuses, with those behind it unanswered.
    pub async fn broadcast(&self, envelope: Envelope) -> Result<(), ClientError> {
        check_size(&self.address, &envelope)?;
        let (sender, receiver) = oneshot::channel();
        self.enqueue(envelope, sender).await?;
        let unconfirmed = |reason: String| ClientError::Unconfirmed {
            address: self.address.clone(),
            reason,
        };
        let answer = receiver
            .await
            .map_err(|_| unconfirmed("the stream ended".to_owned()))?
            .map_err(unconfirmed)?;
        let status = Status::try_from(answer.status).unwrap_or(Status::Unknown);
        if status == Status::Success {
            return Ok(());
        }
        Err(ClientError::Broadcast {
            address: self.address.clone(),
            status,
            info: answer.info,
        })
    }

    /// Puts a message on the open stream, or on a new one when the old has ended.
    async fn enqueue(&self, envelope: Envelope, waiter: Waiter) -> Result<(), ClientError> {
        let mut slot = self.stream.lock().await;
        let mut waiter = waiter;
        // A stream that ended while nobody looked is replaced once.
        if let Some(stream) = slot.as_ref() {
            match stream.enqueue(envelope.clone(), waiter).await {
                Ok(()) => return Ok(()),
                Err(back) => waiter = back,
            }
        }
        let stream = Stream::open(&self.channel);
        let placed = stream.enqueue(envelope, waiter).await;
        *slot = Some(stream);
        placed.map_err(|_| ClientError::Unconfirmed {
            address: self.address.clone(),
            reason: "the stream ended at once".to_owned(),
        })
    }
}

impl Stream {
    fn open(channel: &Channel) -> Self {
        let (messages, receiver) = mpsc::channel(PIPELINE);
        let waiters = Arc::new(std::sync::Mutex::new(Waiters::default()));
        tokio::spawn(run_stream(channel.clone(), receiver, waiters.clone()));
        Self { messages, waiters }
    }

    /// Fails, handing the waiter back, when the stream has ended.
    async fn enqueue(&self, envelope: Envelope, waiter: Waiter) -> Result<(), Waiter> {
        let Ok(permit) = self.messages.reserve().await else {
            return Err(waiter);
        };
        let mut waiters = lock(&self.waiters);
        if waiters.ended.is_some() {
            return Err(waiter);
        }
        waiters.queue.push_back(waiter);
        permit.send(envelope);
        Ok(())
    }
}

fn lock(waiters: &std::sync::Mutex<Waiters>) -> std::sync::MutexGuard<'_, Waiters> {
    // Nothing panics while holding it, and a half-changed queue is impossible.
    waiters.lock().unwrap_or_else(|e| e.into_inner())
}

async fn run_stream(
    channel: Channel,
    messages: mpsc::Receiver<Envelope>,
    waiters: Arc<std::sync::Mutex<Waiters>>,
) {
    let reason = match answer_stream(channel, messages, &waiters).await {
        Ok(()) => "the orderer closed the stream".to_owned(),
        Err(status) => status.message().to_owned(),
    };
    let left = {
        let mut waiters = lock(&waiters);
        waiters.ended = Some(reason.clone());
        std::mem::take(&mut waiters.queue)
    };
    for waiter in left {
        // Whoever stopped waiting does not need to know.
        let _ = waiter.send(Err(reason.clone()));
    }
}

async fn answer_stream(
    channel: Channel,
    messages: mpsc::Receiver<Envelope>,
    waiters: &std::sync::Mutex<Waiters>,
) -> Result<(), selvage_net::tonic::Status> {
    let requests = futures::stream::unfold(messages, |mut messages| async {
        messages.recv().await.map(|m| (m, messages))
    });
    let mut answers = AtomicBroadcastClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
        .broadcast(requests)
        .await?
        .into_inner();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        if let Some(waiter) = lock(waiters).queue.pop_front() {
            let _ = waiter.send(Ok(answer));
        }
    }
    Ok(())
}

/// Refuses what no node would take, before the transport breaks over it.
pub(crate) fn check_size(address: &str, message: &impl Message) -> Result<(), ClientError> {
    let bytes = message.encoded_len();
    if bytes <= MAX_MESSAGE_BYTES {
        return Ok(());
    }
    Err(ClientError::Request(format!(
        "the message for {address} is too large: it has {bytes} bytes, and nodes take at most \
         {MAX_MESSAGE_BYTES}; send less in one message"
    )))
}

/// Waits for something, but not for ever.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    future: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Timeout {
            what: what.to_owned(),
            seconds: limit.as_secs(),
        }),
    }
}
