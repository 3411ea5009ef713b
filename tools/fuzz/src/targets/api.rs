//! The management API: bodies and signed requests.

use http::{HeaderMap, HeaderName, HeaderValue};
use selvage_crypto::sha256;
use selvage_manager::auth::signature::{Authorization, SignatureError, SignedRequest};
use selvage_manager_api::cert::{CertType, CfgRequestBody};
use selvage_manager_api::console::LoginRequest;
use selvage_manager_api::instance::CreateRequestBody;
use selvage_manager_api::validate::{self, CreateSpec};

use crate::pick::{Pick, Put};
use crate::reach::reach;

/// The seconds at which the seed's request was signed.
const NOW: i64 = 1_735_689_600;

/// A body that is accepted becomes a specification that can be stored, and says what it refuses.
pub(super) fn bodies(input: &[u8]) {
    if let Ok(body) = serde_json::from_slice::<CreateRequestBody>(input) {
        match validate::create(&body) {
            Ok(spec) => {
                reach("a specification");
                assert!((1..=validate::MAX_ORGS).contains(&spec.orgs.len()));
                assert!(spec.channels.len() <= validate::MAX_CHANNELS);
                let stored = serde_json::to_string(&spec).expect("it can be stored");
                let again: CreateSpec = serde_json::from_str(&stored).expect("and read");
                assert!(again == spec);
            }
            Err(refused) => assert!(!refused.body().error_msg.is_empty()),
        }
    }
    if let Ok(body) = serde_json::from_slice::<CfgRequestBody>(input) {
        reach("a configuration request");
        let _ = body.channels();
        let text = serde_json::to_string(&body).expect("it can be written");
        let again: CfgRequestBody = serde_json::from_str(&text).expect("and read");
        assert_eq!(again, body);
    }
    if serde_json::from_slice::<LoginRequest>(input).is_ok() {
        reach("a login");
    }
    let text = String::from_utf8_lossy(input);
    let _ = CertType::from_wire(&text);
    let _ = validate::display_name(&text, "name");
    let _ = validate::channel_name(&text);
}

pub(super) fn bodies_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"name":"bench","version_type":4,"enterprise_project_id":"0","fabric_version":"2.2","cluster_type":"CCE","create_new_cluster":false,"resource_password":"Passw0rd!","blockchain_type":"private","consensus":"solo","sign_algorithm":"ECDSA","volume_type":"nfs","org_disk_size":100,"database_type":"goleveldb","orderer_node_number":1,"cce_cluster_info":{"cluster_id":"a","cluster_name":"b"},"peer_orgs":[{"name":"org1","node_count":1},{"name":"org2","node_count":2}],"channels":[{"name":"channel","org_names":["org1","org2"]}],"block_info":{"batch_timeout":1,"max_message_count":500,"preferred_maxbytes":2}}"#,
        r#"{"chaincode_name":"basic","cert_path":"/c","channel_name":"channel","peer_orgs":{"org1":["0","1"]},"is_multi_chan":false}"#,
        r#"{"is_multi_chan":true,"channel_chaincode":{"channel":["a","b"]}}"#,
        r#"{"user":"admin","password":"p"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Path, query, the Authorization header, then names and values of the others in turn; the body is
/// the rest. Whoever does not know the secret signs nothing.
pub(super) fn request_signature(input: &[u8]) {
    let mut pick = Pick::new(input);
    let (path, query, authorization) = (pick.text(), pick.text(), pick.text());
    let mut headers = HeaderMap::new();
    for _ in 0..pick.byte() % 8 {
        let (name, value) = (pick.piece(), pick.piece());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let body = pick.rest();
    let Ok(parsed) = Authorization::parse(&authorization) else {
        return;
    };
    let request = SignedRequest {
        method: "POST",
        path: &path,
        query: &query,
        headers: &headers,
    };
    const SECRET: &str = "a secret that no input holds";
    let verified = match request.verify_head(&parsed, SECRET, NOW, body.is_empty()) {
        Ok(None) => request.verify_body(&parsed, SECRET, NOW, &sha256(body)),
        Ok(Some(covered)) => panic!("somebody signed {covered:?} without the secret"),
        Err(error) => Err(error),
    };
    let refused = verified.expect_err("nobody who signed it knows the secret");
    if refused == SignatureError::Mismatch {
        reach("another signature");
    }
    let lengths = [parsed.access, parsed.signed_headers, parsed.signature].map(str::len);
    assert!(lengths.iter().sum::<usize>() <= authorization.len());
}

pub(super) fn request_signature_seeds() -> Vec<Vec<u8>> {
    let signed = |headers: &str, kind: &str, payload: &str| {
        Put::default()
            .piece("/v2/p/blockchains/%E4%B8%AD/a%2Fb")
            .piece("b=2&a=1&a=%20&c")
            .piece(format!(
                "SDK-HMAC-SHA256 Access=AK, SignedHeaders={headers}, Signature={}",
                "0f".repeat(32)
            ))
            .byte(4)
            .piece("host")
            .piece("h.example")
            .piece("x-sdk-date")
            .piece("20250101T000000Z")
            .piece("content-type")
            .piece(kind)
            .piece("x-sdk-content-sha256")
            .piece(payload)
            .rest("{}")
    };
    vec![
        signed("host;x-sdk-date", "application/json", "00"),
        signed(
            "content-type;host;x-sdk-content-sha256;x-sdk-date",
            "multipart/form-data; boundary=B",
            "UNSIGNED-PAYLOAD",
        ),
    ]
}
