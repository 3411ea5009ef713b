//! Watches a peer's filtered blocks and tells, for each transaction, when and how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use selvage_client::{ClientError, User};
use selvage_proto::peer::TxValidationCode;
use tokio::sync::oneshot;

use crate::BenchError;
use crate::connections::Connection;
use crate::gaps::Gaps;

/// How one transaction ended.
#[derive(Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) latency: Duration,
    pub(crate) valid: bool,
}

struct Waiting {
    since: Instant,
    told: Option<oneshot::Sender<Ended>>,
}

/// Transactions under way and the outcome of those that ended.
#[derive(Default)]
pub(crate) struct Commits {
    waiting: Mutex<HashMap<String, Waiting>>,
    latencies_us: Mutex<Vec<u32>>,
    invalid: Mutex<HashMap<String, u64>>,
    valid: AtomicU64,
    /// Between events with valid transactions.
    pub(crate) gaps: Gaps,
}

impl Commits {
    /// Remembers a transaction before it is sent, so that its event cannot come too early.
    pub(crate) fn expect(&self, tx_id: &str, since: Instant) {
        self.waiting
            .lock()
            .insert(tx_id.into(), Waiting { since, told: None });
    }

    /// As [`Commits::expect`], and the receiver hears how it ended.
    pub(crate) fn expect_told(&self, tx_id: &str, since: Instant) -> oneshot::Receiver<Ended> {
        let (tell, hear) = oneshot::channel();
        self.waiting.lock().insert(
            tx_id.into(),
            Waiting {
                since,
                told: Some(tell),
            },
        );
        hear
    }

    /// Forgets a transaction that was refused before it was ordered.
    pub(crate) fn forget(&self, tx_id: &str) {
        self.waiting.lock().remove(tx_id);
    }

    /// Transactions that were ordered but have not been seen in a block.
    pub(crate) fn outstanding(&self) -> usize {
        self.waiting.lock().len()
    }

    pub(crate) fn valid(&self) -> u64 {
        self.valid.load(Ordering::Relaxed)
    }

    pub(crate) fn invalid(&self) -> HashMap<String, u64> {
        self.invalid.lock().clone()
    }

    /// Latencies of valid transactions in microseconds, sorted.
    pub(crate) fn latencies_us(&self) -> Vec<u32> {
        let mut all = self.latencies_us.lock().clone();
        all.sort_unstable();
        all
    }

    /// Forgets all outcomes and whatever is still under way.
    pub(crate) fn reset(&self) {
        self.waiting.lock().clear();
        self.latencies_us.lock().clear();
        self.invalid.lock().clear();
        self.valid.store(0, Ordering::Relaxed);
        self.gaps.reset();
    }

    fn ended(&self, tx_id: &str, code: TxValidationCode, now: Instant) {
        let Some(waiting) = self.waiting.lock().remove(tx_id) else {
            return; // somebody else's transaction
        };
        let ended = Ended {
            latency: now.saturating_duration_since(waiting.since),
            valid: code == TxValidationCode::Valid,
        };
        if ended.valid {
            self.valid.fetch_add(1, Ordering::Relaxed);
            self.gaps.acknowledged(now);
            let us = u32::try_from(ended.latency.as_micros()).unwrap_or(u32::MAX);
            self.latencies_us.lock().push(us);
        } else {
            let name = code.as_str_name().to_owned();
            *self.invalid.lock().entry(name).or_default() += 1;
        }
        if let Some(tell) = waiting.told {
            // A client that has stopped waiting is no error.
            let _ = tell.send(ended);
        }
    }
}

/// Starts watching and returns once the peer has answered with its newest block. The task ends
/// when it is aborted or the stream breaks; what is then outstanding counts as lost.
pub(crate) async fn watch(
    peer: &Connection,
    user: &User,
    channel_id: &str,
    commits: Arc<Commits>,
) -> Result<tokio::task::JoinHandle<()>, BenchError> {
    let failed = |error: ClientError| BenchError::Call {
        call: "DeliverFiltered",
        address: peer.address.clone(),
        reason: error.text(),
    };
    let events = peer.events().map_err(failed)?;
    let watch = events.watch_commits(user, channel_id).await;
    let mut watch = watch.map_err(failed)?;
    watch.commits().await.map_err(failed)?;
    Ok(tokio::spawn(async move {
        while let Ok(ended) = watch.commits().await {
            let now = Instant::now();
            for (tx_id, status) in &ended {
                commits.ended(tx_id, status.code, now);
            }
        }
    }))
}
