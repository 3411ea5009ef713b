//! Clients in the background that send to every node of a cluster, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvage_proto::common::{Block, Envelope, Status};
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinHandle;

use crate::consortium::Cluster;
use crate::world::{CHANNEL, Client};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two messages of a client.
const PAUSE: Duration = Duration::from_millis(50);

/// One client for each node, each with one message under way at a time.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Sent>>,
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
    pub(crate) fn begin(cluster: &Cluster) -> Self {
        let sending = Arc::new(RwLock::new(()));
        let over = Arc::new(AtomicBool::new(false));
        let ports = cluster.nodes.iter().map(|n| n.settings.general.listen_port);
        let clients = ports.enumerate().map(|(node, port)| {
            let client = cluster.world.client_to(("127.0.0.1", port));
            tokio::spawn(send_on(client, node, sending.clone(), over.clone()))
        });
        Self {
            clients: clients.collect(),
            sending,
            over,
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

async fn send_on(
    client: Client,
    node: usize,
    sending: Arc<RwLock<()>>,
    over: Arc<AtomicBool>,
) -> Sent {
    let mut sent = Sent::default();
    for n in 0u32.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let _sending = sending.read().await;
        let envelope = client.transaction(CHANNEL, format!("{node}/{n}").as_bytes());
        let bytes: Bytes = envelope.encode_to_vec().into();
        match send(&client, envelope).await {
            Some((Status::Success, _)) => sent.accepted.push(bytes),
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
