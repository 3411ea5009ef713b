//! Committed chaincode definitions (Fabric: `core/chaincode/lifecycle`).
//!
//! A definition is public state in the namespace `_lifecycle`: one metadata key that names its type
//! and fields, and one key for each field. Approvals have the same shape in each organisation's
//! implicit collection. This module holds the keys, the field codec and read access; the functions
//! that write definitions live with the `_lifecycle` system chaincode.

mod collections;
mod legacy;
mod policy;
mod serial;

pub use collections::{ChannelCollections, ConfigHandle};
pub use legacy::legacy_validation;
pub use policy::{
    CollectionRule, PolicyScope, ValidationRule, collection_rule, implicit_collection,
    implicit_collection_org, implicit_policy, lifecycle_policy, validation_rule,
};
pub use serial::{
    decode_field, decode_message_field, encode_bytes, encode_int64, encode_string, field_key,
    metadata_key,
};

use bytes::Bytes;
use prost::Message;
use selvage_proto::lifecycle::{
    ChaincodeEndorsementInfo, ChaincodeValidationInfo, StateMetadata, state_data,
};
use selvage_proto::peer::{CollectionConfigPackage, StaticCollectionConfig, collection_config};

/// The namespace, and system chaincode, that holds definitions.
pub const LIFECYCLE_NAMESPACE: &str = "_lifecycle";
/// Prefix of the keys of definitions and parameters.
pub const NAMESPACES: &str = "namespaces";
/// Prefix of the keys that bind an approval to a package; only in implicit collections.
pub const CHAINCODE_SOURCES: &str = "chaincode-sources";
/// Data type of a committed definition.
pub const DEFINITION_TYPE: &str = "ChaincodeDefinition";
/// Data type of an organisation's approved parameters.
pub const PARAMETERS_TYPE: &str = "ChaincodeParameters";
/// Data type of the package an organisation bound to its approval.
pub const LOCAL_PACKAGE_TYPE: &str = "ChaincodeLocalPackage";
/// Fields of [`DEFINITION_TYPE`], in the order Fabric records them.
pub const DEFINITION_FIELDS: [&str; 4] = [
    "Sequence",
    "EndorsementInfo",
    "ValidationInfo",
    "Collections",
];
/// Fields of [`PARAMETERS_TYPE`], in the order Fabric records them.
pub const PARAMETERS_FIELDS: [&str; 3] = ["EndorsementInfo", "ValidationInfo", "Collections"];
/// Fields of [`LOCAL_PACKAGE_TYPE`].
pub const LOCAL_PACKAGE_FIELDS: [&str; 1] = ["PackageID"];
/// The policy a definition falls back to.
pub const DEFAULT_ENDORSEMENT_REF: &str = "/Channel/Application/Endorsement";
/// The policy that governs writes to `_lifecycle`.
pub const LIFECYCLE_ENDORSEMENT_REF: &str = "/Channel/Application/LifecycleEndorsement";
/// The only endorsement plugin this peer has.
pub const DEFAULT_ENDORSEMENT_PLUGIN: &str = "escc";
/// The only validation plugin this peer has.
pub const DEFAULT_VALIDATION_PLUGIN: &str = "vscc";

/// Why a definition could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// The ledger failed; says nothing about the definition.
    #[error("could not read state for key {key}")]
    State {
        /// The key in `_lifecycle` (or `lscc`).
        key: String,
        /// What the ledger said.
        #[source]
        source: BoxError,
    },
    /// The bytes under a key are not what the key's type asks for.
    #[error("could not unmarshal state for key {key}: {detail}")]
    Malformed {
        /// The key in `_lifecycle`.
        key: String,
        /// What is wrong with the bytes.
        detail: String,
    },
    /// The namespace exists but is no chaincode.
    #[error("not a chaincode type: {0}")]
    NotAChaincode(String),
}

impl LifecycleError {
    /// True when the ledger failed, as opposed to holding a definition that makes no sense. Only
    /// the first kind may differ from peer to peer.
    pub fn is_ledger_failure(&self) -> bool {
        matches!(self, Self::State { .. })
    }
}

