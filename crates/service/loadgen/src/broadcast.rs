//! Handing envelopes to orderers: one client's Broadcast streams, which stay open.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use selvage_net::tonic::Streaming;
use selvage_proto::common::{Envelope, Status};
use selvage_proto::orderer::BroadcastResponse;
use tokio::sync::{mpsc, oneshot};

use crate::connections::Connection;

/// How long orderers may take to answer; the gateway's default in Fabric.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// Envelopes of one client that one orderer may owe an answer to. A client waits for a quorum only,
/// so that the slowest orderers lag behind.
const OWED: usize = 64;
/// What Fabric's BFT orderers say to an envelope that another one passed on already, which is as
/// good as an acknowledgement.
const EXISTS_ALREADY: &str = "failed to submit request: request already exists";

/// How many orderers have to acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Any one; another one is asked when it fails.
    One,
    /// So many of all: up to a third of them may lie.
    Quorum(usize),
}

impl Trust {
    /// What a BFT channel with so many orderers needs, as Fabric's gateway counts.
    pub(crate) fn bft(orderers: usize) -> Self {
        let faulty = orderers.saturating_sub(1) / 3;
        Self::Quorum((orderers + faulty + 1).div_ceil(2))
    }
}

/// One client's way to the orderers.
pub(crate) enum Submitter<'a> {
    One(OneOf<'a>),
    Quorum(Quorum),
}

impl<'a> Submitter<'a> {
    /// The client's number decides which orderer comes first.
    pub(crate) fn new(orderers: &'a [Connection], trust: Trust, client: usize) -> Self {
        match trust {
            Trust::One => Self::One(OneOf {
                orderers,
                turn: client,
                stream: None,
            }),
            Trust::Quorum(needed) => Self::Quorum(Quorum {
                links: orderers.iter().map(Link::open).collect(),
                needed,
            }),
        }
    }

    /// Returns when the envelope was acknowledged.
    pub(crate) async fn submit(&mut self, envelope: Envelope) -> Result<(), String> {
        match self {
            Self::One(one) => one.submit(&envelope).await,
            Self::Quorum(quorum) => quorum.submit(&envelope).await,
        }
    }
}

/// Stays with one orderer until it fails.
pub(crate) struct OneOf<'a> {
    orderers: &'a [Connection],
    turn: usize,
    stream: Option<Stream>,
}

impl OneOf<'_> {
    /// Offers the envelope to each orderer once.
    async fn submit(&mut self, envelope: &Envelope) -> Result<(), String> {
        let mut refusal = String::from("broadcast: there is no orderer");
        for _ in 0..self.orderers.len() {
            match in_time(self.attempt(envelope.clone())).await {
                Ok(()) => return Ok(()),
                Err(text) => refusal = text,
            }
            self.stream = None;
            self.turn = self.turn.wrapping_add(1);
        }
        Err(refusal)
    }

    async fn attempt(&mut self, envelope: Envelope) -> Result<(), String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let orderer = &self.orderers[self.turn % self.orderers.len()];
                none.insert(Stream::open(orderer).await?)
            }
        };
        stream.send(envelope).await
    }
}

/// Gives each envelope to all orderers.
pub(crate) struct Quorum {
    links: Vec<Link>,
    needed: usize,
}

impl Quorum {
    /// Returns as soon as enough have acknowledged, or cannot any more.
    async fn submit(&self, envelope: &Envelope) -> Result<(), String> {
        let answers: FuturesUnordered<_> = self
            .links
            .iter()
            .map(|link| link.submit(envelope))
            .collect();
        in_time(self.enough(answers)).await
    }

    async fn enough<F>(&self, mut answers: FuturesUnordered<F>) -> Result<(), String>
    where
        F: Future<Output = Result<(), String>>,
    {
        let (mut accepted, mut refused) = (0, 0);
        while let Some(answer) = answers.next().await {
            let refusal = match answer {
                Ok(()) => {
                    accepted += 1;
                    String::new()
                }
                Err(text) => {
                    refused += 1;
                    text
                }
            };
            if accepted >= self.needed {
                return Ok(());
            }
            if refused + self.needed > self.links.len() {
                return Err(format!("no quorum: {refusal}"));
            }
        }
        Err("no quorum: there are too few orderers".into())
    }
}

/// An envelope for one orderer, and who wants to know what became of it.
struct Sent {
    envelope: Envelope,
    tell: oneshot::Sender<Result<(), String>>,
}

