//! A transaction's public read/write set, decoded down to its entries.

use bytes::Bytes;
use prost::{DecodeError, Message};
use selvage_proto::kvrwset::{HashedRwSet, KvrwSet};
use selvage_proto::rwset::TxReadWriteSet;

/// The read/write set of a transaction (Fabric: `rwsetutil.TxRwSet`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TxRwSet {
    /// One entry per namespace, in the order of the received bytes.
    pub namespaces: Vec<NsRwSet>,
}

/// What a transaction did in one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NsRwSet {
    /// The chaincode's name.
    pub namespace: String,
    /// Public reads and writes.
    pub public: KvrwSet,
    /// Hashes of private reads and writes.
    pub collections: Vec<CollectionRwSet>,
}

/// What a transaction did in one private data collection.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollectionRwSet {
    /// The collection's name.
    pub collection: String,
    /// Reads and writes, with hashes in place of keys and values.
    pub hashed: HashedRwSet,
    /// SHA-256 of the private write set; empty when there is none.
    pub private_hash: Bytes,
}

impl TxRwSet {
    /// Decodes `ChaincodeAction.results` with everything that is nested in it.
    ///
    /// # Errors
    /// When any layer is malformed (Fabric: `BAD_RWSET`).
    pub fn decode(results: Bytes) -> Result<Self, DecodeError> {
        let outer = TxReadWriteSet::decode(results)?;
        let mut namespaces = Vec::with_capacity(outer.ns_rwset.len());
        for ns in outer.ns_rwset {
            let mut collections = Vec::with_capacity(ns.collection_hashed_rwset.len());
            for coll in ns.collection_hashed_rwset {
                collections.push(CollectionRwSet {
                    collection: coll.collection_name,
                    hashed: HashedRwSet::decode(coll.hashed_rwset)?,
                    private_hash: coll.pvt_rwset_hash,
                });
            }
            namespaces.push(NsRwSet {
                namespace: ns.namespace,
                public: KvrwSet::decode(ns.rwset)?,
                collections,
            });
        }
        Ok(Self { namespaces })
    }

    /// Whether some collection carries a private write set beside this one.
    pub fn has_private_writes(&self) -> bool {
        self.collections()
            .any(|(_, coll)| !coll.private_hash.is_empty())
    }

    /// The hash of the private write set of one collection, when there is one.
    pub fn private_hash(&self, ns: &str, collection: &str) -> Option<&Bytes> {
        self.collections()
            .find(|(name, coll)| *name == ns && coll.collection == collection)
            .map(|(_, coll)| &coll.private_hash)
            .filter(|hash| !hash.is_empty())
    }

    /// Every collection with its namespace.
    pub fn collections(&self) -> impl Iterator<Item = (&str, &CollectionRwSet)> {
        self.namespaces
            .iter()
            .flat_map(|ns| ns.collections.iter().map(|c| (ns.namespace.as_str(), c)))
    }
}
