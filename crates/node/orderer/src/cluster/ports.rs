//! What the cluster hands to a channel.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_proto::common::Envelope;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages of one kind that may wait for one channel.
const WAITING: usize = 1_024;
/// Bytes of messages of one kind that may wait for one channel. One message may always wait.
const WAITING_BYTES: usize = 64 << 20;

/// Where a channel hears from its other nodes. While it does not read, they wait.
#[derive(Debug)]
pub struct Ports {
    /// Consensus messages.
    pub received: mpsc::Receiver<Received>,
    /// Messages to be ordered, if this node leads.
    pub forwarded: mpsc::Receiver<Forwarded>,
    /// Nodes that something could not be sent to.
    pub unreachable: Unreachable,
}

/// A consensus message from another node, which is who it says it is.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The consenter's number.
    pub from: u64,
    /// The message, engine-specific.
    pub payload: Bytes,
    /// What goes with it: an `etcdraft.ClusterMetadata` on Raft channels, where it is not empty.
    pub metadata: Bytes,
    _room: Room,
}

/// A message that another node forwarded.
#[derive(Debug)]
#[non_exhaustive]
pub struct Forwarded {
    /// The consenter's number.
    pub from: u64,
    /// The message.
    pub envelope: Envelope,
    /// The configuration sequence under which the other node let it in.
    pub sequence: u64,
    _room: Room,
}

/// Tells to which nodes something could not be sent. Each is told once, however much was lost since
/// the last time.
#[derive(Debug)]
pub struct Unreachable(Arc<Reports>);

impl Unreachable {
    /// The number of a consenter that something was not sent to. Nothing is lost when the future is
    /// dropped.
    pub async fn recv(&mut self) -> u64 {
        loop {
            if let Some(id) = self.0.lost.lock().pop_first() {
                return id;
            }
            self.0.changed.notified().await;
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reports {
    lost: Mutex<BTreeSet<u64>>,
    changed: Notify,
}

impl Reports {
    pub(crate) fn report(&self, id: u64) {
        self.lost.lock().insert(id);
        self.changed.notify_one();
    }
}

/// Bytes of the queue that a message takes up until the channel has dealt with it.
#[derive(Debug)]
struct Room(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

/// The other ends of [`Ports`].
pub(crate) struct Inlets {
    received: mpsc::Sender<Received>,
    received_room: Arc<Semaphore>,
    forwarded: mpsc::Sender<Forwarded>,
    forwarded_room: Arc<Semaphore>,
    pub(crate) reports: Arc<Reports>,
}

/// The channel does not listen any more.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) fn ports() -> (Ports, Inlets) {
    let (received_sender, received) = mpsc::channel(WAITING);
    let (forwarded_sender, forwarded) = mpsc::channel(WAITING);
    let reports = Arc::new(Reports::default());
    let ports = Ports {
        received,
        forwarded,
        unreachable: Unreachable(reports.clone()),
    };
    let inlets = Inlets {
        received: received_sender,
        received_room: Arc::new(Semaphore::new(WAITING_BYTES)),
        forwarded: forwarded_sender,
        forwarded_room: Arc::new(Semaphore::new(WAITING_BYTES)),
        reports,
    };
    (ports, inlets)
}

async fn room(semaphore: &Arc<Semaphore>, bytes: usize) -> Room {
    let bytes = u32::try_from(bytes.min(WAITING_BYTES)).unwrap_or(u32::MAX);
    // The semaphore is never closed.
    Room(semaphore.clone().acquire_many_owned(bytes).await.ok())
}

impl Inlets {
    /// Hands a consensus message on; waits while the channel has too many.
    pub(crate) async fn receive(
        &self,
        from: u64,
        payload: Bytes,
        metadata: Bytes,
    ) -> Result<(), Gone> {
        let message = Received {
            from,
            _room: room(&self.received_room, payload.len() + metadata.len()).await,
            payload,
            metadata,
        };
        self.received.send(message).await.map_err(|_| Gone)
    }

    /// Hands a forwarded message on; waits while the channel has too many.
    pub(crate) async fn forward(
        &self,
        from: u64,
        envelope: Envelope,
        sequence: u64,
    ) -> Result<(), Gone> {
        let size = envelope.payload.len() + envelope.signature.len();
        let message = Forwarded {
            from,
            envelope,
            sequence,
            _room: room(&self.forwarded_room, size).await,
        };
        self.forwarded.send(message).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_that_wait_are_bounded() {
        let (mut ports, inlets) = ports();
        let large = Bytes::from(vec![0; WAITING_BYTES]);
        inlets
            .receive(1, large.clone(), Bytes::new())
            .await
            .unwrap();
        let second = inlets.receive(2, large, Bytes::new());
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(ports.received.recv().await.unwrap());
        second.await.unwrap();
        assert_eq!(ports.received.recv().await.unwrap().from, 2);
        drop(ports);
        let sent = inlets.forward(1, Envelope::default(), 0).await;
        assert!(sent.is_err());
    }

    #[tokio::test]
    async fn a_node_is_reported_once_until_heard() {
        let (mut ports, inlets) = ports();
        for id in [2, 1, 2, 2] {
            inlets.reports.report(id);
        }
        assert_eq!(ports.unreachable.recv().await, 1);
        assert_eq!(ports.unreachable.recv().await, 2);
        let third = ports.unreachable.recv();
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        inlets.reports.report(2);
        assert_eq!(third.await, 2);
    }
}
