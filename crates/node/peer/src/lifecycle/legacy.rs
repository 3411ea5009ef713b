//! Definitions made before Fabric 2.0, which live in the namespace `lscc`.

use bytes::Bytes;
use prost::Message;
use selvage_proto::common::SignaturePolicyEnvelope;

use super::{BoxError, LifecycleError};

/// The fields of `ChaincodeData` that validation reads. The policy stays encoded, because a
/// definition with an unreadable policy is still a definition.
#[derive(Clone, PartialEq, Message)]
struct LegacyData {
    #[prost(string, tag = "4")]
    vscc: String,
    #[prost(bytes = "bytes", tag = "5")]
    policy: Bytes,
}

/// Plugin and signature policy of a chaincode that was instantiated through `lscc`; `None` when
/// `lscc` does not know it. A policy that cannot be decoded comes back as `None`, which no
/// endorsement satisfies.
pub fn legacy_validation(
    name: &str,
    mut get: impl FnMut(&str) -> Result<Option<Bytes>, BoxError>,
) -> Result<Option<(String, Option<SignaturePolicyEnvelope>)>, LifecycleError> {
    let value = get(name).map_err(|source| LifecycleError::State {
        key: name.to_owned(),
        source,
    })?;
    let Some(value) = value else { return Ok(None) };
    let data = LegacyData::decode(value).map_err(|e| LifecycleError::Malformed {
        key: name.to_owned(),
        detail: format!("chaincode {name} has bad definition: {e}"),
    })?;
    if data.vscc.is_empty() || data.policy.is_empty() {
        return Ok(Some((String::new(), None)));
    }
    Ok(Some((
        data.vscc,
        SignaturePolicyEnvelope::decode(data.policy).ok(),
    )))
}
