//! The vectors were written by the signer inside Huawei's Python SDK 3.1.219.

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

struct Case {
    method: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Case {
    fn verify(&self, secret: &str, now: i64) -> Result<(), SignatureError> {
        let header = self.headers["authorization"].to_str().expect("ASCII");
        let authorization = Authorization::parse(header)?;
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let request = SignedRequest {
            method: &self.method,
            path,
            query,
            headers: &self.headers,
        };
        let came = Sha256::digest(&self.body).into();
        let is_empty = self.body.is_empty();
        let head = request.verify_head(&authorization, secret, now, is_empty)?;
        if is_empty {
            // Nothing may depend on whether the emptiness was known beforehand.
            let late = request.verify_head(&authorization, secret, now, false)?;
            let late = late.unwrap_or(Covered::Hash(came));
            assert_eq!(Some(late), head);
        }
        match head {
            Some(covered) => covered.check(&came),
            None => request.verify_body(&authorization, secret, now, &came),
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.insert(
            HeaderName::from_bytes(name.as_bytes()).expect("name"),
            HeaderValue::from_str(value).expect("value"),
        );
    }
}

fn vectors() -> (String, i64, Vec<(String, Case)>) {
    let text = include_str!("../../tests/signature-vectors.json");
    let all: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let now = parse_date(all["date"].as_str().expect("date")).expect("date");
    let cases = all["vectors"].as_array().expect("list").iter().map(|v| {
        let text = |k: &str| v[k].as_str().expect("text").to_owned();
        let mut case = Case {
            method: text("method"),
            target: text("target"),
            headers: HeaderMap::new(),
            body: hex::decode(text("body")).expect("hex"),
        };
        for pair in v["headers"].as_array().expect("list") {
            case.set(
                pair[0].as_str().expect("name"),
                pair[1].as_str().expect("value"),
            );
        }
        (text("name"), case)
    });
    (
        all["sk"].as_str().expect("sk").to_owned(),
        now,
        cases.collect(),
    )
}

#[test]
fn what_the_sdk_signs_is_accepted() {
    let (secret, now, cases) = vectors();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        assert_eq!(case.verify(&secret, now), Ok(()), "{name}");
        assert_eq!(
            case.verify(&secret, now + WINDOW_S),
            Ok(()),
            "{name} at the edge"
        );
    }
}

#[test]
fn any_change_is_refused() {
    let (secret, now, cases) = vectors();
    for (name, mut case) in cases {
        assert_eq!(
            case.verify("another", now),
            Err(SignatureError::Mismatch),
            "{name}"
        );
        assert_eq!(
            case.verify(&secret, now + WINDOW_S + 1),
            Err(SignatureError::Skewed(WINDOW_S + 1)),
            "{name}"
        );
        case.method = "PATCH".into();
        assert_eq!(
            case.verify(&secret, now),
            Err(SignatureError::Mismatch),
            "{name}"
        );
    }
    let (_, _, mut cases) = vectors();
    cases[1].1.body.push(b' ');
    assert_eq!(
        cases[1].1.verify(&secret, now),
        Err(SignatureError::Mismatch),
        "body"
    );
    cases[0].1.target.push_str("/other");
    assert_eq!(
        cases[0].1.verify(&secret, now),
        Err(SignatureError::Mismatch),
        "path"
    );
    cases[2].1.target.push_str("&x=1");
    assert_eq!(
        cases[2].1.verify(&secret, now),
        Err(SignatureError::Mismatch),
        "query"
    );
    cases[3].1.set("host", "elsewhere");
    assert_eq!(
        cases[3].1.verify(&secret, now),
        Err(SignatureError::Mismatch),
        "host"
    );
}

#[test]
fn an_unsigned_payload_is_refused_outside_multipart() {
    let (secret, now, mut cases) = vectors();
    let (_, case) = &mut cases[1];
    case.set("x-sdk-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(
        case.verify(&secret, now),
        Err(SignatureError::UnsignedPayload)
    );
    case.set("x-sdk-content-sha256", "00");
    assert_eq!(
        case.verify(&secret, now),
        Err(SignatureError::PayloadMismatch)
    );
}

#[test]
fn what_the_headers_tell_is_checked_before_the_body() {
    let (secret, now, cases) = vectors();
    let mut forms = 0;
    for (name, case) in cases.into_iter().filter(|(_, c)| !c.body.is_empty()) {
        let header = case.headers["authorization"].to_str().expect("ASCII");
        let authorization = Authorization::parse(header).expect("a header");
        let request = SignedRequest {
            method: &case.method,
            path: case.target.split('?').next().expect("a path"),
            query: "",
            headers: &case.headers,
        };
        let covered = |secret| request.verify_head(&authorization, secret, now, false);
        if case.headers.contains_key("x-sdk-content-sha256") {
            forms += 1;
            assert_eq!(covered(&secret), Ok(Some(Covered::Nothing)), "{name}");
            assert_eq!(covered("another"), Err(SignatureError::Mismatch), "{name}");
        } else {
            assert_eq!(covered(&secret), Ok(None), "{name}");
        }
    }
    assert!(forms > 0, "no form among the vectors");
}

#[test]
fn a_named_hash_is_checked_twice() {
    let (secret, now, mut cases) = vectors();
    let (_, case) = &mut cases[1];
    let hash: BodyHash = Sha256::digest(&case.body).into();
    // The line that stands for the body is the same, whether the header says it or not.
    case.set("x-sdk-content-sha256", &hex::encode(hash));
    assert_eq!(case.verify(&secret, now), Ok(()));
    assert_eq!(case.verify("another", now), Err(SignatureError::Mismatch));
    case.body.push(b' ');
    assert_eq!(
        case.verify(&secret, now),
        Err(SignatureError::PayloadMismatch)
    );
}

#[test]
fn malformed_headers_are_refused() {
    for text in [
        "",
        "Bearer x",
        "SDK-HMAC-SHA256",
        "SDK-HMAC-SHA256 Access=a",
        "SDK-HMAC-SHA256X Access=a, SignedHeaders=host, Signature=00",
        "SDK-HMAC-SHA256 Access=a, Access=b, SignedHeaders=host, Signature=00",
        "SDK-HMAC-SHA256 Access=a, SignedHeaders=host, Signature=00, More=1",
    ] {
        assert_eq!(
            Authorization::parse(text),
            Err(SignatureError::Malformed),
            "{text}"
        );
    }
    let (secret, now, mut cases) = vectors();
    let (_, case) = &mut cases[0];
    let header = "SDK-HMAC-SHA256 Access=a, SignedHeaders=host, Signature=00";
    case.set("authorization", header);
    assert_eq!(
        case.verify(&secret, now),
        Err(SignatureError::NotSigned("x-sdk-date".into()))
    );
    case.set(
        "authorization",
        "SDK-HMAC-SHA256 Access=a, SignedHeaders=host;x-sdk-date, Signature=zz",
    );
    assert_eq!(case.verify(&secret, now), Err(SignatureError::Mismatch));
    case.set("x-sdk-date", "yesterday");
    assert_eq!(case.verify(&secret, now), Err(SignatureError::BadDate));
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic(text in ".{0,200}", path in ".{0,50}", query in ".{0,50}") {
        let _ = Authorization::parse(&text);
        let headers = HeaderMap::new();
        let request = SignedRequest {
            method: "GET", path: &path, query: &query, headers: &headers,
        };
        let authorization = Authorization {
            access: "a", signed_headers: "host;x-sdk-date", signature: &text,
        };
        prop_assert!(request.verify_head(&authorization, "s", 0, true).is_err());
        prop_assert!(request.verify_body(&authorization, "s", 0, &[0; 32]).is_err());
    }
}
