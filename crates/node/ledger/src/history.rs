//! Every change of a key, read back from the blocks.

use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;
use selvage_proto::queryresult::KeyModification;

use crate::blocks::BlockStore;
use crate::error::LedgerError;
use crate::rwset::{TxRwSet, is_delete};
use crate::state::StateView;
use crate::store::Entries;
use crate::tx::OpenTx;
use crate::version::{put_ordered, take_ordered};
use crate::{Version, keys};

/// Where an envelope lies inside its block's stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

impl Location {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_ordered(out, self.offset);
        put_ordered(out, self.len);
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let offset = take_ordered(bytes)?;
        let len = take_ordered(bytes)?;
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(Self {
            offset,
            len,
            crc: u32::from_le_bytes(*crc),
        })
    }

    /// The envelope, checked against its checksum.
    pub(crate) fn read(self, blocks: &BlockStore, block: u64) -> Result<Bytes, LedgerError> {
        let end = self.offset.checked_add(self.len);
        let end = end.ok_or(LedgerError::Malformed { what: "location" })?;
        let envelope = blocks.raw_part(block, self.offset..end)?;
        if crc32c(&envelope) != self.crc {
            return Err(LedgerError::Malformed {
                what: "envelope in a block file",
            });
        }
        Ok(envelope)
    }
}

/// Gives histories.
#[derive(Clone)]
pub(crate) struct HistorySource {
    blocks: Arc<BlockStore>,
}

impl HistorySource {
    pub(crate) fn new(blocks: Arc<BlockStore>) -> Self {
        Self { blocks }
    }

    pub(crate) fn of(&self, state: &StateView, ns: &str, key: &str) -> History {
        let prefix = keys::history_prefix(ns, key);
        History {
            entries: state.view().range(&prefix, &keys::end_of(&prefix)),
            blocks: self.blocks.clone(),
            prefix,
            ns: ns.to_owned(),
            key: key.to_owned(),
        }
    }
}

/// The changes of one key, newest first. Invalid transactions are not among them.
pub struct History {
    entries: Entries,
    blocks: Arc<BlockStore>,
    prefix: Vec<u8>,
    ns: String,
    key: String,
}

impl Iterator for History {
    type Item = Result<KeyModification, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next_back()?;
        Some(entry.map_err(LedgerError::from).and_then(|(key, value)| {
            let version = keys::version_after(&self.prefix, &key);
            let location = Location::decode(&mut &value[..]);
            let what = "history entry";
            let malformed = LedgerError::Malformed { what };
            let (Some(version), Some(location)) = (version, location) else {
                return Err(malformed);
            };
            self.modification(version, location)
        }))
    }
}

impl History {
    fn modification(
        &self,
        version: Version,
        location: Location,
    ) -> Result<KeyModification, LedgerError> {
        let envelope = location.read(&self.blocks, version.block)?;
        find_write(&envelope, &self.ns, &self.key).ok_or_else(|| LedgerError::HistoryMismatch {
            namespace: self.ns.clone(),
            key: self.key.clone(),
            block: version.block,
            tx: version.tx,
        })
    }
}

fn find_write(envelope: &Bytes, ns: &str, key: &str) -> Option<KeyModification> {
    let tx = OpenTx::open(envelope)?;
    let set = TxRwSet::decode(tx.action()?.results).ok()?;
    // Fabric looks only at the first entry of the namespace and the first write of the key.
    let ns = set.namespaces.iter().find(|n| n.namespace == ns)?;
    let write = ns.public.writes.iter().find(|w| w.key == key)?;
    Some(KeyModification {
        tx_id: tx.channel.tx_id,
        value: write.value.clone(),
        timestamp: tx.channel.timestamp,
        is_delete: is_delete(write),
    })
}
