//! A peer beside an orderer: the ledger that the channel's blocks lead to.
//!
//! The ledger is the real one, its block files on a simulated disk, its state in memory and made
//! again from the blocks at each start. What judges a transaction before the ledger does is a peer's
//! business that needs identities, and is not here but for one rule: of transactions with one id
//! only the first may be valid.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use selvage_crypto::sha256_parts;
use selvage_env::{Crash, MemDisk};
use selvage_ledger::{
    CommittedBlock, DecodedTx, Ledger, LedgerOptions, NoCollections, PrivateSets, StateStorage,
    TxRwSet, tx_id_of,
};
use selvage_proto::common::{Block, ChannelHeader, Envelope, HeaderType, Payload};
use selvage_proto::peer::TxValidationCode as Code;

use crate::transactions::{CHAINCODE, results_of, transaction};

/// A peer's ledger with its disk.
pub struct Peer {
    disk: Arc<MemDisk>,
    ledger: Arc<Ledger>,
}

/// What a transaction does: reads its key or not, and writes it.
#[derive(Debug, Clone, Copy)]
pub struct Deed {
    /// The key's number.
    pub key: u64,
    /// The value's size.
    pub size: usize,
    /// Whether the key is written without being read, so that nothing can come in between.
    pub blind: bool,
}

/// A mistake in committing a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slip {
    /// None.
    None,
    /// The validator does not look whether a transaction's id was there before.
    Credulous,
    /// What the last transaction writes is lost.
    LoseWrite,
}

fn open(disk: &Arc<MemDisk>) -> Result<Arc<Ledger>, String> {
    let options = LedgerOptions {
        state: StateStorage::Memory,
        history: false,
        ..LedgerOptions::default()
    };
    let opened = Ledger::open(
        disk.clone(),
        Path::new("/peer"),
        options,
        Arc::new(NoCollections),
    );
    opened.map_err(|error| format!("its ledger does not open: {error}"))
}

impl Peer {
    /// A peer without blocks.
    pub fn new() -> Result<Self, String> {
        let disk = Arc::new(MemDisk::new());
        let ledger = open(&disk)?;
        Ok(Self { disk, ledger })
    }

    /// How many blocks it has.
    pub fn height(&self) -> u64 {
        self.ledger.height()
    }

    /// A block with what became of its transactions.
    pub fn block(&self, number: u64) -> Option<Block> {
        self.ledger.block_by_number(number).ok()
    }

    /// Runs a transaction on this peer's state; the envelope is what its client sends to orderers.
    pub fn endorse(&self, id: &str, deed: Deed) -> Result<Bytes, String> {
        let run = || {
            let mut simulator = self.ledger.simulator(id)?;
            let key = format!("key{}", deed.key);
            if !deed.blind {
                simulator.get_state(CHAINCODE, &key)?;
            }
            let mut value = format!("by {id} ").into_bytes();
            value.resize(value.len().max(deed.size), b'.');
            simulator.set_state(CHAINCODE, &key, value.into())?;
            simulator.done()
        };
        match run() {
            Ok(simulation) => Ok(transaction(id, simulation.results)),
            Err(error) => Err(format!("it cannot simulate: {error}")),
        }
    }

    /// Commits the next block, perhaps with a mistake.
    pub fn commit(&self, block: &Block, slip: Slip) -> Result<Arc<CommittedBlock>, String> {
        let mut seen = BTreeSet::new();
        let mut codes = Vec::with_capacity(block.envelopes().len());
        for envelope in block.envelopes() {
            codes.push(match is_endorsed(envelope) {
                true if slip != Slip::Credulous => self.judge(tx_id_of(envelope), &mut seen)?,
                _ => Code::Valid,
            });
        }
        let decoded = match slip {
            Slip::LoseWrite => without_last_write(block),
            _ => Vec::new(),
        };
        let committed =
            self.ledger
                .commit_decoded(block.clone(), &codes, decoded, &PrivateSets::new());
        committed.map_err(|error| format!("its ledger refuses block {}: {error}", block.number()))
    }

    fn judge(&self, id: String, seen: &mut BTreeSet<String>) -> Result<Code, String> {
        let known = self.ledger.tx_exists(&id);
        let known = known.map_err(|error| format!("its index cannot be read: {error}"))?;
        Ok(match !known && seen.insert(id) {
            true => Code::Valid,
            false => Code::DuplicateTxid,
        })
    }

    /// The process or the machine stops, and starts again.
    pub fn crash(&mut self, how: Crash) -> Result<(), String> {
        self.disk = Arc::new(self.disk.crash(how));
        self.ledger = open(&self.disk)?;
        Ok(())
    }

    /// A hash over every key with its value and version.
    pub fn state(&self) -> Result<[u8; 32], String> {
        let read = || {
            let query = self.ledger.query()?;
            let mut parts: Vec<Vec<u8>> = Vec::new();
            for found in query.range(CHAINCODE, "", "") {
                let found = found?;
                let version = query.get_version(CHAINCODE, &found.key)?;
                parts.push(format!("{} {version:?} ", found.key).into_bytes());
                parts.push(found.value.to_vec());
            }
            Ok::<_, selvage_ledger::LedgerError>(sha256_parts(parts.iter().map(Vec::as_slice)))
        };
        read().map_err(|error| format!("its state cannot be read: {error}"))
    }
}

/// The block's last transaction, if it is one of a chaincode, without what it writes.
fn without_last_write(block: &Block) -> Vec<Option<DecodedTx>> {
    let mut decoded = vec![None; block.envelopes().len()];
    let last = block.envelopes().last().filter(|last| is_endorsed(last));
    if let Some(last) = last
        && let Some(mut set) = results_of(last).and_then(|set| TxRwSet::decode(set).ok())
    {
        let namespaces = set.namespaces.iter_mut();
        namespaces.for_each(|namespace| namespace.public.writes.clear());
        if let Some(place) = decoded.last_mut() {
            *place = Some(DecodedTx {
                id: tx_id_of(last),
                set: Arc::new(set),
            });
        }
    }
    decoded
}

/// Whether an envelope holds a transaction of a chaincode.
fn is_endorsed(envelope: &Bytes) -> bool {
    let header = || {
        let envelope = Envelope::decode(envelope.clone()).ok()?;
        let payload = Payload::decode(envelope.payload).ok()?;
        ChannelHeader::decode(payload.header?.channel_header).ok()
    };
    header().is_some_and(|header| header.r#type == HeaderType::EndorserTransaction as i32)
}
