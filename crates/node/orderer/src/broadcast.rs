//! `AtomicBroadcast/Broadcast`: messages in, one answer each, in order.
//!
//! Fabric answers when a message is queued. Here an answer means that the message is in a durable
//! block; many messages of one stream may wait at once, so this costs a pipelining client nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::stream;
use futures::{Stream, StreamExt};
use selvage_net::Connection;
use selvage_net::metrics::{Counters, Durations, Metrics};
use selvage_net::tonic::{self, Request, Streaming};
use selvage_ordering::Rejection;
use selvage_ordering::filters::{Incoming, Refusal};
use selvage_proto::common::{Envelope, HeaderType, Status};
use selvage_proto::orderer::BroadcastResponse;
use tokio::sync::oneshot;

use crate::chain::{Answer, refusal};
use crate::limiter::Limiter;
use crate::refusals::{Reason, Refusals, UNKNOWN};
use crate::registrar::Registrar;

/// Messages of one stream that may wait for their answers.
const IN_FLIGHT: usize = 2_000;

const LABELS: &[&str] = &["channel", "type", "status"];

/// Counters under Fabric's names.
#[derive(Clone)]
struct BroadcastMetrics {
    validate: Durations,
    enqueue: Durations,
    processed: Counters,
}

/// Serves broadcast streams.
#[derive(Clone)]
pub(crate) struct Broadcaster {
    registrar: Arc<Registrar>,
    limiter: Option<Arc<Limiter>>,
    metrics: BroadcastMetrics,
    refusals: Refusals,
}

/// A message that waits for its answer.
struct Waiting {
    answer: oneshot::Receiver<Answer>,
    note: Note,
}

/// What metrics and log say about a message.
struct Note {
    channel: String,
    /// What the client called a channel that this node does not have. Not for metrics: clients
    /// could make any number of names up.
    unknown: Option<String>,
    kind: &'static str,
    validated: Duration,
    enqueued: Option<Instant>,
}

impl Broadcaster {
    pub(crate) fn new(
        registrar: Arc<Registrar>,
        limiter: Option<Arc<Limiter>>,
        metrics: &Metrics,
        refusals: Refusals,
    ) -> Self {
        let metrics = BroadcastMetrics {
            validate: metrics.durations(
                "broadcast_validate_duration",
                "The time to validate a transaction in seconds.",
                LABELS,
            ),
            enqueue: metrics.durations(
                "broadcast_enqueue_duration",
                "The time to enqueue a transaction in seconds.",
                LABELS,
            ),
            processed: metrics.counters(
                "broadcast_processed_count",
                "The number of transactions processed.",
                LABELS,
            ),
        };
        Self {
            registrar,
            limiter,
            metrics,
            refusals,
        }
    }

    /// Answers each message of the stream. As in Fabric, the first refusal ends it.
    pub(crate) fn serve(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> impl Stream<Item = Result<BroadcastResponse, tonic::Status>> + Send + 'static {
        let (_, extensions, mut requests) = request.into_parts();
        let connection = Connection::of(&extensions).cloned();
        let remote = connection.as_ref().map(|c| c.remote().to_string());
        let remote = remote.unwrap_or_default();
        let this = self.clone();
        stream! {
            let mut waiting: VecDeque<Waiting> = VecDeque::new();
            let mut open = true;
            loop {
                let event = tokio::select! {
                    message = requests.next(), if open && waiting.len() < IN_FLIGHT => {
                        Event::Message(message)
                    }
                    answer = first(&mut waiting), if !waiting.is_empty() => Event::Answer(answer),
                    else => return,
                };
                let (answer, note) = match event {
                    Event::Message(Some(Ok(envelope))) => {
                        if let (Some(limiter), Some(c)) = (&this.limiter, &connection) {
                            limiter.wait(c.certificate()).await;
                        }
                        match this.submit(envelope).await {
                            Ok(next) => {
                                waiting.push_back(next);
                                continue;
                            }
                            // Earlier messages are answered first.
                            Err((answer, note)) => {
                                while !waiting.is_empty() {
                                    let (answer, note) = first(&mut waiting).await;
                                    let refused = answer.0 != Status::Success;
                                    yield Ok(this.respond(answer, &note, &remote));
                                    if refused {
                                        return;
                                    }
                                }
                                (answer, note)
                            }
                        }
                    }
                    Event::Message(Some(Err(error))) => {
                        yield Err(selvage_net::advised(error));
                        return;
                    }
                    Event::Message(None) => {
                        open = false;
                        continue;
                    }
                    Event::Answer(answered) => answered,
                };
                let refused = answer.0 != Status::Success;
                yield Ok(this.respond(answer, &note, &remote));
                if refused {
                    return;
                }
            }
        }
    }

