//! State entries and an unchanging view of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message;
use selvage_crypto::sha256;
use selvage_proto::kvrwset::{KvMetadataEntry, KvMetadataWrite};

use crate::error::LedgerError;
use crate::store::{Entries, View};
use crate::version::{put_ordered, take_ordered};
use crate::{Metadata, Version, keys};

/// A value, its metadata and the transaction that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The value; for private data as others see it, the hash of the value.
    pub value: Bytes,
    /// Encoded metadata (Fabric: `KVMetadataWrite` with entries only), when the key has some.
    pub metadata: Option<Bytes>,
    /// Who wrote it.
    pub version: Version,
}

const ENTRY_FORMAT: u8 = 1;

impl StateEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let metadata = self.metadata.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(self.value.len() + metadata.len() + 24);
        out.push(ENTRY_FORMAT);
        put_ordered(&mut out, self.version.block);
        put_ordered(&mut out, self.version.tx);
        put_ordered(&mut out, metadata.len() as u64);
        out.extend_from_slice(metadata);
        out.extend_from_slice(&self.value);
        out
    }

    pub(crate) fn decode(stored: Bytes) -> Option<Self> {
        let mut rest = stored.strip_prefix(&[ENTRY_FORMAT])?;
        let version = Version::new(take_ordered(&mut rest)?, take_ordered(&mut rest)?);
        let metadata_len = usize::try_from(take_ordered(&mut rest)?).ok()?;
        if metadata_len > rest.len() {
            return None;
        }
        let mut value = stored.slice_ref(rest);
        let metadata = (metadata_len > 0).then(|| value.slice(..metadata_len));
        value.advance(metadata_len);
        Some(Self {
            value,
            metadata,
            version,
        })
    }
}

/// The bytes kept as metadata; `None` for no entries.
pub(crate) fn encode_metadata(entries: &[KvMetadataEntry]) -> Option<Bytes> {
    if entries.is_empty() {
        return None;
    }
    let metadata = KvMetadataWrite {
        key: String::new(),
        entries: entries.to_vec(),
    };
    Some(metadata.encode_to_vec().into())
}

/// Metadata by name. A later entry of the same name wins, as in Fabric.
pub(crate) fn decode_metadata(bytes: Bytes) -> Result<Metadata, LedgerError> {
    let metadata = KvMetadataWrite::decode(bytes).map_err(|_| LedgerError::Malformed {
        what: "metadata entry",
    })?;
    Ok(metadata
        .entries
        .into_iter()
        .map(|e| (e.name, e.value))
        .collect::<BTreeMap<_, _>>())
}

/// The whole state as of one height.
#[derive(Clone)]
pub(crate) struct StateView {
    view: Arc<dyn View>,
}

impl StateView {
    pub(crate) fn new(view: Box<dyn View>) -> Self {
        Self { view: view.into() }
    }

    pub(crate) fn view(&self) -> &dyn View {
        &*self.view
    }

    /// Number of the first block that is not in this view.
    pub(crate) fn height(&self) -> Result<u64, LedgerError> {
        match self.view.get(keys::HEIGHT)? {
            None => Ok(0),
            Some(bytes) => {
                take_ordered(&mut &bytes[..]).ok_or(LedgerError::Malformed { what: "height" })
            }
        }
    }

    pub(crate) fn get(&self, ns: &str, key: &[u8]) -> Result<Option<StateEntry>, LedgerError> {
        let Some(stored) = self.view.get(&keys::state(ns, key))? else {
            return Ok(None);
        };
        StateEntry::decode(stored)
            .map(Some)
            .ok_or(LedgerError::Malformed {
                what: "state entry",
            })
    }

    pub(crate) fn hashed(
        &self,
        ns: &str,
        coll: &str,
        key_hash: &[u8],
    ) -> Result<Option<StateEntry>, LedgerError> {
        self.get(&keys::hashed_ns(ns, coll), key_hash)
    }

    pub(crate) fn hashed_by_key(
        &self,
        ns: &str,
        coll: &str,
        key: &str,
    ) -> Result<Option<StateEntry>, LedgerError> {
        self.hashed(ns, coll, &sha256(key.as_bytes()))
    }

    pub(crate) fn private(
        &self,
        ns: &str,
        coll: &str,
        key: &str,
    ) -> Result<Option<StateEntry>, LedgerError> {
        self.get(&keys::private_ns(ns, coll), key.as_bytes())
    }

    /// Keys from `start` on and before `end`; an empty `end` means the end of the namespace.
    pub(crate) fn range(&self, ns: &str, start: &str, end: &str) -> StateRange {
        let first = keys::state(ns, start.as_bytes());
        let last = if end.is_empty() {
            keys::state_end(ns)
        } else {
            keys::state(ns, end.as_bytes())
        };
        StateRange {
            entries: self.view.range(&first, &last),
            prefix: ns.len() + 2,
        }
    }
}

/// Keys and entries of a range, in byte order.
pub(crate) struct StateRange {
    entries: Entries,
    prefix: usize,
}

impl StateRange {
    pub(crate) fn next(&mut self) -> Result<Option<(String, StateEntry)>, LedgerError> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let (key, value) = entry?;
        let key = key.get(self.prefix..).unwrap_or_default();
        let key =
            std::str::from_utf8(key).map_err(|_| LedgerError::Malformed { what: "state key" })?;
        let entry = StateEntry::decode(value).ok_or(LedgerError::Malformed {
            what: "state entry",
        })?;
        Ok(Some((key.to_owned(), entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &[u8], metadata: Option<&[u8]>) {
        let entry = StateEntry {
            value: value.to_vec().into(),
            metadata: metadata.map(|m| m.to_vec().into()),
            version: Version::new(500, 1),
        };
        assert_eq!(StateEntry::decode(entry.encode().into()), Some(entry));
    }

    #[test]
    fn entries_round_trip() {
        check(b"value", None);
        check(b"value", Some(b"metadata"));
        check(b"", Some(b"m"));
    }

    #[test]
    fn broken_entries_are_refused() {
        for stored in [&b""[..], b"\x02", b"\x01\x00\x00\x01\x09"] {
            assert_eq!(StateEntry::decode(Bytes::copy_from_slice(stored)), None);
        }
    }
}
