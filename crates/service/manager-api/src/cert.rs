//! Requests for certificates and for the SDK configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorCode};

/// `cert_type` of operation 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CertType {
    /// The organisation's administrator.
    Admin,
    /// The organisation's first user.
    User,
    /// The organisation's certificate authority, key included.
    Ca,
}

impl CertType {
    /// Reads the query parameter; the refusal has BCS's text.
    pub fn from_wire(text: &str) -> Result<Self, ApiError> {
        match text {
            "admin" => Ok(Self::Admin),
            "user" => Ok(Self::User),
            "ca" => Ok(Self::Ca),
            other => Err(ApiError::new(
                ErrorCode::BadParameter,
                format!("keyType error, keyType: {other} not supported"),
            )),
        }
    }
}

/// Body of operation 12. Unknown fields are ignored, absent ones read as empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CfgRequestBody {
    /// Chaincode, 6–25 of `[a-z0-9]`, lower-case first; empty with `is_multi_chan`.
    pub chaincode_name: Option<String>,
    /// Folder the client will put the certificates in; written into the file as it is.
    pub cert_path: Option<String>,
    /// Channel; empty with `is_multi_chan`.
    pub channel_name: Option<String>,
    /// Organisation name to indexes of its peers, ascending: `["0","1"]`.
    pub peer_orgs: Option<BTreeMap<String, Vec<String>>>,
    /// Consortium member to the hashes of its organisations.
    pub union_info: Option<BTreeMap<String, Vec<String>>>,
    /// Several channels at once.
    pub is_multi_chan: Option<bool>,
    /// Channel to chaincodes, with `is_multi_chan`.
    pub channel_chaincode: Option<BTreeMap<String, Vec<String>>>,
}

impl CfgRequestBody {
    /// Channels with their chaincodes, from either form of the request.
    pub fn channels(&self) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
        if self.is_multi_chan.unwrap_or(false) {
            return match &self.channel_chaincode {
                Some(map) if !map.is_empty() => Ok(map.clone()),
                _ => Err(ApiError::missing("channel_chaincode")),
            };
        }
        let channel = self.channel_name.as_deref().unwrap_or_default();
        if channel.is_empty() {
            return Err(ApiError::missing("channel_name"));
        }
        let chaincode = self.chaincode_name.as_deref().unwrap_or_default();
        if chaincode.is_empty() {
            return Err(ApiError::missing("chaincode_name"));
        }
        Ok(BTreeMap::from([(
            channel.to_owned(),
            vec![chaincode.to_owned()],
        )]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_cert_type_reads_as_in_the_documentation() {
        let error = CertType::from_wire("blok").expect_err("unknown type");
        assert_eq!(error.code.code(), "BCS.4006005");
        assert_eq!(error.message, "keyType error, keyType: blok not supported");
    }

    #[test]
    fn both_forms_of_the_sdk_request_name_channels() {
        let mut body = CfgRequestBody::default();
        assert_eq!(
            body.channels().expect_err("empty").message,
            ApiError::missing("channel_name").message
        );
        body.channel_name = Some("channel".into());
        body.chaincode_name = Some("basic".into());
        assert_eq!(body.channels().expect("single")["channel"], ["basic"]);
        body.is_multi_chan = Some(true);
        assert!(body.channels().is_err());
        body.channel_chaincode = Some(BTreeMap::from([("c".into(), vec!["a".into(), "b".into()])]));
        assert_eq!(body.channels().expect("multi")["c"], ["a", "b"]);
    }
}