    async fn submit(&self, envelope: Envelope) -> Result<Waiting, (Answer, Note)> {
        let begun = Instant::now();
        let mut note = Note {
            channel: UNKNOWN.to_owned(),
            unknown: None,
            kind: "unknown",
            validated: Duration::ZERO,
            enqueued: None,
        };
        let incoming = match Incoming::open(envelope) {
            Ok(incoming) => incoming,
            Err(error) => return Err((refusal(error), note)),
        };
        let Some(chain) = self.registrar.chain(&incoming.channel.channel_id) else {
            let id = &incoming.channel.channel_id;
            if let Some(reason) = self.registrar.why_not_served(id) {
                return Err(((Status::ServiceUnavailable, reason), note));
            }
            note.unknown = Some(incoming.channel.channel_id);
            return Err((refusal(Refusal::UnknownChannel), note));
        };
        note.channel.clear();
        note.channel.push_str(chain.id());
        note.kind = HeaderType::try_from(incoming.channel.r#type)
            .map_or("unknown", |kind| kind.as_str_name());
        let submitted = chain.submit(incoming).await;
        note.validated = begun.elapsed();
        match submitted {
            Ok(answer) => {
                note.enqueued = Some(Instant::now());
                Ok(Waiting { answer, note })
            }
            Err(answer) => Err((answer, note)),
        }
    }

    fn respond(&self, answer: Answer, note: &Note, remote: &str) -> BroadcastResponse {
        let (status, info) = answer;
        // Of a channel that was removed meanwhile nothing is measured any more.
        let channel = match self.registrar.chain(&note.channel) {
            Some(_) => note.channel.as_str(),
            None => UNKNOWN,
        };
        let labels = [channel, note.kind, status.as_str_name()];
        self.metrics.processed.with(&labels).inc();
        self.metrics.validate.with(&labels).observe(note.validated);
        if let Some(enqueued) = note.enqueued {
            self.metrics
                .enqueue
                .with(&labels)
                .observe(enqueued.elapsed());
        }
        if status != Status::Success {
            let of = match &note.unknown {
                Some(name) => format!(
                    " for channel {name:?}, which this node has not joined (correct the name in \
                     the client, or join this node to it)"
                ),
                None => String::new(),
            };
            let name = status.as_str_name();
            let what = format_args!("a broadcast of {remote}{of} with {name}: {info}");
            self.refusals.note(channel, Reason::Broadcast(status), what);
        }
        BroadcastResponse {
            status: status as i32,
            info,
        }
    }
}

enum Event {
    Message(Option<Result<Envelope, tonic::Status>>),
    Answer((Answer, Note)),
}

/// The answer to the oldest message that waits.
async fn first(waiting: &mut VecDeque<Waiting>) -> (Answer, Note) {
    let answer = match waiting.front_mut() {
        Some(front) => (&mut front.answer).await,
        None => std::future::pending().await,
    };
    let answer =
        answer.unwrap_or_else(|_| (Status::ServiceUnavailable, Rejection::Stopped.to_string()));
    match waiting.pop_front() {
        Some(front) => (answer, front.note),
        None => std::future::pending().await,
    }
}
