//! The asking side: following a channel from a height on, over servers that come and go.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use selvage_env::{Clock, Rng};
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::orderer::SeekInfo;
use selvage_proto::orderer::deliver_response::Type as FromOrderer;
use selvage_proto::orderer::seek_info::{SeekContentType, SeekErrorResponse};
use selvage_proto::peer::deliver_response::Type as FromPeer;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::{from_on, newest, only, seek_envelope};
use crate::backoff::Backoff;
use crate::services::atomic_broadcast_client::AtomicBroadcastClient;
use crate::services::deliver_client::DeliverClient;
use crate::{Endpoint, MAX_MESSAGE_BYTES, connect};

/// Different troubles that are told before blocks come again.
const MAX_TOLD: usize = 32;

/// Who signs requests.
pub trait Signer: Send + Sync + 'static {
    /// The serialized identity that servers check the signature against.
    fn creator(&self) -> Bytes;

    /// A signature over `message`.
    fn sign(&self, message: &[u8]) -> Vec<u8>;
}

/// Which service the blocks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `orderer.AtomicBroadcast/Deliver`.
    Orderer,
    /// `protos.Deliver/Deliver`.
    Peer,
}

/// A block that its receiver does not accept: it comes from a server that must be avoided for now.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Rejected(pub String);

/// Why one attempt to follow ended.
#[derive(Debug, Error)]
pub enum FollowError {
    /// The server cannot be reached, or broke the stream.
    #[error("{endpoint}: {}", crate::describe_status(status))]
    Transport {
        /// The server.
        endpoint: String,
        /// What the transport says.
        status: Box<tonic::Status>,
    },
    /// The server ended the stream with a status.
    #[error("{endpoint} answered {}", status.as_str_name())]
    Status {
        /// The server.
        endpoint: String,
        /// Its answer.
        status: Status,
    },
    /// The server sent something else than the next block.
    #[error("{endpoint} sent block {got} where {wanted} was due")]
    Order {
        /// The server.
        endpoint: String,
        /// The number that came.
        got: u64,
        /// The number that was due.
        wanted: u64,
    },
    /// The receiver refused the block.
    #[error("block {number} from {endpoint} is not acceptable: {reason}")]
    Rejected {
        /// The server.
        endpoint: String,
        /// The block.
        number: u64,
        /// The receiver's reason.
        reason: String,
    },
    /// The address cannot be one.
    #[error("{endpoint} cannot be dialled: {reason}")]
    Endpoint {
        /// The server.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The server takes connections and does not answer.
    #[error("{endpoint} did not answer within {time:?}")]
    Silent {
        /// The server.
        endpoint: String,
        /// How long it was waited for.
        time: Duration,
    },
    /// The server has no new block for a while, and another one says it has.
    #[error("{endpoint} has no block {number}, but {other} has")]
    Behind {
        /// The server.
        endpoint: String,
        /// The block that is due.
        number: u64,
        /// The server that is said to have it.
        other: String,
    },
    /// There is no server to ask.
    #[error("no server is known for the channel")]
    NoEndpoints,
}

/// How long a server may take to begin with an answer, and for a block that it has.
const ANSWER: Duration = Duration::from_secs(10);
/// How much longer than at first a server may have nothing new before others are asked again.
const IDLE_LIMIT: u32 = 8;
/// Servers that are asked at once how far they are.
const PROBES: usize = 32;

/// Follows one channel for as long as it is let.
pub struct Follower {
    /// The channel.
    pub channel_id: String,
    /// Which service to ask.
    pub kind: Kind,
    /// Signs the requests.
    pub signer: Arc<dyn Signer>,
    /// The servers to choose from, asked before each attempt because configurations change them.
    pub endpoints: Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>,
    /// Tells the time for requests.
    pub clock: Arc<dyn Clock>,
    /// Chooses servers and spreads retries.
    pub rng: Arc<dyn Rng>,
    /// The longest pause between attempts.
    pub max_pause: Duration,
    /// How long a server may have nothing new before the others are asked how far they are. It may
    /// be cut off from them, or hold blocks back.
    pub idle: Duration,
    /// Whether to take blocks from orderers that cannot order at the moment, too.
    pub best_effort: bool,
    /// Told of blocks that cannot come next or that were refused, instead of the log.
    pub refused: Option<ToldOfRefusals>,
}

/// Told of each block that was refused.
pub type ToldOfRefusals = Arc<dyn Fn(&FollowError) + Send + Sync>;

/// How far following has come.
struct State {
    next: u64,
    /// A server that is said to have the next block when the one asked has not.
    ahead: Option<String>,
    /// How long the next block is waited for before others are asked.
    idle: Duration,
}

impl Follower {
    /// Calls `accept` with each block from `next` on, in order, with the server it came from, until
    /// `stop` is cancelled. While `accept` works, no further block is asked for. Servers that fail,
    /// or whose block `accept` refuses, are left for another one after a growing, jittered pause; a
    /// block that was accepted starts the pauses anew.
    pub async fn run<F, A>(&self, next: u64, stop: CancellationToken, mut accept: F)
    where
        F: FnMut(Block, String) -> A + Send,
        A: Future<Output = Result<(), Rejected>> + Send,
    {
        let mut backoff = Backoff::new(Duration::from_millis(100), self.max_pause);
        let mut turn = u64::from(self.random_byte());
        let mut state = State {
            next,
            ahead: None,
            idle: self.idle,
        };
        // What went wrong since the last block: a trouble that lasts is told once.
        let mut told = BTreeSet::new();
        loop {
            let before = state.next;
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.attempt(&mut state, turn, &mut accept) => ended,
            };
            if state.next > before {
                backoff.reset();
                told.clear();
            }
            turn = turn.wrapping_add(1);
            let pause = backoff.pause(self.rng.as_ref());
            match ended {
                Ok(()) => tracing::debug!(channel = self.channel_id, "deliver stream ended"),
                Err(error) => self.tell(&error, &mut told),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn tell(&self, error: &FollowError, told: &mut BTreeSet<String>) {
        let channel = self.channel_id.as_str();
        if let Some(refused) = &self.refused
            && matches!(
                error,
                FollowError::Order { .. } | FollowError::Rejected { .. }
            )
        {
            return refused(error);
        }
        let text = error.to_string();
        if told.len() < MAX_TOLD && told.insert(text.clone()) {
            tracing::warn!(channel, "following the channel was interrupted: {text}");
        } else {
            tracing::debug!(channel, "still interrupted: {text}");
        }
    }

    fn random_byte(&self) -> u8 {
        let mut byte = [0];
        self.rng.fill(&mut byte);
        byte[0]
    }

    /// Follows the server whose turn it is, or that is ahead, until it fails.
    async fn attempt<F, A>(
        &self,
        state: &mut State,
        turn: u64,
        accept: &mut F,
    ) -> Result<(), FollowError>
    where
        F: FnMut(Block, String) -> A + Send,
        A: Future<Output = Result<(), Rejected>> + Send,
    {
        let endpoints = (self.endpoints)();
        if endpoints.is_empty() {
            return Err(FollowError::NoEndpoints);
        }
        let better = state.ahead.take();
        let better = endpoints
            .iter()
            .find(|e| Some(&e.address) == better.as_ref());
        let turn = &endpoints[(turn % endpoints.len() as u64) as usize];
        let endpoint = better.unwrap_or(turn);
        let name = endpoint.address.clone();
        let seek = SeekInfo {
            error_response: match self.best_effort {
                true => SeekErrorResponse::BestEffort as i32,
                false => SeekErrorResponse::Strict as i32,
            },
            ..from_on(state.next)
        };
        let mut blocks = self.open(endpoint, &seek).await?;
        loop {
            let block = match timeout(state.idle, blocks.next()).await {
                Ok(Ok(Some(block))) => block,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    // Longer the next time, wherever: a large block may be on its way.
                    state.idle = (state.idle * 2).min(self.idle * IDLE_LIMIT);
                    let number = state.next;
                    let Some(other) = self.who_has(number, &endpoints, &name).await else {
                        continue;
                    };
                    state.ahead = Some(other.clone());
                    return Err(FollowError::Behind {
                        endpoint: name,
                        number,
                        other,
                    });
                }
            };
            let number = block.number();
            if number != state.next {
                return Err(FollowError::Order {
                    endpoint: name,
                    got: number,
                    wanted: state.next,
                });
            }
            accept(block, name.clone())
                .await
                .map_err(|Rejected(reason)| FollowError::Rejected {
                    endpoint: name.clone(),
                    number,
                    reason,
                })?;
            state.next += 1;
            state.idle = self.idle;
        }
    }

    /// Another server that says it has a block. Nothing proves it before the block is there.
    async fn who_has(&self, number: u64, servers: &[Endpoint], but: &str) -> Option<String> {
        // Servers that do not know of headers without data send the whole block.
        let seek = SeekInfo {
            content_type: SeekContentType::HeaderWithSig as i32,
            error_response: SeekErrorResponse::BestEffort as i32,
            ..only(newest())
        };
        let others = servers.iter().filter(|server| server.address != but);
        let mut asked: FuturesUnordered<_> = others
            .take(PROBES)
            .map(|server| {
                let seek = &seek;
                async move {
                    let newest = timeout(ANSWER, self.fetch(server, seek)).await;
                    let newest = newest.ok()?.ok()??;
                    (newest.number() >= number).then(|| server.address.clone())
                }
            })
            .collect();
        while let Some(found) = asked.next().await {
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The first block of what `seek` asks one server for, as it is: nobody has judged it yet.
    pub async fn fetch(
        &self,
        endpoint: &Endpoint,
        seek: &SeekInfo,
    ) -> Result<Option<Block>, FollowError> {
        self.open(endpoint, seek).await?.next().await
    }

    /// Asks one server for what `seek` says and hands out the answers.
    async fn open(&self, endpoint: &Endpoint, seek: &SeekInfo) -> Result<Blocks, FollowError> {
        let channel = connect(endpoint).map_err(|error| FollowError::Endpoint {
            endpoint: endpoint.address.clone(),
            reason: error.to_string(),
        })?;
        let envelope = seek_envelope(
            &self.channel_id,
            seek,
            self.signer.as_ref(),
            endpoint.tls.as_ref().and_then(|tls| tls.identity_hash()),
            self.clock.as_ref(),
            self.rng.as_ref(),
        );
        let (request, open) = open_request(envelope);
        let asking = async {
            match self.kind {
                Kind::Orderer => AtomicBroadcastClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .deliver(request)
                    .await
                    .map(|answer| Answers::Orderer(answer.into_inner())),
                Kind::Peer => DeliverClient::new(channel)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .deliver(request)
                    .await
                    .map(|answer| Answers::Peer(answer.into_inner())),
            }
        };
        let answer = timeout(ANSWER, asking).await;
        let endpoint = endpoint.address.clone();
        let Ok(answer) = answer else {
            return Err(FollowError::Silent {
                endpoint,
                time: ANSWER,
            });
        };
        match answer {
            Ok(answers) => Ok(Blocks {
                answers,
                endpoint,
                _open: open,
            }),
            Err(status) => Err(FollowError::Transport {
                endpoint,
                status: Box::new(status),
            }),
        }
    }
}

/// Keeps the request side of a bidirectional call open; dropping it ends that side.
#[derive(Debug)]
pub struct RequestOpen {
    _sender: oneshot::Sender<()>,
}

/// The request side of a call that sends one envelope and then only listens.
///
/// Servers may take the end of the requests for a hang-up, so the stream stays open; but a stream
/// that never ends would keep the call alive on the connection after the answers were dropped. It
/// therefore ends with the guard, which belongs beside the answers.
pub fn open_request(envelope: Envelope) -> (impl Stream<Item = Envelope> + Send, RequestOpen) {
    let (sender, ended) = oneshot::channel::<()>();
    let rest = futures::stream::once(async move {
        let _ = ended.await;
    })
    .filter_map(|()| std::future::ready(None));
    let stream = futures::stream::iter([envelope]).chain(rest);
    (stream, RequestOpen { _sender: sender })
}

enum Answers {
    Orderer(Streaming<selvage_proto::orderer::DeliverResponse>),
    Peer(Streaming<selvage_proto::peer::DeliverResponse>),
}

struct Blocks {
    answers: Answers,
    endpoint: String,
    _open: RequestOpen,
}

impl Blocks {
    async fn next(&mut self) -> Result<Option<Block>, FollowError> {
        let message = match &mut self.answers {
            Answers::Orderer(stream) => stream.message().await.map(|m| {
                m.map(|m| match m.r#type {
                    Some(FromOrderer::Block(block)) => Ok(block),
                    Some(FromOrderer::Status(status)) => Err(status),
                    None => Err(Status::Unknown as i32),
                })
            }),
            Answers::Peer(stream) => stream.message().await.map(|m| {
                m.map(|m| match m.r#type {
                    Some(FromPeer::Block(block)) => Ok(block),
                    Some(FromPeer::Status(status)) => Err(status),
                    _ => Err(Status::Unknown as i32),
                })
            }),
        };
        let message = message.map_err(|status| FollowError::Transport {
            endpoint: self.endpoint.clone(),
            status: Box::new(status),
        })?;
        match message {
            None => Ok(None),
            Some(Ok(block)) => Ok(Some(block)),
            Some(Err(status)) if status == Status::Success as i32 => Ok(None),
            Some(Err(status)) => Err(FollowError::Status {
                endpoint: self.endpoint.clone(),
                status: Status::try_from(status).unwrap_or(Status::Unknown),
            }),
        }
    }
}
