//! The store of tests: an ordered map whose views share it until the next write.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, Durability, Entries, Store, StoreError, View};

type Map = BTreeMap<Bytes, Bytes>;

/// A store that lives as long as the process.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    map: RwLock<Arc<Map>>,
}

struct MemoryView(Arc<Map>);

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, start: &[u8], end: &[u8]) -> Entries {
        if start >= end {
            return Box::new(std::iter::empty());
        }
        let found: Vec<_> = self
            .0
            .range::<[u8], _>((
                std::ops::Bound::Included(start),
                std::ops::Bound::Excluded(end),
            ))
            .map(|(k, v)| Ok((k.clone(), v.clone())))
            .collect();
        Box::new(found.into_iter())
    }
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.map.read().get(key).cloned())
    }

    fn view(&self) -> Box<dyn View> {
        Box::new(MemoryView(self.map.read().clone()))
    }

    fn commit(&self, batch: Batch, _: Durability) -> Result<(), StoreError> {
        let mut guard = self.map.write();
        let map = Arc::make_mut(&mut guard);
        for (key, value) in batch.ops {
            match value {
                Some(value) => map.insert(key.into(), value.into()),
                None => map.remove(&key[..]),
            };
        }
        Ok(())
    }
}
