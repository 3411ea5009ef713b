//! Clients that send while nodes are taken down, and what has to be there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use selvage_client::{Gateway, Invocation, explorer};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::{Service, wait_for};

/// Clients of a network's sample chaincode, each of which writes a new key again and again.
#[derive(Default)]
pub struct Load {
    /// Keys that a client was told are on the ledger.
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    sequence: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// What clients were told when something failed, and how often.
    troubles: Arc<Mutex<BTreeMap<String, usize>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Lets so many clients begin.
    ///
    /// # Panics
    /// When the network has no sample chaincode.
    pub fn begin(&mut self, service: &Service, clients: usize) {
        self.stop.store(false, Ordering::Relaxed);
        for _ in 0..clients {
            let gateway = service.gateway();
            let chaincode = service.said().chaincode.clone().unwrap();
            let (acknowledged, stop) = (self.acknowledged.clone(), self.stop.clone());
            let (sequence, troubles) = (self.sequence.clone(), self.troubles.clone());
            self.clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let key = format!("key-{}", sequence.fetch_add(1, Ordering::Relaxed));
                    let put = Invocation::new(&chaincode, "Put").args([&key, &key]);
                    match gateway.submit_transaction(&put).await {
                        Ok(_) => {
                            acknowledged.lock().await.insert(key);
                        }
                        // It may or may not have taken effect; nothing was promised.
                        Err(error) => {
                            *troubles.lock().await.entry(error.text()).or_default() += 1;
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
            }));
        }
    }

    /// Waits until so many more transactions were acknowledged.
    ///
    /// # Panics
    /// When they are not.
    pub async fn more(&self, count: usize) {
        let before = self.acknowledged.lock().await.len();
        wait_for(&format!("{count} more transactions"), || async {
            self.acknowledged.lock().await.len() >= before + count
        })
        .await;
    }

    /// Ends the clients.
    ///
    /// # Panics
    /// When one of them did.
    pub async fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.await.unwrap();
        }
    }

    /// What clients were told when something failed, and how often.
    pub async fn troubles(&self) -> BTreeMap<String, usize> {
        self.troubles.lock().await.clone()
    }

    /// Every key that was acknowledged has its value; answers how many there are.
    ///
    /// # Panics
    /// When one has not.
    pub async fn is_all_there(&self, gateway: &Gateway, service: &Service) -> usize {
        let acknowledged = self.acknowledged.lock().await;
        for key in acknowledged.iter() {
            let value = gateway.evaluate(&service.call("Get", &[key]), &[]).await;
            let value = value.unwrap_or_else(|e| panic!("{key}: {}", e.text()));
            assert_eq!(value, key.as_bytes(), "the value of {key}");
        }
        acknowledged.len()
    }
}

/// Waits until all peers have the same newest block, then compares all blocks: header, transactions,
/// validation codes and commit hash. Answers the height.
///
/// # Panics
/// When they differ, or a transaction took effect twice.
pub async fn same_chain_everywhere(service: &Service) -> u64 {
    let channel = &service.said().channel;
    let peers = service.peers().await;
    assert!(peers.len() >= 2, "two organisations with a peer each");
    wait_for("equal heights", || async {
        let mut seen = BTreeSet::new();
        for peer in &peers {
            match peer.channel_info(channel).await {
                Ok(info) => seen.insert((info.height, info.current_block_hash)),
                Err(_) => return false,
            };
        }
        seen.len() == 1
    })
    .await;
    let height = peers[0].channel_info(channel).await.unwrap().height;
    let mut took_effect = BTreeSet::new();
    for number in 0..height {
        let mut blocks = Vec::new();
        for peer in &peers {
            blocks.push(peer.block(channel, number).await.unwrap());
        }
        for block in &blocks[1..] {
            assert_eq!(blocks[0].header, block.header, "header of block {number}");
            assert_eq!(blocks[0].data, block.data, "data of block {number}");
            let metadata = |b: &selvage_proto::common::Block| b.metadata.clone().unwrap().metadata;
            assert_eq!(
                metadata(&blocks[0])[2..],
                metadata(block)[2..],
                "verdicts of {number}"
            );
        }
        for transaction in explorer::block(&blocks[0]).transactions {
            let valid = transaction.validation.is_some_and(|code| code.valid);
            let first = !valid || transaction.id.is_empty() || took_effect.insert(transaction.id);
            assert!(first, "a transaction of block {number} took effect before");
        }
    }
    height
}
