//! What a network has acknowledged must be there afterwards, on every peer.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use selvage_client::{ClientError, Committed};

use crate::{Service, wait_for};

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
    /// newest block.
    ///
    /// # Panics
    /// When something is missing or different, or the peers do not come together.
    pub async fn check_nothing_lost(&self) {
        let channel = &self.said().channel;
        let peers = self.peers().await;
        assert!(peers.len() > 1, "there is nobody to compare with");
        let agree = async || {
            let mut seen = Vec::new();
            for peer in &peers {
                let info = peer.channel_info(channel).await;
                seen.push(info.map(|i| (i.height, i.current_block_hash)).ok());
            }
            seen[0].is_some() && seen.iter().all(|one| *one == seen[0])
        };
        wait_for("peers at the same newest block", agree).await;
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
            "    {} acknowledged keys are on {} peers",
            acknowledged.len(),
            peers.len()
        );
    }
}
