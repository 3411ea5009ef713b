//! The ledger as system chaincode sees it.

use bytes::Bytes;
use selvage_ledger::{LedgerError, QueryExecutor, Simulator};

use super::stub::{Pairs, Place, State};
use crate::report;

/// Most entries a range of `_lifecycle` may have.
const MAX_ENTRIES: usize = 100_000;

fn text(error: LedgerError) -> String {
    report(&error)
}

fn too_many() -> String {
    format!("the range has more than {MAX_ENTRIES} entries")
}

/// A simulation: reads and writes go into the read/write set.
pub(crate) struct SimulatorState<'a>(pub(crate) &'a mut Simulator);

impl SimulatorState<'_> {
    fn drain(&mut self, range: selvage_ledger::RangeId) -> Result<Pairs, String> {
        let mut out = Vec::new();
        while let Some(kv) = self.0.next(range).map_err(text)? {
            if out.len() >= MAX_ENTRIES {
                return Err(too_many());
            }
            out.push((kv.key, kv.value));
        }
        self.0.close(range);
        Ok(out)
    }
}

impl State for SimulatorState<'_> {
    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, String> {
        self.0.get_state(namespace, key).map_err(text)
    }

    fn put(&mut self, namespace: &str, key: &str, value: Vec<u8>) -> Result<(), String> {
        self.0.set_state(namespace, key, value.into()).map_err(text)
    }

    fn delete(&mut self, namespace: &str, key: &str) -> Result<(), String> {
        self.0.delete_state(namespace, key).map_err(text)
    }

    fn range(&mut self, namespace: &str, start: &str, end: &str) -> Result<Pairs, String> {
        let range = self.0.range(namespace, start, end).map_err(text)?;
        self.drain(range)
    }

    fn private_get(&mut self, at: Place<'_>) -> Result<Option<Bytes>, String> {
        self.0
            .get_private_data(at.namespace, at.collection, at.key)
            .map_err(text)
    }

    fn private_put(&mut self, at: Place<'_>, value: Vec<u8>) -> Result<(), String> {
        let Place {
            namespace,
            collection,
            key,
        } = at;
        self.0
            .set_private_data(namespace, collection, key, value.into())
            .map_err(text)
    }

    fn private_delete(&mut self, at: Place<'_>) -> Result<(), String> {
        self.0
            .delete_private_data(at.namespace, at.collection, at.key)
            .map_err(text)
    }

    fn private_hash(&mut self, at: Place<'_>) -> Result<Option<Bytes>, String> {
        self.0
            .get_private_data_hash(at.namespace, at.collection, at.key)
            .map_err(text)
    }

    fn private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        (start, end): (&str, &str),
    ) -> Result<Pairs, String> {
        let range = self
            .0
            .private_range(namespace, collection, start, end)
            .map_err(text)?;
        self.drain(range)
    }
}

/// Committed state, for reading only.
pub(crate) struct CommittedState(pub(crate) QueryExecutor);

fn read_only<T>() -> Result<T, String> {
    Err("this view of the state cannot be written".to_owned())
}

impl State for CommittedState {
    fn get(&mut self, namespace: &str, key: &str) -> Result<Option<Bytes>, String> {
        self.0.get_state(namespace, key).map_err(text)
    }

    fn put(&mut self, _: &str, _: &str, _: Vec<u8>) -> Result<(), String> {
        read_only()
    }

    fn delete(&mut self, _: &str, _: &str) -> Result<(), String> {
        read_only()
    }

    fn range(&mut self, namespace: &str, start: &str, end: &str) -> Result<Pairs, String> {
        let mut out = Vec::new();
        for kv in self.0.range(namespace, start, end) {
            let kv = kv.map_err(text)?;
            if out.len() >= MAX_ENTRIES {
                return Err(too_many());
            }
            out.push((kv.key, kv.value));
        }
        Ok(out)
    }

    fn private_get(&mut self, at: Place<'_>) -> Result<Option<Bytes>, String> {
        let entry = self
            .0
            .get_private_data(at.namespace, at.collection, at.key)
            .map_err(text)?;
        Ok(entry.map(|e| e.value))
    }

    fn private_put(&mut self, _: Place<'_>, _: Vec<u8>) -> Result<(), String> {
        read_only()
    }

    fn private_delete(&mut self, _: Place<'_>) -> Result<(), String> {
        read_only()
    }

    fn private_hash(&mut self, at: Place<'_>) -> Result<Option<Bytes>, String> {
        self.0
            .get_private_data_hash(at.namespace, at.collection, at.key)
            .map_err(text)
    }

    fn private_range(&mut self, _: &str, _: &str, _: (&str, &str)) -> Result<Pairs, String> {
        Err("private data has no ranges outside a simulation".to_owned())
    }
}
