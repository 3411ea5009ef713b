//! Records of `_lifecycle`: one metadata key and one key for each field
//! (Fabric: `core/chaincode/lifecycle/serializer.go`).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256;
use selvage_proto::lifecycle::StateMetadata;
use selvage_proto::peer::CollectionConfigPackage;

use crate::lifecycle::{
    CHAINCODE_SOURCES, ChaincodeDefinition, DEFINITION_FIELDS, DEFINITION_TYPE,
    LIFECYCLE_NAMESPACE, LOCAL_PACKAGE_FIELDS, LOCAL_PACKAGE_TYPE, LifecycleError, NAMESPACES,
    PARAMETERS_FIELDS, PARAMETERS_TYPE, encode_bytes, encode_int64, encode_string, field_key,
    metadata_key,
};
use crate::scc::stub::{Failure, Place, State};

/// The text of a reading error, cause included, as Fabric chains it.
pub(super) fn text(error: &LifecycleError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A key space that records live in: the public state, or one organisation's collection.
pub(super) struct Space<'a> {
    pub(super) state: &'a mut dyn State,
    pub(super) collection: Option<&'a str>,
}

impl Space<'_> {
    pub(super) fn get(&mut self, key: &str) -> Result<Option<Bytes>, String> {
        let value = match self.collection {
            None => self.state.get(LIFECYCLE_NAMESPACE, key),
            Some(collection) => self.state.private_get(place(collection, key)),
        };
        // The shim cannot tell an empty value from a missing one.
        Ok(value?.filter(|v| !v.is_empty()))
    }

    fn put(&mut self, key: &str, value: Vec<u8>) -> Result<(), String> {
        match self.collection {
            None => self.state.put(LIFECYCLE_NAMESPACE, key, value),
            Some(collection) => self.state.private_put(place(collection, key), value),
        }
    }

    fn delete(&mut self, key: &str) -> Result<(), String> {
        match self.collection {
            None => self.state.delete(LIFECYCLE_NAMESPACE, key),
            Some(collection) => self.state.private_delete(place(collection, key)),
        }
    }

    /// Every metadata record below `namespaces/`, by the name it stands for.
    pub(super) fn all_metadata(&mut self) -> Result<BTreeMap<String, StateMetadata>, Failure> {
        let prefix = format!("{NAMESPACES}/metadata/");
        let end = format!("{prefix}\u{7f}");
        let pairs = match self.collection {
            None => self.state.range(LIFECYCLE_NAMESPACE, &prefix, &end),
            Some(collection) => {
                let bounds = (prefix.as_str(), end.as_str());
                self.state
                    .private_range(LIFECYCLE_NAMESPACE, collection, bounds)
            }
        };
        let pairs = pairs.map_err(|e| {
            let context = format!("could not get state range for namespace {NAMESPACES}");
            Failure::new(e).within(context)
        })?;
        let mut out = BTreeMap::new();
        for (key, value) in pairs {
            let metadata = StateMetadata::decode(value).map_err(|e| {
                Failure::new(format!("error unmarshalling metadata for key {key}: {e}"))
            })?;
            let name = key.strip_prefix(&prefix).unwrap_or(&key).to_owned();
            out.insert(name, metadata);
        }
        Ok(out)
    }
}

fn place<'a>(collection: &'a str, key: &'a str) -> Place<'a> {
    Place {
        namespace: LIFECYCLE_NAMESPACE,
        collection,
        key,
    }
}

/// A record ready to be written or compared: every value already in its stored form.
pub(super) struct Record {
    prefix: &'static str,
    datatype: &'static str,
    names: &'static [&'static str],
    values: Vec<Vec<u8>>,
}

impl Record {
    /// A committed definition.
    pub(super) fn definition(definition: &ChaincodeDefinition) -> Self {
        let mut values = vec![encode_int64(definition.sequence)];
        values.extend(parameter_values(definition));
        Self {
            prefix: NAMESPACES,
            datatype: DEFINITION_TYPE,
            names: &DEFINITION_FIELDS,
            values,
        }
    }

    /// What an organisation approves: the definition without its sequence.
    pub(super) fn parameters(definition: &ChaincodeDefinition) -> Self {
        Self {
            prefix: NAMESPACES,
            datatype: PARAMETERS_TYPE,
            names: &PARAMETERS_FIELDS,
            values: parameter_values(definition),
        }
    }

