//! The channel as a source of blocks for deliver clients.

use std::collections::VecDeque;
use std::sync::Arc;

use selvage_channel::names::{CHANNEL_READERS, ORDERER_READERS};
use selvage_identity::{SignedData, SignerFault};
use selvage_net::deliver::{SeekRequest, Source, SourceError};
use selvage_proto::common::Block;
use selvage_proto::orderer::consensus_type::State;
use tokio::sync::watch;

use super::Chain;
use crate::in_full;

/// Newest blocks kept decoded, so that followers at the tip share one copy.
#[derive(Default)]
pub(crate) struct Recent {
    blocks: VecDeque<(Arc<Block>, usize)>,
    bytes: usize,
}

const BLOCKS: usize = 8;
const BYTES: usize = 4 << 20;

impl Recent {
    pub(super) fn push(&mut self, block: Arc<Block>, size: usize) {
        self.bytes += size;
        self.blocks.push_back((block, size));
        while self.blocks.len() > BLOCKS || self.bytes > BYTES {
            let Some((_, size)) = self.blocks.pop_front() else {
                break;
            };
            self.bytes -= size;
        }
    }

    fn get(&self, number: u64) -> Option<Arc<Block>> {
        self.blocks
            .iter()
            .map(|(block, _)| block)
            .find(|block| block.number() == number)
            .cloned()
    }
}

impl Source for Chain {
    fn height(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    fn recent(&self, number: u64) -> Option<Arc<Block>> {
        self.recent.lock().get(number)
    }

    fn read(&self, number: u64) -> Result<Arc<Block>, SourceError> {
        match self.store.block(number) {
            Ok(block) => Ok(Arc::new(block)),
            Err(error) => Err(SourceError {
                number,
                reason: in_full(&error),
            }),
        }
    }

    fn config_sequence(&self) -> u64 {
        self.config.load().sequence()
    }

    /// Readers of the channel; in maintenance only those of the orderer group, which keeps peers
    /// out while the consensus changes.
    fn authorize(&self, request: &SeekRequest) -> Result<(), String> {
        let config = self.config();
        let state = config.orderer().map(|o| o.consensus_state());
        let path = match state {
            Some(State::Maintenance) => ORDERER_READERS,
            _ => CHANNEL_READERS,
        };
        let policy = config
            .policy(path)
            .ok_or_else(|| format!("could not find policy {path}"))?;
        let signed = SignedData {
            data: request.payload.clone(),
            identity: request.creator.clone(),
            signature: request.signature.clone(),
        };
        policy
            .evaluate(std::slice::from_ref(&signed))
            .map_err(|error| {
                let fault = SignerFault::find(config.msp_manager(), &signed);
                let advice = fault.map_or_else(
                    || "use an identity that satisfies this policy".to_owned(),
                    |fault| fault.to_string(),
                );
                format!("{path}: {}; {advice}", in_full(&error))
            })
    }

    fn closed(&self) -> bool {
        self.is_stopped()
    }
}
