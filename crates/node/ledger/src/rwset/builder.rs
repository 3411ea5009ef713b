//! Gathers what a simulation touches and gives Fabric's bytes for it.
//!
//! Everything is kept in ordered maps, so the bytes depend only on what was touched and, for range
//! queries, on the order in which they were opened. Hashed entries are ordered by their plain key.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256;
use selvage_proto::kvrwset::{
    HashedRwSet, KvMetadataEntry, KvMetadataWrite, KvMetadataWriteHash, KvRead, KvReadHash,
    KvWrite, KvWriteHash, KvrwSet, RangeQueryInfo,
};
use selvage_proto::rwset::{
    CollectionHashedReadWriteSet, CollectionPvtReadWriteSet, NsPvtReadWriteSet, NsReadWriteSet,
    TxPvtReadWriteSet, TxReadWriteSet,
};

use crate::Version;

/// Named metadata of a key. Empty means: remove the metadata.
pub type Metadata = BTreeMap<String, Bytes>;

#[derive(Debug, Default)]
pub(crate) struct Builder {
    public: BTreeMap<String, Namespace>,
    private: BTreeMap<String, BTreeMap<String, PrivateCollection>>,
}

#[derive(Debug, Default)]
struct Namespace {
    reads: BTreeMap<String, KvRead>,
    writes: BTreeMap<String, KvWrite>,
    metadata_writes: BTreeMap<String, KvMetadataWrite>,
    ranges: Vec<RangeQueryInfo>,
    ranges_seen: HashSet<(String, String, bool)>,
    collections: BTreeMap<String, HashedCollection>,
}

#[derive(Debug, Default)]
struct HashedCollection {
    reads: BTreeMap<String, KvReadHash>,
    writes: BTreeMap<String, KvWriteHash>,
    metadata_writes: BTreeMap<String, KvMetadataWriteHash>,
}

#[derive(Debug, Default)]
struct PrivateCollection {
    writes: BTreeMap<String, KvWrite>,
    metadata_writes: BTreeMap<String, KvMetadataWrite>,
}

impl Builder {
    fn ns(&mut self, ns: &str) -> &mut Namespace {
        slot(&mut self.public, ns)
    }

    fn hashed(&mut self, ns: &str, coll: &str) -> &mut HashedCollection {
        slot(&mut self.ns(ns).collections, coll)
    }

    fn plain(&mut self, ns: &str, coll: &str) -> &mut PrivateCollection {
        slot(slot(&mut self.private, ns), coll)
    }

    pub(crate) fn read(&mut self, ns: &str, key: &str, version: Option<Version>) {
        let read = KvRead {
            key: key.to_owned(),
            version: version.map(Version::to_proto),
        };
        self.ns(ns).reads.insert(key.to_owned(), read);
    }

    /// An empty value deletes.
    pub(crate) fn write(&mut self, ns: &str, key: &str, value: Bytes) {
        let write = write(key, value);
        self.ns(ns).writes.insert(key.to_owned(), write);
    }

    pub(crate) fn metadata_write(&mut self, ns: &str, key: &str, metadata: Metadata) {
        let write = KvMetadataWrite {
            key: key.to_owned(),
            entries: entries(metadata),
        };
        self.ns(ns).metadata_writes.insert(key.to_owned(), write);
    }

    /// The first query with the same start, end and exhaustion stands for all.
    pub(crate) fn range(&mut self, ns: &str, info: RangeQueryInfo) {
        let ns = self.ns(ns);
        let key = (
            info.start_key.clone(),
            info.end_key.clone(),
            info.itr_exhausted,
        );
        if ns.ranges_seen.insert(key) {
            ns.ranges.push(info);
        }
    }

    pub(crate) fn hashed_read(
        &mut self,
        ns: &str,
        coll: &str,
        key: &str,
        version: Option<Version>,
    ) {
        let read = KvReadHash {
            key_hash: hash(key.as_bytes()),
            version: version.map(Version::to_proto),
        };
        self.hashed(ns, coll).reads.insert(key.to_owned(), read);
    }

    /// An empty value deletes.
    pub(crate) fn private_write(&mut self, ns: &str, coll: &str, key: &str, value: Bytes) {
        self.put_private(ns, coll, key, value, false);
    }

    pub(crate) fn private_purge(&mut self, ns: &str, coll: &str, key: &str) {
        self.put_private(ns, coll, key, Bytes::new(), true);
    }

    fn put_private(&mut self, ns: &str, coll: &str, key: &str, value: Bytes, is_purge: bool) {
        let value_hash = if value.is_empty() {
            Bytes::new()
        } else {
            hash(&value)
        };
        let hashed = KvWriteHash {
            key_hash: hash(key.as_bytes()),
            is_delete: value.is_empty(),
            value_hash,
            is_purge,
        };
        self.hashed(ns, coll).writes.insert(key.to_owned(), hashed);
        let plain = write(key, value);
        self.plain(ns, coll).writes.insert(key.to_owned(), plain);
    }

