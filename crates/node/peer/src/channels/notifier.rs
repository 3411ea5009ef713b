//! Who hears of a commit: block followers, cache holders, and clients that wait for one
//! transaction.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use selvage_proto::peer::TxValidationCode;
use tokio::sync::{broadcast, oneshot, watch};

/// Blocks a slow listener may lag behind before it must catch up from the ledger.
const LISTENER_BACKLOG: usize = 256;
/// Clients that may wait for a transaction at the same time, per channel.
const MAX_WAITING: usize = 50_000;

/// One transaction of a committed block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedTx {
    /// The id in the channel header; empty where there is none or it is unreadable.
    pub tx_id: String,
    /// The final code, after MVCC.
    pub code: TxValidationCode,
}

/// What a commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedBlock {
    /// The block's number.
    pub number: u64,
    /// Its transactions in block order.
    pub transactions: Vec<CommittedTx>,
    /// Chaincodes whose definition the block changed.
    pub redefined: Vec<String>,
    /// Whether the block changed the channel's configuration.
    pub reconfigured: bool,
}

/// Where and how a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStatus {
    /// The block that holds the transaction.
    pub block_number: u64,
    /// Its final code.
    pub code: TxValidationCode,
}

/// Too many clients wait for transactions of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_WAITING} clients wait for transactions of this channel")]
pub struct TooManyWaiting;

#[derive(Default)]
struct Waiting {
    next: u64,
    count: usize,
    by_tx: HashMap<String, Vec<(u64, oneshot::Sender<CommitStatus>)>>,
}

/// Tells listeners what was committed. Never blocks the committer.
pub struct Notifier {
    height: watch::Sender<u64>,
    blocks: broadcast::Sender<Arc<CommittedBlock>>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Notifier {
    /// A notifier for a ledger that has `height` blocks.
    pub fn new(height: u64) -> Self {
        Self {
            height: watch::Sender::new(height),
            blocks: broadcast::Sender::new(LISTENER_BACKLOG),
            waiting: Arc::default(),
        }
    }

    /// The ledger's height; changes after each commit.
    pub fn height(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    /// Committed blocks from now on. A receiver that lags must catch up from the ledger.
    pub fn blocks(&self) -> broadcast::Receiver<Arc<CommittedBlock>> {
        self.blocks.subscribe()
    }

    /// Registers interest in one transaction. Whoever registers looks into the ledger afterwards:
    /// the transaction may already be there.
    pub fn wait_for(&self, tx_id: &str) -> Result<TxWait, TooManyWaiting> {
        let mut waiting = self.waiting.lock();
        if waiting.count >= MAX_WAITING {
            return Err(TooManyWaiting);
        }
        let id = waiting.next;
        waiting.next += 1;
        waiting.count += 1;
        let (sender, receiver) = oneshot::channel();
        waiting
            .by_tx
            .entry(tx_id.to_owned())
            .or_default()
            .push((id, sender));
        let registry = self.waiting.clone();
        Ok(TxWait {
            id,
            tx_id: tx_id.to_owned(),
            receiver,
            registry,
        })
    }

    /// Announces a commit, after the ledger has it on disk and its readers see it.
    pub fn announce(&self, block: CommittedBlock) {
        {
            let mut waiting = self.waiting.lock();
            for tx in &block.transactions {
                let Some(senders) = waiting.by_tx.remove(&tx.tx_id) else {
                    continue;
                };
                waiting.count -= senders.len();
                let status = CommitStatus {
                    block_number: block.number,
                    code: tx.code,
                };
                for (_, sender) in senders {
                    // The client may have gone away.
                    let _ = sender.send(status);
                }
            }
        }
        self.height.send_replace(block.number + 1);
        // Nobody listening is fine.
        let _ = self.blocks.send(Arc::new(block));
    }
}

/// A registered interest in one transaction; dropping it withdraws the interest.
pub struct TxWait {
    id: u64,
    tx_id: String,
    receiver: oneshot::Receiver<CommitStatus>,
    registry: Arc<Mutex<Waiting>>,
}

impl TxWait {
    /// Waits for the commit; `None` when the channel is shut down first.
    pub async fn status(mut self) -> Option<CommitStatus> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for TxWait {
    fn drop(&mut self) {
        let mut waiting = self.registry.lock();
        let Some(senders) = waiting.by_tx.get_mut(&self.tx_id) else {
            return;
        };
        let before = senders.len();
        senders.retain(|(id, _)| *id != self.id);
        let gone = before - senders.len();
        if senders.is_empty() {
            waiting.by_tx.remove(&self.tx_id);
        }
        waiting.count -= gone;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, ids: &[&str]) -> CommittedBlock {
        let transactions = ids
            .iter()
            .map(|id| CommittedTx {
                tx_id: (*id).into(),
                code: TxValidationCode::Valid,
            })
            .collect();
        CommittedBlock {
            number,
            transactions,
            redefined: vec![],
            reconfigured: false,
        }
    }

    #[tokio::test]
    async fn every_waiter_of_a_transaction_is_told() {
        let notifier = Notifier::new(5);
        let (one, two) = (
            notifier.wait_for("a").unwrap(),
            notifier.wait_for("a").unwrap(),
        );
        let other = notifier.wait_for("b").unwrap();
        let mut blocks = notifier.blocks();
        notifier.announce(block(5, &["x", "a"]));
        let expected = CommitStatus {
            block_number: 5,
            code: TxValidationCode::Valid,
        };
        assert_eq!(one.status().await, Some(expected));
        assert_eq!(two.status().await, Some(expected));
        assert_eq!(*notifier.height().borrow(), 6);
        assert_eq!(blocks.recv().await.unwrap().number, 5);
        assert_eq!(notifier.waiting.lock().count, 1);
        drop(other);
        assert_eq!(notifier.waiting.lock().count, 0);
        assert!(notifier.waiting.lock().by_tx.is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_channel_goes() {
        let notifier = Notifier::new(0);
        let wait = notifier.wait_for("a").unwrap();
        notifier.waiting.lock().by_tx.clear();
        assert_eq!(wait.status().await, None);
    }
}
