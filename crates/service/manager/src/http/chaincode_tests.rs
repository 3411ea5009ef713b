//! Requests that are refused before a peer is asked: no node runs here.

use futures::FutureExt;

use super::Uploads;
use crate::chaincode::testing::zip_of;
use crate::http::tests::{Bench, code};
use crate::store::Principal;

const BOUNDARY: &str = "selvage-boundary";

type Fields<'a> = &'a [(&'a str, &'a [u8])];

fn form(fields: Fields<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let file = match *name {
            "file" => "; filename=\"a.zip\"",
            _ => "",
        };
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

async fn install(bench: &Bench, body: &[u8]) -> (u16, String, String) {
    let request = bench.request("POST", "/v2/agent/apis/chaincode").header(
        "content-type",
        format!("multipart/form-data; boundary={BOUNDARY}"),
    );
    let (status, answer) = bench.send(request, body).await;
    let text = answer["error_msg"].as_str().unwrap_or_default().to_owned();
    (status, code(&answer).to_owned(), text)
}

const NAME: (&str, &[u8]) = ("chaincode_name", b"assets");
const VERSION: (&str, &[u8]) = ("chaincode_version", b"1.0");

async fn refuses(bench: &Bench, fields: Fields<'_>, wanted: &str, part: &str) {
    let (status, got, text) = install(bench, &form(fields)).await;
    assert_eq!(got, wanted, "{text}");
    assert!(
        status >= 400 && text.contains(part),
        "no {part:?} in: {text}"
    );
}

#[tokio::test]
async fn missing_and_surplus_fields_are_named() {
    let bench = Bench::with_instance().await;
    let good = zip_of(&[("package.json", b"{}")]);
    let file: (&str, &[u8]) = ("file", &good);
    let missing = "BCS.4006009";
    refuses(&bench, &[VERSION, file], missing, "chaincode_name").await;
    refuses(&bench, &[NAME, file], missing, "chaincode_version").await;
    refuses(&bench, &[NAME, VERSION], missing, "file").await;
    let twice = [NAME, VERSION, file, file];
    refuses(&bench, &twice, "BCS.4006005", "two fields").await;
    let many: Vec<(&str, &[u8])> = vec![("other", b"x"); 40];
    refuses(&bench, &many, "BCS.4006005", "more than 32 fields").await;
}

#[tokio::test]
async fn bad_fields_are_refused_by_name() {
    let bench = Bench::with_instance().await;
    let good = zip_of(&[("package.json", b"{}")]);
    let long = "x".repeat(501);
    let (bad, not_built) = ("BCS.4006005", "BCS.5010501");
    let stranger = r#"[{"peer_id":"peer-x"}]"#;
    for (field, value, code, part) in [
        ("chaincode_name", "Bad", bad, "6 to 25"),
        ("chaincode_version", "v1", bad, "such as 1.0"),
        ("chaincode_language", "cobol", bad, "golang"),
        ("db_type", "couchdb", not_built, "couchdb"),
        ("db_type", "x", bad, "db_type"),
        ("security_check", "true", not_built, "security check"),
        ("security_check", "x", bad, "security_check"),
        ("description", &long, bad, "500"),
        ("target_peers", "{", "BCS.4006003", "target_peers"),
        ("target_peers", "[]", bad, "leave it out"),
        ("target_peers", stranger, "BCS.4002903", "no peer peer-x"),
    ] {
        // The last of two fields with one name counts.
        let fields = [NAME, VERSION, ("file", &good), (field, value.as_bytes())];
        refuses(&bench, &fields, code, part).await;
    }
}

#[tokio::test]
async fn bad_files_get_the_sentence_of_bcs() {
    let bench = Bench::with_instance().await;
    let bomb = zip_of(&[("package.json", b"{}"), ("zeros", &vec![0; 64 << 20])]);
    let climbing = zip_of(&[("package.json", b"{}"), ("../../x", b"")]);
    for (file, cause) in [
        (b"this is no zip".to_vec(), "not a readable zip"),
        (Vec::new(), "not a readable zip"),
        (zip_of(&[]), "the archive is empty"),
        (zip_of(&[("readme.txt", b"x")]), "no chaincode found"),
        (bomb, "expands to more than"),
        (climbing, "stay inside the package"),
    ] {
        let body = form(&[NAME, VERSION, ("file", &file)]);
        let (status, got, text) = install(&bench, &body).await;
        assert_eq!((status, got.as_str()), (400, "BCS.4002901"), "{text}");
        assert!(text.starts_with("链代码文件解压失败"), "{text}");
        assert!(text.contains(cause), "{cause:?} is missing in: {text}");
        assert!(text.contains("send a zip"), "no remedy in: {text}");
    }
    let body = form(&[NAME, VERSION, ("file", b"\x1f\x8bno gzip")]);
    let (_, got, text) = install(&bench, &body).await;
    assert_eq!(got, "BCS.4002901", "{text}");
}

#[tokio::test]
async fn bodies_that_are_no_forms_or_too_large_are_refused() {
    let bench = Bench::with_instance().await;
    let whole = form(&[NAME, VERSION, ("file", &[b'x'; 1000])]);
    let (status, got, text) = install(&bench, &whole[..whole.len() / 2]).await;
    assert_eq!((status, got.as_str()), (400, "BCS.4006005"), "{text}");
    let request = bench
        .request("POST", "/v2/agent/apis/chaincode/install")
        .header("content-type", "application/json");
    let (status, answer) = bench.send(request, b"{}").await;
    assert_eq!((status, code(&answer)), (400, "BCS.4006005"));
    let large = vec![b'x'; super::MOST_FILE + super::BESIDE + 1];
    let (status, got, text) = install(&bench, &large).await;
    assert_eq!((status, got.as_str()), (413, "BCS.4000013"), "{text}");
    let file = &large[..=super::MOST_FILE];
    let (status, got, text) = install(&bench, &form(&[NAME, VERSION, ("file", file)])).await;
    assert_eq!((status, got.as_str()), (413, "BCS.4000013"), "{text}");
}

#[tokio::test]
async fn questions_are_refused_by_name() {
    let bench = Bench::with_instance().await;
    let missing = (400, "BCS.4006009");
    for (path, wanted) in [
        ("chaincode/versions", missing),
        ("chaincode/install", missing),
        ("chaincode/instantiate", missing),
        ("chaincodes?limit=51", (400, "BCS.4006005")),
        ("chaincodes?blockchain_id=x", (404, "BCS.4001011")),
        // No node runs, and nothing is remembered in its place.
        ("chaincodes", (500, "BCS.4009100")),
    ] {
        let request = bench.request("GET", &format!("/v2/agent/apis/{path}"));
        let (got, answer) = bench.send(request, b"").await;
        assert_eq!((got, code(&answer)), wanted, "{path}: {answer}");
    }
}

#[tokio::test]
async fn instantiations_are_refused_by_name() {
    let bench = Bench::with_instance().await;
    let on = |channel: &str| {
        format!(
            r#"{{"chaincode_name":"assets","chaincode_version":"1.0","channel_name":"{channel}"}}"#
        )
    };
    for (body, wanted) in [
        ("{".to_owned(), (400, "BCS.4006003")),
        ("{}".to_owned(), (400, "BCS.4006003")),
        (on("nowhere"), (400, "BCS.4006012")),
        (on("channel"), (500, "BCS.4009100")),
    ] {
        let request = bench.request("POST", "/v2/agent/apis/chaincode/instantiate");
        let (got, answer) = bench.send(request, body.as_bytes()).await;
        assert_eq!((got, code(&answer)), wanted, "{body}: {answer}");
    }
}

fn principal(name: &str) -> Principal {
    Principal {
        name: name.to_owned(),
        project_id: "p".to_owned(),
        instance: None,
    }
}

#[tokio::test]
async fn one_caller_does_not_take_every_turn() {
    let uploads = Uploads::default();
    let (one, other, third) = (principal("one"), principal("other"), principal("third"));
    let first = uploads.turn(&one).await.expect("a turn");
    let mut second = Box::pin(uploads.turn(&one));
    assert!((&mut second).now_or_never().is_none(), "one each");
    let others = uploads.turn(&other).now_or_never();
    let others = others.expect("a free turn").expect("a turn");
    let mut thirds = Box::pin(uploads.turn(&third));
    assert!((&mut thirds).now_or_never().is_none(), "two in all");
    drop(first);
    let thirds = thirds.await.expect("a turn");
    drop((others, thirds));
    drop(second.await.expect("a turn"));
    let last = uploads.turn(&third).await.expect("a turn");
    assert_eq!(uploads.own.lock().len(), 1, "who is gone is forgotten");
    drop(last);
}
