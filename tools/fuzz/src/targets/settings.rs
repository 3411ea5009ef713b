//! Files and texts that operators write, and what reaches the nodes' administration over HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use selvage_chaincode::ccaas::ServerEndpoint;
use selvage_client::Profile;
use selvage_net::config::{Variables, parse_byte_size, parse_duration};
use selvage_net::http::form_parts;
use selvage_net::logging::Levels;

use crate::pick::{Pick, Put};
use crate::reach::reach;

/// A variable, its value, and the file.
fn with_variable(input: &[u8], prefix: &str) -> (PathBuf, Variables) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    let mut pick = Pick::new(input);
    let (name, value) = (pick.text(), pick.text());
    let _ = (parse_duration(&value), parse_byte_size(&value));
    let variables = Variables::from([(format!("{prefix}_{}", name.to_uppercase()), value)]);
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, pick.rest()).expect("written");
    (path, variables)
}

fn seeds(shipped: &str) -> Vec<Vec<u8>> {
    let put =
        |name: &str, value: &str, text: &str| Put::default().piece(name).piece(value).rest(text);
    vec![
        put("", "", shipped),
        put("PEER_LISTENADDRESS", "0.0.0.0:1", shipped),
        put("GENERAL_LISTENPORT", "1", "General: {ListenPort: 7}"),
        put(
            "GENERAL_TLS_ENABLED",
            "maybe",
            "general: {tls: {rootCAs: [a, b]}}",
        ),
        put(
            "PEER_KEEPALIVE_INTERVAL",
            "1h2m",
            "peer: {keepalive: {interval: 7s}}",
        ),
        put(
            "",
            "",
            "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\npeer: {id: *a}\n",
        ),
    ]
}

/// Settings that are read can be asked for what nodes ask them for.
pub(super) fn core_yaml(input: &[u8]) {
    let (path, variables) = with_variable(input, "CORE");
    let Ok(settings) = selvage_peer::config::Settings::load_file(&path, &variables) else {
        return;
    };
    reach("read");
    let _ = (
        settings.data_dir(),
        settings.chaincode_listen_address(),
        settings.external_endpoint(),
        settings.path("relative"),
    );
}

pub(super) fn core_yaml_seeds() -> Vec<Vec<u8>> {
    seeds(include_str!("../../../../config/core.yaml"))
}

/// The same for an orderer.
pub(super) fn orderer_yaml(input: &[u8]) {
    let (path, variables) = with_variable(input, "ORDERER");
    let loaded = selvage_orderer::config::Settings::load_file(&path, &variables);
    if let Ok(loaded) = loaded {
        reach("read");
        assert!(loaded.unknown.len() <= input.len());
    }
}

pub(super) fn orderer_yaml_seeds() -> Vec<Vec<u8>> {
    seeds(include_str!("../../../../config/orderer.yaml"))
}

/// A variable of the operator's, then the file from the package.
pub(super) fn connection_json(input: &[u8]) {
    let mut pick = Pick::new(input);
    let variables = BTreeMap::from([("name".to_owned(), pick.text())]);
    let read = ServerEndpoint::from_connection_json("cc:1", pick.rest(), &variables);
    if let Ok(endpoint) = read {
        reach("read");
        assert!(!endpoint.address.is_empty());
        assert_eq!(endpoint.package_id, "cc:1");
    }
}

pub(super) fn connection_json_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"address":"{{.name}}:9999","dial_timeout":"10s","tls_required":false}"#,
        r#"{"address":"h:1","dial_timeout":"","tls_required":true,"root_cert":"x"}"#,
        r#"{"address":"h:1","tls_required":true,"client_auth_required":true,"client_key":"k","client_cert":"c","root_cert":"r","domain":"d"}"#,
    ]
    .map(|json| Put::default().piece("peer0").rest(json))
    .to_vec()
}

/// A profile that is read is no larger than its text, whatever refers to what in it.
pub(super) fn connection_profile(input: &[u8]) {
    let Ok(profile) = Profile::parse(input) else {
        return;
    };
    reach("read");
    let nodes = profile.peers.len() + profile.orderers.len() + profile.channels.len();
    assert!(nodes <= input.len());
    assert!(!format!("{profile:?}").is_empty());
}

pub(super) fn connection_profile_seeds() -> Vec<Vec<u8>> {
    let yaml = "client: {organization: Org1}
organizations:
  Org1:
    mspid: Org1MSP
    peers: [peer0, peer1]
    signedCert: {path: /c.pem}
    adminPrivateKey: {pem: 'key'}
peers:
  peer0: {url: 'grpcs://h:1', tlsCACerts: {pem: x}, grpcOptions: {ssl-target-name-override: n}}
  peer1: {url: 'grpc://h:2'}
orderers: {orderer0: {url: 'grpcs://o:1', tlsCACerts: {path: t}}}
channels: {ch: {chaincodes: ['basic:1.0', other]}}
";
    let json = r#"{"client":{"organization":"A"},"organizations":{"A":{"mspid":"M","peers":["p"]}},
        "peers":{"p":{"url":"grpcs://h:1","tlsCACerts":{"pem":"x"}}},"orderers":{},"channels":{}}"#;
    [yaml, json].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A specification in force has a normal form, which says the same.
pub(super) fn log_specification(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(levels) = Levels::new(&text) else {
        return;
    };
    reach("read");
    let normal = levels.spec();
    let again = Levels::new(&normal).expect("the normal form is a specification");
    assert_eq!(again.spec(), normal);
}

pub(super) fn log_specification_seeds() -> Vec<Vec<u8>> {
    [
        "info",
        "info:gossip,orderer.deliver=debug:msp.=error",
        "a,b.c=warn:dpanic:d=fatal",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The boundary in the header, then the body.
pub(super) fn form(input: &[u8]) {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        builder.build().expect("a runtime")
    });
    let mut pick = Pick::new(input);
    let kind = format!("multipart/form-data; boundary={}", pick.text());
    let body = Bytes::copy_from_slice(pick.rest());
    let length = body.len();
    let request = http::Request::builder()
        .header("content-type", kind)
        .body(body);
    let Ok(request) = request else {
        return;
    };
    if let Ok(parts) = runtime.block_on(form_parts(request)) {
        reach("read");
        assert!(parts.len() <= 16);
        let bytes: usize = parts.iter().map(|part| part.content.len()).sum();
        assert!(bytes <= length, "no more comes out than went in");
    }
}

pub(super) fn form_seeds() -> Vec<Vec<u8>> {
    let file = "--B\r\nContent-Disposition: form-data; name=\"config-block\"; filename=\"b\"\r\n\
                Content-Type: application/octet-stream\r\n\r\nblock\r\n--B--\r\n";
    let two = "--B\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n\
               --B\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n\r\n--B--";
    [file, two]
        .map(|body| Put::default().piece("B").rest(body))
        .to_vec()
}
