//! What a proposed block has to be before it gets a vote.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_channel::block::{check_well_formed, data_hash, is_config_block};
use selvage_channel::names::{ORDERER, ORDERERS};
use selvage_crypto::sha256;
use selvage_ordering::filters::{Filters, Incoming};
use selvage_ordering::waiting::{Waiting, digest};
use selvage_ordering::{Parameters, message_size};
use selvage_proto::Message as _;
use selvage_proto::common::{
    Block, ChannelHeader, ConfigEnvelope, Consenter, Envelope, HeaderType, Orderers, Payload,
};

use crate::consenters::voters_of;
use crate::context::{BlockId, Candidate};
use crate::keys::Keys;
use crate::signed::Position;

/// Judges messages in the blocks of other consenters, by the configuration in force: the orderer's
/// filters, without those that look at a clock.
///
/// All correct consenters have to come to the same answer, or none of them could go on. So an
/// implementation asks nothing but the message and the configuration of the given sequence.
pub trait Judge: Send + Sync {
    /// Whether a message may stand in a block. A CONFIG message may only when its configuration is
    /// what applying its update to the configuration in force gives.
    fn judge(&self, sequence: u64, envelope: &Bytes, is_config: bool) -> Result<(), String>;
}

/// The filters of an orderer as a judge. Expiry is not looked at: it was when the message came in,
/// and two consenters' clocks may disagree about a block.
pub struct FilterJudge {
    filters: Filters,
    config: RwLock<Arc<ChannelConfig>>,
}

impl FilterJudge {
    /// A judge by this configuration. The channel may be moved to these consensus types.
    pub fn new(config: Arc<ChannelConfig>, migration_targets: Vec<String>) -> Self {
        let filters = Filters {
            check_expiry: false,
            migration_targets,
        };
        Self {
            filters,
            config: RwLock::new(config),
        }
    }

    /// Judges by another configuration from now on. To be told before the engine is, with
    /// [`Input::Persisted`](selvage_ordering::Input::Persisted) or
    /// [`Input::CaughtUp`](selvage_ordering::Input::CaughtUp).
    pub fn set_config(&self, config: Arc<ChannelConfig>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl std::fmt::Debug for FilterJudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilterJudge").finish_non_exhaustive()
    }
}

impl Judge for FilterJudge {
    fn judge(&self, sequence: u64, envelope: &Bytes, is_config: bool) -> Result<(), String> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        let config = config.clone();
        if config.sequence() != sequence {
            let known = config.sequence();
            return Err(format!(
                "the configuration of sequence {sequence} is asked for, {known} is known"
            ));
        }
        let envelope = Envelope::decode(envelope.clone()).map_err(|error| error.to_string())?;
        let message = Incoming::open(envelope).map_err(|refusal| refusal.to_string())?;
        let judged = match is_config {
            true => self.filters.check_config(&config, &message, 0),
            false => self.filters.check_normal(&config, &message, 0).map(drop),
        };
        judged.map_err(|refusal| refusal.to_string())
    }
}

/// Reads a block and names it. Says nothing yet about its messages.
pub(crate) fn read_block(
    position: &Position,
    encoded: &Bytes,
    view: u64,
) -> Result<Candidate, String> {
    let block = Block::decode(encoded.clone()).map_err(|error| error.to_string())?;
    let candidate = name_block(block, view)?;
    if candidate.encoded != *encoded {
        return Err("it is not in its one encoding".to_owned());
    }
    if candidate.block.header.as_ref() != Some(&position.header(&candidate.id)) {
        return Err("it does not follow the newest block".to_owned());
    }
    Ok(candidate)
}

/// Names a block that is complete but for its metadata.
pub(crate) fn name_block(block: Block, view: u64) -> Result<Candidate, String> {
    let data = block.data.as_ref().ok_or("it has no data")?;
    if block.metadata.is_some() {
        return Err("it has metadata".to_owned());
    }
    let encoded: Bytes = block.encode_to_vec().into();
    let id = BlockId {
        digest: sha256(&encoded),
        data_hash: data_hash(data),
        view,
        is_config: is_config_block(&block),
    };
    Ok(Candidate {
        id,
        block: Arc::new(block),
        encoded,
    })
}

