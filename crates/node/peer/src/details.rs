//! What goes beside Fabric's words: a gRPC status carries details, which programs that match texts
//! do not look at and people do.

use prost::Message;
use selvage_net::tonic::{Code, Status};
use selvage_proto::Any;
use selvage_proto::gateway::ErrorDetail;
use selvage_proto::google::rpc;

/// The type under which details are packed.
const DETAIL_TYPE: &str = "type.googleapis.com/gateway.ErrorDetail";

/// A gRPC status that carries these details.
pub(crate) fn with_details(code: Code, message: &str, details: &[ErrorDetail]) -> Status {
    if details.is_empty() {
        return Status::new(code, message);
    }
    let packed = details.iter().map(|detail| Any {
        type_url: DETAIL_TYPE.to_owned(),
        value: detail.encode_to_vec(),
    });
    let status = rpc::Status {
        code: code as i32,
        message: message.to_owned(),
        details: packed.collect(),
    };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// What another node said beside its words, if it did.
pub(crate) fn advice_of(status: &Status) -> Option<String> {
    let packed = rpc::Status::decode(status.details()).ok()?;
    let mut ours = packed.details.iter().filter(|d| d.type_url == DETAIL_TYPE);
    let detail = ErrorDetail::decode(ours.next()?.value.as_slice()).ok()?;
    Some(detail.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_packed_into_the_status() {
        let detail = ErrorDetail {
            address: "a:1".into(),
            msp_id: "M".into(),
            message: "m".into(),
        };
        let status = with_details(Code::Aborted, "text", std::slice::from_ref(&detail));
        let unpacked = rpc::Status::decode(status.details()).unwrap();
        assert_eq!((unpacked.code, unpacked.message.as_str()), (10, "text"));
        assert_eq!(unpacked.details[0].type_url, DETAIL_TYPE);
        let value = ErrorDetail::decode(unpacked.details[0].value.as_slice()).unwrap();
        assert_eq!(value, detail);
        assert_eq!(advice_of(&status).as_deref(), Some("m"));
        let bare = with_details(Code::Aborted, "text", &[]);
        assert!(bare.details().is_empty() && advice_of(&bare).is_none());
        let strange = Status::with_details(Code::Aborted, "", bytes::Bytes::from_static(b"\xff"));
        assert_eq!(advice_of(&strange), None);
    }
}