    /// The private set carries only the key, so that members learn which value got a new version.
    pub(crate) fn private_metadata(&mut self, ns: &str, coll: &str, key: &str, metadata: Metadata) {
        let plain = KvMetadataWrite {
            key: key.to_owned(),
            entries: Vec::new(),
        };
        self.plain(ns, coll)
            .metadata_writes
            .insert(key.to_owned(), plain);
        let hashed = KvMetadataWriteHash {
            key_hash: hash(key.as_bytes()),
            entries: entries(metadata),
        };
        self.hashed(ns, coll)
            .metadata_writes
            .insert(key.to_owned(), hashed);
    }

    /// Public keys that are written or whose metadata is, each once.
    pub(crate) fn written_keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.public.iter().flat_map(|(ns, set)| {
            let more = set.metadata_writes.keys();
            let more = more.filter(|key| !set.writes.contains_key(*key));
            let keys = set.writes.keys().chain(more);
            keys.map(move |key| (ns.as_str(), key.as_str()))
        })
    }

    /// Private keys that are written or whose metadata is, each once.
    pub(crate) fn written_private_keys(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.private.iter().flat_map(|(ns, colls)| {
            colls.iter().flat_map(move |(coll, set)| {
                let more = set.metadata_writes.keys();
                let more = more.filter(|key| !set.writes.contains_key(*key));
                let keys = set.writes.keys().chain(more);
                keys.map(move |key| (ns.as_str(), coll.as_str(), key.as_str()))
            })
        })
    }

    /// The public set and, when private data was written, the private one.
    pub(crate) fn finish(self) -> (TxReadWriteSet, Option<TxPvtReadWriteSet>) {
        let mut private_hashes = BTreeMap::new();
        let mut private = Vec::with_capacity(self.private.len());
        for (ns, colls) in self.private {
            let mut sets = Vec::with_capacity(colls.len());
            for (coll, set) in colls {
                let rwset = set.encode();
                private_hashes.insert((ns.clone(), coll.clone()), hash(&rwset));
                sets.push(CollectionPvtReadWriteSet {
                    collection_name: coll,
                    rwset: rwset.into(),
                });
            }
            private.push(NsPvtReadWriteSet {
                namespace: ns,
                collection_pvt_rwset: sets,
            });
        }
        let public = self
            .public
            .into_iter()
            .map(|(name, ns)| ns.finish(name, &mut private_hashes))
            .collect();
        let public = TxReadWriteSet {
            data_model: 0,
            ns_rwset: public,
        };
        let private = (!private.is_empty()).then_some(TxPvtReadWriteSet {
            data_model: 0,
            ns_pvt_rwset: private,
        });
        (public, private)
    }
}

impl Namespace {
    fn finish(
        self,
        name: String,
        private_hashes: &mut BTreeMap<(String, String), Bytes>,
    ) -> NsReadWriteSet {
        let set = KvrwSet {
            reads: self.reads.into_values().collect(),
            range_queries_info: self.ranges,
            writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata_writes.into_values().collect(),
        };
        let mut collections = Vec::with_capacity(self.collections.len());
        for (coll, hashed) in self.collections {
            let hashed = HashedRwSet {
                hashed_reads: hashed.reads.into_values().collect(),
                hashed_writes: hashed.writes.into_values().collect(),
                metadata_writes: hashed.metadata_writes.into_values().collect(),
            };
            let key = (name.clone(), coll);
            let pvt_rwset_hash = private_hashes.remove(&key).unwrap_or_default();
            collections.push(CollectionHashedReadWriteSet {
                collection_name: key.1,
                hashed_rwset: hashed.encode_to_vec().into(),
                pvt_rwset_hash,
            });
        }
        NsReadWriteSet {
            namespace: name,
            rwset: set.encode_to_vec().into(),
            collection_hashed_rwset: collections,
        }
    }
}

impl PrivateCollection {
    fn encode(self) -> Vec<u8> {
        KvrwSet {
            writes: self.writes.into_values().collect(),
            metadata_writes: self.metadata_writes.into_values().collect(),
            ..Default::default()
        }
        .encode_to_vec()
    }
}

/// The entry of a map, allocating its name only when it is new.
fn slot<'a, T: Default>(map: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    if !map.contains_key(name) {
        map.insert(name.to_owned(), T::default());
    }
    map.get_mut(name).expect("it has just been put there")
}

fn write(key: &str, value: Bytes) -> KvWrite {
    KvWrite {
        key: key.to_owned(),
        is_delete: value.is_empty(),
        value,
    }
}

fn entries(metadata: Metadata) -> Vec<KvMetadataEntry> {
    metadata
        .into_iter()
        .map(|(name, value)| KvMetadataEntry { name, value })
        .collect()
}

fn hash(bytes: &[u8]) -> Bytes {
    sha256(bytes).to_vec().into()
}