/// An error of whatever supplies state.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A chaincode definition as the channel committed it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChaincodeDefinition {
    /// Counts redefinitions, from 1.
    pub sequence: i64,
    /// Version, endorsement plugin and whether `Init` must run first.
    pub endorsement: ChaincodeEndorsementInfo,
    /// Validation plugin and the encoded `ApplicationPolicy`.
    pub validation: ChaincodeValidationInfo,
    /// Explicit private data collections.
    pub collections: CollectionConfigPackage,
}

impl ChaincodeDefinition {
    /// The version text of the definition.
    pub fn version(&self) -> &str {
        &self.endorsement.version
    }

    /// Whether the chaincode must be initialised before its first invocation.
    pub fn init_required(&self) -> bool {
        self.endorsement.init_required
    }

    /// The explicit collection of that name.
    pub fn collection(&self, name: &str) -> Option<&StaticCollectionConfig> {
        self.collections
            .config
            .iter()
            .filter_map(|config| config.payload.as_ref())
            .map(|collection_config::Payload::StaticCollectionConfig(c)| c)
            .find(|c| c.name == name)
    }
}

/// Reads the committed definition of `name`; `None` when the namespace is not defined.
///
/// `get` reads one key of the namespace `_lifecycle`. `_lifecycle` itself counts as defined, with
/// empty fields (Fabric: `ChaincodeDefinitionIfDefined`).
pub fn read_definition(
    name: &str,
    mut get: impl FnMut(&str) -> Result<Option<Bytes>, BoxError>,
) -> Result<Option<ChaincodeDefinition>, LifecycleError> {
    if name == LIFECYCLE_NAMESPACE {
        return Ok(Some(ChaincodeDefinition::default()));
    }
    let Some(metadata) = read_metadata(NAMESPACES, name, &mut get)? else {
        return Ok(None);
    };
    if metadata.datatype != DEFINITION_TYPE {
        return Err(LifecycleError::NotAChaincode(metadata.datatype));
    }
    let mut field = |field: &str| {
        let key = field_key(NAMESPACES, name, field);
        let bytes = read_key(&key, &mut get)?;
        Ok::<_, LifecycleError>((key, bytes))
    };
    let (key, bytes) = field("Sequence")?;
    let sequence = decode_sequence(&key, bytes)?;
    let (key, bytes) = field("EndorsementInfo")?;
    let endorsement = decode_message_field(&key, bytes)?;
    let (key, bytes) = field("ValidationInfo")?;
    let validation = decode_message_field(&key, bytes)?;
    let (key, bytes) = field("Collections")?;
    let collections = decode_message_field(&key, bytes)?;
    Ok(Some(ChaincodeDefinition {
        sequence,
        endorsement,
        validation,
        collections,
    }))
}

/// Reads the sequence of `name` alone; 0 when it is not defined. This is the one key that every
/// simulation of the chaincode reads (Fabric: `CurrentSequence`).
pub fn read_sequence(
    name: &str,
    mut get: impl FnMut(&str) -> Result<Option<Bytes>, BoxError>,
) -> Result<i64, LifecycleError> {
    let key = field_key(NAMESPACES, name, "Sequence");
    let bytes = read_key(&key, &mut get)?;
    decode_sequence(&key, bytes)
}

/// Reads the metadata record of `<prefix>/metadata/<name>`.
pub fn read_metadata(
    prefix: &str,
    name: &str,
    mut get: impl FnMut(&str) -> Result<Option<Bytes>, BoxError>,
) -> Result<Option<StateMetadata>, LifecycleError> {
    let key = metadata_key(prefix, name);
    let Some(bytes) = read_key(&key, &mut get)? else {
        return Ok(None);
    };
    StateMetadata::decode(bytes)
        .map(Some)
        .map_err(|e| LifecycleError::Malformed {
            key,
            detail: e.to_string(),
        })
}

