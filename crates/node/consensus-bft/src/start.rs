//! Starting an engine: for a new channel, after a restart, or on a channel that it joins later.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use malachite::Input as Step;
use prost::Message as _;
use selvage_ordering::block::{Tip, consenter_metadata};
use selvage_ordering::{Batcher, Effect, Parameters};
use selvage_proto::common::Block;
use thiserror::Error;

use crate::consenters::{number_of, voters_of};
use crate::engine::{Bft, Log, Proof};
use crate::judge::{self, Judge};
use crate::keys::Keys;
use crate::options::{BftOptions, Timing};
use crate::signed::Position;
use crate::view::Views;
use crate::wire::{self, Entry, Record};

/// What an engine starts from.
pub struct Start<'a> {
    /// The channel's name.
    pub channel_id: &'a str,
    /// The newest durable block, as it is stored.
    pub newest: &'a Block,
    /// The configuration in force.
    pub parameters: Parameters,
    /// The records of the journal; none for a new engine.
    pub records: &'a [Bytes],
    /// Whether the blocks were fetched when this node joined a running channel, so that a journal
    /// without records is what is expected. It is, too, where another consensus made the newest
    /// block.
    pub joined: bool,
    /// Options of this node.
    pub options: BftOptions,
    /// This node's key, by which it finds itself among the consenters, and theirs.
    pub keys: Arc<dyn Keys>,
    /// Judges the blocks that others propose.
    pub judge: Arc<dyn Judge>,
}

/// Why an engine cannot start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError {
    /// No consenter of the configuration has this node's identity.
    #[error("this orderer is not a consenter of the channel: no consenter has its identity")]
    NotConsenter,
    /// The configuration names no usable consenters.
    #[error("the channel's configuration cannot be used: {0}")]
    Consenters(String),
    /// The journal is gone although this node has taken part.
    #[error(
        "the journal of this orderer is gone although it has blocks up to [{0}]: without it the \
         orderer does not know what it signed. Put the journal back, or remove this orderer from \
         the channel's consenters and add it again with a new certificate"
    )]
    JournalLost(u64),
    /// The journal's records make no sense.
    #[error(
        "the journal of this orderer cannot be used: {0}. Remove this orderer from the channel's \
         consenters, remove the channel here, and add it again with a new certificate"
    )]
    Journal(String),
}

impl Bft {
    /// Starts an engine. The effects are to be carried out before the first input.
    pub fn start(start: Start<'_>) -> Result<(Self, Vec<Effect>), StartError> {
        let keys = start.keys;
        let voters = voters_of(&start.parameters.consenters, keys.as_ref())
            .map_err(StartError::Consenters)?;
        let me = number_of(&start.parameters.consenters, keys.as_ref())
            .ok_or(StartError::NotConsenter)?;
        let header = start.newest.header.clone().unwrap_or_default();
        let number = header.number;
        let views = Views::after(number, &consenter_metadata(start.newest));
        if start.records.is_empty() && views.begun() && !start.joined {
            return Err(StartError::JournalLost(number));
        }
        let logs = read_records(start.records, number).map_err(StartError::Journal)?;
        let mut engine = Self {
            channel: start.channel_id.into(),
            me,
            keys,
            judge: start.judge,
            timing: Timing::of(&start.parameters.metadata),
            options: start.options,
            parameters: start.parameters,
            voters,
            tip: Tip::after(&header),
            last_config: start.newest.last_config_index().unwrap_or_default(),
            views,
            ballot: None,
            recorded: false,
            logs,
            unpersisted: None,
            catching_up: None,
            waiting: Default::default(),
            batcher: Batcher::new(start.options.cutting),
            batches: Default::default(),
            told_idle: false,
            leader: None,
            isolated: false,
            leader_since: 0,
            urgent: BTreeMap::new(),
            recent: Default::default(),
            peers: Default::default(),
            proof: Proof::of(start.newest, 0),
            writing: Default::default(),
            ticks: 0,
            active: Vec::new(),
            over: false,
        };
        let mut out = vec![engine.members()];
        if start.records.is_empty() {
            // From here on, a journal without records is a lost one.
            let first = Record {
                version: wire::VERSION,
                height: number + 1,
                entry: None,
            };
            engine.journal(vec![first.encode_to_vec().into()], true, true, &mut out);
        }
        engine.note_leader(&mut out);
        // Signed for a later block: those before it were here once.
        if let Some(last) = engine.logs.keys().last().copied()
            && last > engine.next()
        {
            engine.catch_up(last - 1, &mut out);
        }
        engine.advance(&mut out);
        let halted = out.iter().find_map(|effect| match effect {
            Effect::Halt(reason) => Some(reason.clone()),
            _ => None,
        });
        match halted {
            Some(reason) => Err(StartError::Journal(reason)),
            None => Ok((engine, out)),
        }
    }
}

/// The records about blocks that are not here yet, by block number.
fn read_records(records: &[Bytes], newest: u64) -> Result<BTreeMap<u64, Vec<Record>>, String> {
    let mut logs: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
    for bytes in records {
        let record = Record::decode(bytes.clone()).map_err(|error| error.to_string())?;
        if record.version != wire::VERSION {
            let version = record.version;
            return Err(format!("a record is of version {version}"));
        }
        if record.height > newest && record.entry.is_some() {
            logs.entry(record.height).or_default().push(record);
        }
    }
    Ok(logs)
}

/// Reads the records about one block.
pub(crate) fn read_log(position: &Position, records: Vec<Record>) -> Result<Log, String> {
    let mut log = Vec::with_capacity(records.len());
    for record in records {
        let step = match &record.entry {
            Some(Entry::Vote(vote)) => vote.read().map(Step::Vote),
            Some(Entry::Polka(polka)) => polka.read_polka().map(Step::PolkaCertificate),
            Some(Entry::Timeout(timeout)) => timeout.read().map(Step::TimeoutElapsed),
            Some(Entry::Proposal(proposal)) => {
                let block = judge::read_block(position, &proposal.block, proposal.view)?;
                proposal.read(block).map(Step::Proposal)
            }
            None => continue,
        };
        let step = step.map_err(|error| error.to_string())?;
        log.push((record, step));
    }
    Ok(log)
}