    /// The package an organisation uses for its approval; may be empty.
    pub(super) fn package(package_id: &str) -> Self {
        Self {
            prefix: CHAINCODE_SOURCES,
            datatype: LOCAL_PACKAGE_TYPE,
            names: &LOCAL_PACKAGE_FIELDS,
            values: vec![encode_string(package_id)],
        }
    }

    /// The metadata record of this record.
    fn metadata(&self) -> StateMetadata {
        StateMetadata {
            datatype: self.datatype.to_owned(),
            fields: self.names.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    /// Writes what differs from the stored record and removes fields it no longer has.
    pub(super) fn write(&self, name: &str, space: &mut Space<'_>) -> Result<(), Failure> {
        let stored = read_metadata(self.prefix, name, space)
            .map_err(|e| {
                let context = "could not deserialize metadata for namespace";
                e.within(format!("{context} {}/{name}", self.prefix))
            })?
            .unwrap_or_default();
        let mut existing = BTreeMap::new();
        for field in &stored.fields {
            let key = field_key(self.prefix, name, field);
            let value = space
                .get(&key)
                .map_err(|e| Failure::new(format!("could not get value for key {key}: {e}")))?;
            existing.insert(key, value.unwrap_or_default());
        }
        for (field, value) in self.names.iter().zip(&self.values) {
            let key = field_key(self.prefix, name, field);
            let same = existing
                .remove(&key)
                .is_some_and(|old| old == value.as_slice());
            if !same {
                space
                    .put(&key, value.clone())
                    .map_err(|e| Failure::new(format!("could not write key into state: {e}")))?;
            }
        }
        let reshaped = stored.datatype != self.datatype || stored.fields.len() != self.names.len();
        if !existing.is_empty() || reshaped {
            let key = metadata_key(self.prefix, name);
            space
                .put(&key, self.metadata().encode_to_vec())
                .map_err(|e| {
                    let what = format!(
                        "could not store metadata for namespace {}/{name}",
                        self.prefix
                    );
                    Failure::new(e).within(what)
                })?;
        }
        for key in existing.keys() {
            space
                .delete(key)
                .map_err(|e| Failure::new(format!("could not delete unneeded key {key}: {e}")))?;
        }
        Ok(())
    }

    /// Compares the record with an organisation's hashes. Empty when they agree; otherwise the
    /// type when the shape differs, or else the fields that do.
    pub(super) fn mismatches(
        &self,
        name: &str,
        state: &mut dyn State,
        collection: &str,
    ) -> Result<Vec<String>, Failure> {
        let mut hash = |key: String| {
            state
                .private_hash(place(collection, &key))
                .map_err(|e| Failure::new(format!("could not get value for key {key}: {e}")))
        };
        let metadata = hash(metadata_key(self.prefix, name))?;
        let mut stored = Vec::with_capacity(self.names.len());
        for field in self.names {
            stored.push(hash(field_key(self.prefix, name, field))?);
        }
        if !equals_hash(&self.metadata().encode_to_vec(), &metadata) {
            return Ok(vec![self.datatype.to_owned()]);
        }
        let fields = self.names.iter().zip(&self.values).zip(&stored);
        Ok(fields
            .filter(|((_, value), hash)| !equals_hash(value, hash))
            .map(|((name, _), _)| (*name).to_owned())
            .collect())
    }
}

fn equals_hash(value: &[u8], hash: &Option<Bytes>) -> bool {
    hash.as_ref()
        .is_some_and(|hash| hash.as_ref() == sha256(value).as_slice())
}

fn parameter_values(definition: &ChaincodeDefinition) -> Vec<Vec<u8>> {
    let collections: &CollectionConfigPackage = &definition.collections;
    vec![
        encode_bytes(definition.endorsement.encode_to_vec()),
        encode_bytes(definition.validation.encode_to_vec()),
        encode_bytes(collections.encode_to_vec()),
    ]
}

/// The metadata record of a name, if it has one.
pub(super) fn read_metadata(
    prefix: &'static str,
    name: &str,
    space: &mut Space<'_>,
) -> Result<Option<StateMetadata>, Failure> {
    let context = |e: String, what: &str| {
        Failure::new(format!(
            "{what} metadata for namespace {prefix}/{name}: {e}"
        ))
    };
    let value = space
        .get(&metadata_key(prefix, name))
        .map_err(|e| context(e, "could not query"))?;
    value
        .map(StateMetadata::decode)
        .transpose()
        .map_err(|e| context(e.to_string(), "could not unmarshal"))
}