/// The chaincode whose definition a write to `key` of `_lifecycle` changes: the name inside
/// `namespaces/fields/<name>/Sequence`.
pub fn redefined_chaincode(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(NAMESPACES)?.strip_prefix("/fields/")?;
    let name = rest.strip_suffix("/Sequence")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

fn read_key(
    key: &str,
    get: &mut impl FnMut(&str) -> Result<Option<Bytes>, BoxError>,
) -> Result<Option<Bytes>, LifecycleError> {
    get(key).map_err(|source| LifecycleError::State {
        key: key.to_owned(),
        source,
    })
}

fn decode_sequence(key: &str, bytes: Option<Bytes>) -> Result<i64, LifecycleError> {
    match decode_field(key, bytes)? {
        None => Ok(0),
        Some(state_data::Type::Int64(value)) => Ok(value),
        Some(other) => Err(LifecycleError::Malformed {
            key: key.to_owned(),
            detail: format!(
                "expected a value of type Int64, but was {}",
                serial::kind(&other)
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn state(entries: &[(&str, Vec<u8>)]) -> BTreeMap<String, Bytes> {
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Bytes::from(v.clone())))
            .collect()
    }

    fn read(map: &BTreeMap<String, Bytes>) -> Result<Option<ChaincodeDefinition>, LifecycleError> {
        read_definition("basic", |key| Ok(map.get(key).cloned()))
    }

    #[test]
    fn a_definition_is_put_together_from_its_fields() {
        let endorsement = ChaincodeEndorsementInfo {
            version: "1.0".into(),
            init_required: true,
            endorsement_plugin: "escc".into(),
        };
        let metadata = StateMetadata {
            datatype: DEFINITION_TYPE.into(),
            fields: DEFINITION_FIELDS.iter().map(|f| (*f).to_owned()).collect(),
        };
        let map = state(&[
            ("namespaces/metadata/basic", metadata.encode_to_vec()),
            ("namespaces/fields/basic/Sequence", encode_int64(3)),
            (
                "namespaces/fields/basic/EndorsementInfo",
                encode_bytes(endorsement.encode_to_vec()),
            ),
        ]);
        let definition = read(&map).unwrap().unwrap();
        assert_eq!(definition.sequence, 3);
        assert_eq!(definition.version(), "1.0");
        assert!(definition.init_required());
        assert_eq!(definition.validation, ChaincodeValidationInfo::default());
        let sequence = read_sequence("basic", |key| Ok(map.get(key).cloned())).unwrap();
        assert_eq!(sequence, 3);
    }

    #[test]
    fn what_is_not_defined_is_none_and_lifecycle_itself_is() {
        assert_eq!(read(&BTreeMap::new()).unwrap(), None);
        let own = read_definition(LIFECYCLE_NAMESPACE, |_| Ok(None)).unwrap();
        assert_eq!(own, Some(ChaincodeDefinition::default()));
    }

    #[test]
    fn strange_state_is_an_error_and_not_a_ledger_failure() {
        let other = StateMetadata {
            datatype: "Other".into(),
            fields: vec![],
        };
        let error = read(&state(&[(
            "namespaces/metadata/basic",
            other.encode_to_vec(),
        )]));
        assert!(matches!(error, Err(LifecycleError::NotAChaincode(t)) if t == "Other"));
        let error = read(&state(&[("namespaces/metadata/basic", vec![0xff])])).unwrap_err();
        assert!(!error.is_ledger_failure());
        let failed = read_definition("basic", |_| Err("disk".into())).unwrap_err();
        assert!(failed.is_ledger_failure());
    }

    #[test]
    fn a_sequence_write_names_its_chaincode() {
        assert_eq!(
            redefined_chaincode("namespaces/fields/basic/Sequence"),
            Some("basic")
        );
        for other in [
            "namespaces/fields/basic/ValidationInfo",
            "namespaces/fields/a/b/Sequence",
            "namespaces/fields//Sequence",
            "namespaces/metadata/basic",
        ] {
            assert_eq!(redefined_chaincode(other), None, "{other}");
        }
    }
}
