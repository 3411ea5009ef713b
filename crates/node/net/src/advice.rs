//! What the gRPC library says of messages that it cannot take, with what would help behind it.

use http::HeaderMap;
use tonic::Status;

/// How the library's texts begin, and what helps.
const ADVICE: &[(&str, &str)] = &[
    (
        "Error, decoded message length too large",
        "; send less in one message",
    ),
    (
        "Error, encoded message length too large",
        "; send less in one message",
    ),
    (
        "failed to decode Protobuf message",
        "; the bytes are no message of this call: make it with one of Fabric's SDKs, or compare it \
         with Fabric's messages (fabric-protos)",
    ),
];

/// The status with advice behind its text, where the text comes from the gRPC library.
pub fn advised(status: Status) -> Status {
    match added(status.message()) {
        Some(text) => Status::with_details(status.code(), text, status.details().to_vec().into()),
        None => status,
    }
}

/// As [`advised`] for an answer that consists of headers only; tells what it says now.
pub(crate) fn advise(headers: &mut HeaderMap) -> Option<String> {
    let status = advised_at(headers)?;
    let text = status.message().to_owned();
    status.add_header(headers).ok()?;
    Some(text)
}

fn advised_at(headers: &HeaderMap) -> Option<Status> {
    // Most answers have no such header: theirs comes behind the body.
    headers.get("grpc-status")?;
    let status = Status::from_header_map(headers)?;
    let text = added(status.message())?;
    let details = status.details().to_vec().into();
    Some(Status::with_details(status.code(), text, details))
}

fn added(text: &str) -> Option<String> {
    let (_, advice) = ADVICE.iter().find(|(start, _)| text.starts_with(start))?;
    (!text.ends_with(advice)).then(|| format!("{text}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_texts_get_advice_once() {
        let text = "failed to decode Protobuf message: invalid wire type";
        let once = advised(Status::internal(text));
        assert!(once.message().starts_with(text) && once.message().contains("SDK"));
        let twice = advised(once.clone());
        assert_eq!(
            (twice.code(), twice.message()),
            (once.code(), once.message())
        );
        let other = advised(Status::internal("other"));
        assert_eq!(other.message(), "other");
    }

    #[test]
    fn headers_are_rewritten() {
        let mut headers = HeaderMap::new();
        assert_eq!(advise(&mut headers), None);
        let text = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        Status::out_of_range(text).add_header(&mut headers).unwrap();
        let told = advise(&mut headers).unwrap();
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::OutOfRange, told.as_str())
        );
        assert!(told.starts_with(text) && told.contains("send less"));
    }
}
