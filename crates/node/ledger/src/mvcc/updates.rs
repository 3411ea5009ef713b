//! What a block changes, and the commit hash over it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256_parts;
use selvage_proto::internal;

use crate::Version;

/// The new state of a key. No value means that the key is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) value: Option<Bytes>,
    pub(crate) metadata: Option<Bytes>,
    pub(crate) version: Version,
}

pub(crate) type PublicUpdates = BTreeMap<String, BTreeMap<String, Update>>;
pub(crate) type HashedUpdates = BTreeMap<String, BTreeMap<String, BTreeMap<Bytes, Update>>>;

/// Changes of public keys and of the hashes of private ones.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    pub(crate) public: PublicUpdates,
    pub(crate) hashed: HashedUpdates,
}

impl Updates {
    pub(crate) fn public(&self, ns: &str, key: &str) -> Option<&Update> {
        self.public.get(ns)?.get(key)
    }

    pub(crate) fn hashed(&self, ns: &str, coll: &str, key_hash: &[u8]) -> Option<&Update> {
        self.hashed.get(ns)?.get(coll)?.get(key_hash)
    }

    pub(crate) fn put_public(&mut self, ns: &str, key: String, update: Update) {
        if let Some(keys) = self.public.get_mut(ns) {
            keys.insert(key, update);
        } else {
            let keys = BTreeMap::from([(key, update)]);
            self.public.insert(ns.to_owned(), keys);
        }
    }

    pub(crate) fn put_hashed(&mut self, ns: &str, coll: &str, key_hash: Bytes, update: Update) {
        self.hashed
            .entry(ns.to_owned())
            .or_default()
            .entry(coll.to_owned())
            .or_default()
            .insert(key_hash, update);
    }

    /// Every namespace in which something public or hashed changes.
    pub(crate) fn namespaces(&self) -> BTreeSet<&str> {
        let public = self.public.keys().map(String::as_str);
        public
            .chain(self.hashed.keys().map(String::as_str))
            .collect()
    }

    /// The commit hash of a block: over the validation codes, these changes in a fixed order, and
    /// the hash of the block before.
    ///
    /// The configuration's own namespace is left out. A namespace's name stands on its first
    /// entry, a collection's on its first, so a namespace without public changes has both on the
    /// same entry.
    pub(crate) fn commit_hash(&self, filter: &[u8], previous: &[u8]) -> [u8; 32] {
        let mut writes = Vec::new();
        for ns in self.namespaces() {
            if ns.is_empty() {
                continue;
            }
            let first = writes.len();
            if let Some(keys) = self.public.get(ns) {
                let public = keys.iter().map(|(key, u)| entry(key.as_bytes(), u));
                writes.extend(public);
            }
            for (coll, hashes) in self.hashed.get(ns).into_iter().flatten() {
                let first = writes.len();
                writes.extend(hashes.iter().map(|(hash, u)| entry(hash, u)));
                writes[first].collection.clone_from(coll);
            }
            ns.clone_into(&mut writes[first].namespace);
        }
        let updates = internal::Updates { kvwrites: writes }.encode_to_vec();
        let mut length = Vec::new();
        prost::encoding::encode_varint(filter.len() as u64, &mut length);
        sha256_parts([&length[..], filter, &updates, previous])
    }
}

fn entry(key: &[u8], update: &Update) -> internal::KvWrite {
    internal::KvWrite {
        key: key.to_vec().into(),
        is_delete: update.value.is_none(),
        value: update.value.clone().unwrap_or_default(),
        version_bytes: update.version.to_bytes().into(),
        ..Default::default()
    }
}