/// What a block is judged by.
pub(crate) struct Rules<'a> {
    pub(crate) channel: &'a str,
    pub(crate) parameters: &'a Parameters,
    pub(crate) waiting: &'a Waiting,
    pub(crate) judge: &'a dyn Judge,
    pub(crate) keys: &'a dyn Keys,
}

impl Rules<'_> {
    /// Judges the messages of a block that was read.
    pub(crate) fn check(&self, candidate: &Candidate) -> Result<(), String> {
        let data = candidate.block.data.as_ref().ok_or("it has no data")?;
        check_well_formed(data).map_err(|error| error.to_string())?;
        let limits = &self.parameters.limits;
        if data.data.len() as u64 > u64::from(limits.max_messages) {
            return Err("it has more messages than the channel allows".to_owned());
        }
        let (mut seen, mut bytes) = (HashSet::new(), 0u64);
        for raw in &data.data {
            if !seen.insert(digest(raw)) {
                return Err("it has a message twice".to_owned());
            }
            bytes += self.check_message(raw, candidate.id.is_config)?;
        }
        if data.data.len() > 1 && bytes > u64::from(limits.preferred_bytes) {
            return Err("it is larger than the channel allows".to_owned());
        }
        Ok(())
    }

    /// Judges a message and says how many bytes it counts for.
    fn check_message(&self, raw: &Bytes, is_config: bool) -> Result<u64, String> {
        let envelope = Envelope::decode(raw.clone()).map_err(|error| error.to_string())?;
        let size = u64::from(message_size(&envelope));
        let payload = Payload::decode(envelope.payload).map_err(|error| error.to_string())?;
        let header = payload.header.unwrap_or_default().channel_header;
        let header = ChannelHeader::decode(header).map_err(|error| error.to_string())?;
        if header.channel_id != self.channel {
            return Err(format!("a message is for channel {:?}", header.channel_id));
        }
        match HeaderType::try_from(header.r#type) {
            Ok(HeaderType::Config) if is_config => {
                let config = ConfigEnvelope::decode(payload.data);
                let config = config.map_err(|error| error.to_string())?;
                let sequence = config.config.as_ref().map(|config| config.sequence);
                check_proposed(&config, self.keys)?;
                if sequence != Some(self.parameters.sequence + 1) {
                    return Err(format!(
                        "its configuration has sequence {sequence:?}, the one in force {}",
                        self.parameters.sequence
                    ));
                }
            }
            Ok(HeaderType::Config) => {
                return Err("a configuration is not alone in it".to_owned());
            }
            Ok(HeaderType::ConfigUpdate | HeaderType::OrdererTransaction) => {
                return Err("a message is of a type that is not ordered".to_owned());
            }
            _ => {}
        }
        // What waits here passed the filters already.
        let sequence = self.parameters.sequence;
        let known = self.waiting.find(&digest(raw));
        if known.is_none_or(|held| held.submission.sequence != sequence) {
            self.judge.judge(sequence, raw, is_config)?;
        }
        Ok(size)
    }
}

/// Checks that a channel can go on with these consenters: there are some, each with a number of its
/// own and an identity that can be read. The error names the one that is not usable.
///
/// For whoever makes or takes in a configuration; every consenter asks again before it votes.
pub fn check_consenters(consenters: &[Consenter], keys: &dyn Keys) -> Result<(), String> {
    voters_of(consenters, keys).map(drop)
}

/// The same of a configuration that was proposed.
fn check_proposed(next: &ConfigEnvelope, keys: &dyn Keys) -> Result<(), String> {
    let config = next.config.as_ref();
    let root = config.and_then(|config| config.channel_group.as_ref());
    let orderer = root.and_then(|root| root.groups.get(ORDERER));
    let value = orderer.and_then(|group| group.values.get(ORDERERS));
    let value = value.ok_or("the configuration names no consenters")?;
    let orderers = Orderers::decode(value.value.clone()).map_err(|error| error.to_string())?;
    check_consenters(&orderers.consenter_mapping, keys)
}
