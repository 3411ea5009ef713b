//! Keys and values of lifecycle state (Fabric: `serializer.go`).

use bytes::Bytes;
use prost::Message;
use selvage_proto::lifecycle::{StateData, state_data};

use super::LifecycleError;

/// `<prefix>/metadata/<name>`.
pub fn metadata_key(prefix: &str, name: &str) -> String {
    format!("{prefix}/metadata/{name}")
}

/// `<prefix>/fields/<name>/<field>`.
pub fn field_key(prefix: &str, name: &str, field: &str) -> String {
    format!("{prefix}/fields/{name}/{field}")
}

/// The stored form of an integer field.
pub fn encode_int64(value: i64) -> Vec<u8> {
    StateData {
        r#type: Some(state_data::Type::Int64(value)),
    }
    .encode_to_vec()
}

/// The stored form of a bytes field; encoded messages are stored this way. An empty value still
/// takes two bytes.
pub fn encode_bytes(value: impl Into<Bytes>) -> Vec<u8> {
    StateData {
        r#type: Some(state_data::Type::Bytes(value.into())),
    }
    .encode_to_vec()
}

/// The stored form of a text field.
pub fn encode_string(value: impl Into<String>) -> Vec<u8> {
    StateData {
        r#type: Some(state_data::Type::String(value.into())),
    }
    .encode_to_vec()
}

/// Decodes the value of one field key; `None` when the key is absent or holds no value.
pub fn decode_field(
    key: &str,
    value: Option<Bytes>,
) -> Result<Option<state_data::Type>, LifecycleError> {
    let Some(value) = value else { return Ok(None) };
    StateData::decode(value)
        .map(|data| data.r#type)
        .map_err(|e| malformed(key, e.to_string()))
}

/// Decodes a field that holds an encoded message. An absent key gives the empty message.
pub fn decode_message_field<M: Message + Default>(
    key: &str,
    value: Option<Bytes>,
) -> Result<M, LifecycleError> {
    let bytes = match decode_field(key, value)? {
        None => return Ok(M::default()),
        Some(state_data::Type::Bytes(bytes)) => bytes,
        Some(other) => {
            let detail = format!("expected a value of type []byte, but was {}", kind(&other));
            return Err(malformed(key, detail));
        }
    };
    M::decode(bytes).map_err(|e| malformed(key, e.to_string()))
}

pub(super) fn kind(value: &state_data::Type) -> &'static str {
    match value {
        state_data::Type::Int64(_) => "Int64",
        state_data::Type::Bytes(_) => "Bytes",
        state_data::Type::String(_) => "String",
    }
}

fn malformed(key: &str, detail: String) -> LifecycleError {
    LifecycleError::Malformed {
        key: key.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use selvage_proto::lifecycle::ChaincodeValidationInfo;

    use super::*;

    #[test]
    fn fields_have_the_bytes_fabric_stores() {
        assert_eq!(encode_int64(1), [0x08, 0x01]);
        assert_eq!(encode_bytes(Bytes::new()), [0x12, 0x00]);
        assert_eq!(encode_string("a"), [0x1a, 0x01, b'a']);
    }

    #[test]
    fn an_absent_or_empty_field_is_the_empty_message() {
        for value in [None, Some(Bytes::from(encode_bytes(Bytes::new())))] {
            let got: ChaincodeValidationInfo = decode_message_field("k", value).unwrap();
            assert_eq!(got, ChaincodeValidationInfo::default());
        }
        let wrong = Some(Bytes::from(encode_int64(1)));
        assert!(decode_message_field::<ChaincodeValidationInfo>("k", wrong).is_err());
    }
}