impl Sent {
    fn tell(self, answer: Result<(), String>) {
        // A client that has its quorum already no longer listens.
        let _ = self.tell.send(answer);
    }
}

/// A task that keeps one client's stream to one orderer; it ends with the client.
struct Link {
    sent: mpsc::Sender<Sent>,
}

impl Link {
    fn open(orderer: &Connection) -> Self {
        let (sent, waiting) = mpsc::channel(OWED);
        tokio::spawn(keep(orderer.clone(), waiting));
        Self { sent }
    }

    async fn submit(&self, envelope: &Envelope) -> Result<(), String> {
        let (tell, hear) = oneshot::channel();
        let envelope = envelope.clone();
        // Not awaited: an orderer that is behind must not hold up the others.
        self.sent
            .try_send(Sent { envelope, tell })
            .map_err(|_| "broadcast: an orderer owes too many answers")?;
        hear.await
            .map_err(|_| "broadcast: the stream's task ended")?
    }
}

/// Opens a stream whenever there is something to send and none is open.
async fn keep(orderer: Connection, mut waiting: mpsc::Receiver<Sent>) {
    while let Some(sent) = waiting.recv().await {
        match in_time(Stream::open(&orderer)).await {
            Ok(stream) => pump(stream, sent, &mut waiting).await,
            Err(text) => sent.tell(Err(text)),
        }
    }
}

/// Sends and hears answers, which come in the order of the envelopes, until the stream ends.
async fn pump(mut stream: Stream, first: Sent, waiting: &mut mpsc::Receiver<Sent>) {
    let mut owed = VecDeque::new();
    let mut next = Some(first);
    let end = loop {
        if let Some(sent) = next.take() {
            let handed = stream.hand(sent.envelope.clone()).await;
            owed.push_back(sent);
            if let Err(text) = handed {
                break text;
            }
        }
        tokio::select! {
            more = waiting.recv(), if owed.len() < OWED => match more {
                Some(sent) => next = Some(sent),
                None => return,
            },
            answer = in_time(stream.answer()), if !owed.is_empty() => {
                let end = answer.as_ref().err().cloned();
                if let Some(sent) = owed.pop_front() {
                    let known = end.as_ref().is_some_and(|text| text.ends_with(EXISTS_ALREADY));
                    sent.tell(if known { Ok(()) } else { answer });
                }
                if let Some(text) = end {
                    break text;
                }
            }
        }
    };
    for sent in owed {
        sent.tell(Err(end.clone()));
    }
}

/// One Broadcast stream.
pub(crate) struct Stream {
    envelopes: mpsc::Sender<Envelope>,
    answers: Streaming<BroadcastResponse>,
}

impl Stream {
    pub(crate) async fn open(orderer: &Connection) -> Result<Self, String> {
        let (envelopes, mut waiting) = mpsc::channel(1);
        let requests = futures::stream::poll_fn(move |context| waiting.poll_recv(context));
        let answers = orderer
            .orderer()
            .broadcast(requests)
            .await
            .map_err(|s| format!("broadcast: {s}"))?
            .into_inner();
        Ok(Self { envelopes, answers })
    }

    /// Sends one and waits for its answer.
    pub(crate) async fn send(&mut self, envelope: Envelope) -> Result<(), String> {
        self.hand(envelope).await?;
        self.answer().await
    }

    async fn hand(&mut self, envelope: Envelope) -> Result<(), String> {
        self.envelopes
            .send(envelope)
            .await
            .map_err(|_| "broadcast: the stream ended".into())
    }

    /// The next answer. An error means that the stream is of no more use.
    async fn answer(&mut self) -> Result<(), String> {
        match self.answers.message().await {
            Ok(Some(answer)) if answer.status == Status::Success as i32 => Ok(()),
            Ok(Some(answer)) => Err(format!("broadcast: {} {}", answer.status, answer.info)),
            Ok(None) => Err("broadcast: the orderer ended the stream".into()),
            Err(status) => Err(format!("broadcast: {status}")),
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER_WAIT, work).await {
        Ok(done) => done,
        Err(_) => Err(format!(
            "broadcast: no answer within {} s",
            ANSWER_WAIT.as_secs()
        )),
    }
}

#[cfg(test)]
#[path = "broadcast_tests.rs"]
mod tests;
