//! Read and write sets.

use bytes::Bytes;
use selvage_proto::Message as _;
use selvage_proto::kvrwset::range_query_info::ReadsInfo;
use selvage_proto::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvrwSet, QueryReads, RangeQueryInfo, Version,
};
use selvage_proto::rwset::{CollectionHashedReadWriteSet, NsReadWriteSet, TxReadWriteSet};
use serde::Serialize;

use super::value::ValueView;

/// The transaction that wrote a version of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VersionView {
    /// Its block.
    pub block: u64,
    /// Its place in the block.
    pub tx: u64,
}

impl VersionView {
    fn new(version: Version) -> Self {
        Self {
            block: version.block_num,
            tx: version.tx_num,
        }
    }
}

/// A key that was read, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadView {
    /// The key; for private data the hash of the key, in hexadecimal.
    pub key: String,
    /// The version; none when the key was not there.
    pub version: Option<VersionView>,
}

/// A key that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WriteView {
    /// The key; for private data the hash of the key, in hexadecimal.
    pub key: String,
    /// Whether the key was deleted.
    pub is_delete: bool,
    /// Whether private data was purged, its history included.
    pub is_purge: bool,
    /// The value; for private data its hash.
    pub value: ValueView,
}

/// A key whose metadata was written, such as its own endorsement policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetadataWriteView {
    /// The key; for private data the hash of the key, in hexadecimal.
    pub key: String,
    /// Names and values.
    pub entries: Vec<(String, ValueView)>,
}

/// A range query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RangeView {
    /// First key of the range.
    pub start: String,
    /// End of the range.
    pub end: String,
    /// Whether the query read to the end.
    pub exhausted: bool,
    /// What it found, when the set lists it.
    pub reads: Vec<ReadView>,
    /// Hashes over what it found, in hexadecimal, when there was much.
    pub hashes: Vec<String>,
}

/// What happened in one collection, as everybody may see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CollectionView {
    /// The collection's name.
    pub name: String,
    /// Hashed reads.
    pub reads: Vec<ReadView>,
    /// Hashed writes.
    pub writes: Vec<WriteView>,
    /// Metadata writes.
    pub metadata_writes: Vec<MetadataWriteView>,
    /// The hash of the private set, in hexadecimal.
    pub private_set_hash: String,
}

/// What happened in one chaincode's part of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NamespaceView {
    /// The chaincode.
    pub name: String,
    /// Keys read.
    pub reads: Vec<ReadView>,
    /// Range queries made.
    pub ranges: Vec<RangeView>,
    /// Keys written.
    pub writes: Vec<WriteView>,
    /// Metadata written.
    pub metadata_writes: Vec<MetadataWriteView>,
    /// Private data touched.
    pub collections: Vec<CollectionView>,
}

/// Decodes a transaction's read and write set as far as it goes; the text says what stopped it.
pub(super) fn namespaces(results: &Bytes) -> (Vec<NamespaceView>, Option<String>) {
    let set = match TxReadWriteSet::decode(results.clone()) {
        Ok(set) => set,
        Err(error) => return (Vec::new(), Some(format!("read and write set: {error}"))),
    };
    let mut views = Vec::with_capacity(set.ns_rwset.len());
    let mut problem = None;
    for part in &set.ns_rwset {
        let mut view = NamespaceView {
            name: part.namespace.clone(),
            ..NamespaceView::default()
        };
        if let Err(error) = fill(&mut view, part) {
            problem = Some(format!("read and write set of {}: {error}", part.namespace));
        }
        views.push(view);
    }
    (views, problem)
}

fn fill(view: &mut NamespaceView, part: &NsReadWriteSet) -> Result<(), prost::DecodeError> {
    let set = KvrwSet::decode(part.rwset.clone())?;
    view.reads = reads(&set.reads);
    view.ranges = set.range_queries_info.iter().map(range).collect();
    let writes = set.writes.iter();
    view.writes = writes
        .map(|w| WriteView {
            key: w.key.clone(),
            is_delete: w.is_delete,
            is_purge: false,
            value: ValueView::new(&w.value),
        })
        .collect();
    let metadata = set.metadata_writes.iter();
    view.metadata_writes = metadata
        .map(|m| metadata_write(m.key.clone(), &m.entries))
        .collect();
    for part in &part.collection_hashed_rwset {
        view.collections.push(collection(part)?);
    }
    Ok(())
}

fn reads(reads: &[selvage_proto::kvrwset::KvRead]) -> Vec<ReadView> {
    let view = |r: &selvage_proto::kvrwset::KvRead| ReadView {
        key: r.key.clone(),
        version: r.version.map(VersionView::new),
    };
    reads.iter().map(view).collect()
}

fn range(info: &RangeQueryInfo) -> RangeView {
    let (found, hashes) = match &info.reads_info {
        Some(ReadsInfo::RawReads(QueryReads { kv_reads })) => (reads(kv_reads), Vec::new()),
        Some(ReadsInfo::ReadsMerkleHashes(summary)) => {
            let hashes = summary.max_level_hashes.iter();
            (Vec::new(), hashes.map(hex::encode).collect())
        }
        None => (Vec::new(), Vec::new()),
    };
    RangeView {
        start: info.start_key.clone(),
        end: info.end_key.clone(),
        exhausted: info.itr_exhausted,
        reads: found,
        hashes,
    }
}

fn metadata_write(key: String, entries: &[KvMetadataEntry]) -> MetadataWriteView {
    let entry = |e: &KvMetadataEntry| (e.name.clone(), ValueView::new(&e.value));
    MetadataWriteView {
        key,
        entries: entries.iter().map(entry).collect(),
    }
}

fn collection(part: &CollectionHashedReadWriteSet) -> Result<CollectionView, prost::DecodeError> {
    let set = HashedRwSet::decode(part.hashed_rwset.clone())?;
    let reads = set.hashed_reads.iter().map(|r| ReadView {
        key: hex::encode(&r.key_hash),
        version: r.version.map(VersionView::new),
    });
    let writes = set.hashed_writes.iter().map(|w| WriteView {
        key: hex::encode(&w.key_hash),
        is_delete: w.is_delete,
        is_purge: w.is_purge,
        value: ValueView::new(&w.value_hash),
    });
    let metadata = set.metadata_writes.iter();
    Ok(CollectionView {
        name: part.collection_name.clone(),
        reads: reads.collect(),
        writes: writes.collect(),
        metadata_writes: metadata
            .map(|m| metadata_write(hex::encode(&m.key_hash), &m.entries))
            .collect(),
        private_set_hash: hex::encode(&part.pvt_rwset_hash),
    })
}
