//! What a network has acknowledged must be there afterwards, on every peer.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use selvage_client::{ClientError, Committed};

use crate::{Service, same_chain_everywhere};

impl Service {
    /// Has the sample chaincode write a value, and remembers it when that is acknowledged.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn put(&self, key: &str, value: &str) -> Result<Committed, ClientError> {
        let put = self.call("Put", &[key, value]);
        let committed = self.gateway().submit_transaction(&put).await?;
        let mut known = self
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(key.to_owned(), value.to_owned());
        Ok(committed)
    }

    /// Everything that was acknowledged so far, by key.
    pub fn acknowledged(&self) -> BTreeMap<String, String> {
        let known = self
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Reads everything acknowledged back from every peer, after all of them have come to the same
    /// height with the same blocks.
    ///
    /// # Panics
    /// When something is missing or different, or the peers do not come together.
    pub async fn check_nothing_lost(&self) {
        let height = same_chain_everywhere(self).await;
        let (channel, peers) = (&self.said().channel, self.peers().await);
        let acknowledged = self.acknowledged();
        for peer in &peers {
            for (key, value) in &acknowledged {
                let get = self.call("Get", &[key]);
                let found = peer.peer().query(&self.user(), channel, &get).await;
                let found = found.unwrap_or_else(|e| panic!("{key} is lost: {}", e.text()));
                assert_eq!(found.payload, value.as_bytes(), "the value of {key}");
            }
        }
        println!(
            "    {} acknowledged keys are on {} peers, with the same {height} blocks",
            acknowledged.len(),
            peers.len()
        );
    }
}
