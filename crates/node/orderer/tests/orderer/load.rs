//! Clients in the background that send to every node of a cluster, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use selvage_proto::common::{Block, Envelope, Status};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinHandle;

use crate::consortium::Cluster;
use crate::world::{CHANNEL, Client};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a cluster may take to order again.
const HEALING: Duration = Duration::from_secs(60);

/// One client for each node, each with one message under way at a time.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Sent>>,
    /// How many messages each was told are ordered.
    accepted: Vec<Arc<AtomicUsize>>,
    /// Held while a message is under way.
    sending: Arc<RwLock<()>>,
    over: Arc<AtomicBool>,
}

/// The messages of a client, as bytes.
#[derive(Default)]
pub(crate) struct Sent {
    /// Those that it was told are ordered.
    pub(crate) accepted: Vec<Bytes>,
    /// Those whose fate it does not know.
    pub(crate) unanswered: usize,
    pub(crate) refused: usize,
}

impl Load {
    /// Clients that pause so long between two messages.
    pub(crate) fn begin(cluster: &Cluster, pause: Duration) -> Self {
        let sending = Arc::new(RwLock::new(()));
        let over = Arc::new(AtomicBool::new(false));
        let accepted: Vec<_> = cluster.nodes.iter().map(|_| Arc::default()).collect();
        let clients = cluster.nodes.iter().enumerate().map(|(number, node)| {
            let general = &node.settings.general;
            let at = (general.listen_address.as_str(), general.listen_port);
            let sender = Sender {
                client: cluster.world.client_to(at),
                node: number,
                pause,
                accepted: Arc::clone(&accepted[number]),
                sending: sending.clone(),
                over: over.clone(),
            };
            tokio::spawn(sender.send_on())
        });
        Self {
            clients: clients.collect(),
            accepted,
            sending,
            over,
        }
    }

    /// How many messages this node has told its client are ordered.
    fn accepted(&self, node: usize) -> usize {
        self.accepted[node].load(Ordering::Relaxed)
    }

    pub(crate) fn all_accepted(&self) -> usize {
        (0..self.accepted.len())
            .map(|node| self.accepted(node))
            .sum()
    }

    /// Waits until each of these nodes has told its client of some more.
    pub(crate) async fn goes_on(&self, nodes: &[usize]) {
        let begun = Instant::now();
        for node in nodes {
            let before = self.accepted(*node);
            while self.accepted(*node) < before + 5 {
                let waited = begun.elapsed();
                assert!(waited < HEALING, "node {node} of {nodes:?} orders nothing");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Nothing is under way, and nothing is sent, until the guard goes.
    pub(crate) async fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.sending.write().await
    }

    /// What each client sent.
    pub(crate) async fn end(self) -> Vec<Sent> {
        self.over.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        for client in self.clients {
            sent.push(client.await.unwrap());
        }
        sent
    }
}

/// What one client needs.
struct Sender {
    client: Client,
    node: usize,
    pause: Duration,
    accepted: Arc<AtomicUsize>,
    sending: Arc<RwLock<()>>,
    over: Arc<AtomicBool>,
}

impl Sender {
    async fn send_on(self) -> Sent {
        let (client, node) = (&self.client, self.node);
        let mut sent = Sent::default();
        for n in 0u32.. {
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(self.pause).await;
            let _sending = self.sending.read().await;
            let envelope = client.transaction(CHANNEL, format!("{node}/{n}").as_bytes());
            let bytes: Bytes = envelope.encode_to_vec().into();
            match send(client, envelope).await {
                Some((Status::Success, _)) => {
                    sent.accepted.push(bytes);
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                }
                Some((Status::ServiceUnavailable, _)) => sent.refused += 1,
                // It has not joined yet; and Fabric's does not know a channel while it turns from
                // follower to consenter or back.
                Some((Status::BadRequest, info)) if info == "channel does not exist" => {
                    sent.refused += 1;
                }
                Some((status, info)) => panic!("node {node} says {status:?}: {info}"),
                None => sent.unanswered += 1,
            }
        }
        sent
    }
}

/// The answer, if the node is there and gives one.
async fn send(client: &Client, envelope: Envelope) -> Option<(Status, String)> {
    let mut stub = client.stub();
    let asked = async {
        let request = futures::stream::iter([envelope]);
        let mut answers = stub.broadcast(request).await.ok()?.into_inner();
        let answer = answers.message().await.ok()??;
        Some((answer.status(), answer.info))
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    answer.expect("a node takes a message and does not answer")
}

/// How often each message stands in these blocks.
pub(crate) fn counted(blocks: &[Block]) -> BTreeMap<Bytes, usize> {
    let mut counts = BTreeMap::new();
    for envelope in blocks.iter().flat_map(Block::envelopes) {
        *counts.entry(envelope.clone()).or_default() += 1;
    }
    counts
}

/// The messages that stand in these blocks more than once.
pub(crate) fn doubled(blocks: &[Block]) -> BTreeSet<Bytes> {
    let counts = counted(blocks).into_iter();
    counts.filter(|(_, n)| *n > 1).map(|(m, _)| m).collect()
}
