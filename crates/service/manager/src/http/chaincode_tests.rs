//! Requests that are refused before a peer is asked: no node runs here.

use crate::chaincode::testing::zip_of;
use crate::http::tests::{Bench, code};

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

#[tokio::test]
async fn forms_are_refused_by_field() {
    let bench = Bench::with_instance().await;
    let good = zip_of(&[("package.json", b"{}")]);
    let file: (&str, &[u8]) = ("file", &good);
    let long = "x".repeat(501);
    let many: Vec<(&str, &[u8])> = vec![("other", b"x"); 40];
    let cases: [(Fields<'_>, &str, &str); 16] = [
        (&[VERSION, file], "BCS.4006009", "chaincode_name"),
        (&[NAME, file], "BCS.4006009", "chaincode_version"),
        (&[NAME, VERSION], "BCS.4006009", "file"),
        (&[NAME, VERSION, file, file], "BCS.4006005", "two fields"),
        (
            &[("chaincode_name", b"Bad"), VERSION, file],
            "BCS.4006005",
            "6 to 25",
        ),
        (
            &[NAME, ("chaincode_version", b"v1"), file],
            "BCS.4006005",
            "such as 1.0",
        ),
        (
            &[NAME, VERSION, file, ("chaincode_language", b"cobol")],
            "BCS.4006005",
            "golang",
        ),
        (
            &[NAME, VERSION, file, ("db_type", b"couchdb")],
            "BCS.5010501",
            "couchdb",
        ),
        (
            &[NAME, VERSION, file, ("db_type", b"x")],
            "BCS.4006005",
            "db_type",
        ),
        (
            &[NAME, VERSION, file, ("security_check", b"true")],
            "BCS.5010501",
            "security check",
        ),
        (
            &[NAME, VERSION, file, ("security_check", b"x")],
            "BCS.4006005",
            "security_check",
        ),
        (
            &[NAME, VERSION, file, ("description", long.as_bytes())],
            "BCS.4006005",
            "500",
        ),
        (
            &[NAME, VERSION, file, ("target_peers", b"{")],
            "BCS.4006003",
            "target_peers",
        ),
        (
            &[NAME, VERSION, file, ("target_peers", b"[]")],
            "BCS.4006005",
            "leave it out",
        ),
        (
            &[
                NAME,
                VERSION,
                file,
                ("target_peers", br#"[{"peer_id":"peer-x"}]"#),
            ],
            "BCS.4002903",
            "no peer peer-x",
        ),
        (&many, "BCS.4006005", "more than 32 fields"),
    ];
    for (fields, wanted, part) in cases {
        let (status, got, text) = install(&bench, &form(fields)).await;
        assert_eq!(got, wanted, "{text}");
        assert!(
            status >= 400 && text.contains(part),
            "{part:?} is missing in: {text}"
        );
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
async fn questions_and_instantiations_are_refused_by_name() {
    let bench = Bench::with_instance().await;
    let base = "/v2/agent/apis/chaincode";
    let list = "/v2/agent/apis/chaincodes";
    let body = |channel: &str| {
        format!(
            r#"{{"chaincode_name":"assets","chaincode_version":"1.0","channel_name":"{channel}"}}"#
        )
    };
    for (method, path, body, status, wanted) in [
        (
            "GET",
            format!("{base}/versions"),
            String::new(),
            400,
            "BCS.4006009",
        ),
        (
            "GET",
            format!("{base}/install"),
            String::new(),
            400,
            "BCS.4006009",
        ),
        (
            "GET",
            format!("{base}/instantiate"),
            String::new(),
            400,
            "BCS.4006009",
        ),
        (
            "GET",
            format!("{list}?limit=51"),
            String::new(),
            400,
            "BCS.4006005",
        ),
        (
            "GET",
            format!("{list}?blockchain_id=x"),
            String::new(),
            404,
            "BCS.4001011",
        ),
        // No node runs, and nothing is remembered in its place.
        ("GET", list.to_owned(), String::new(), 500, "BCS.4009100"),
        (
            "POST",
            format!("{base}/instantiate"),
            "{".into(),
            400,
            "BCS.4006003",
        ),
        (
            "POST",
            format!("{base}/instantiate"),
            "{}".into(),
            400,
            "BCS.4006003",
        ),
        (
            "POST",
            format!("{base}/instantiate"),
            body("nowhere"),
            400,
            "BCS.4006012",
        ),
        (
            "POST",
            format!("{base}/instantiate"),
            body("channel"),
            500,
            "BCS.4009100",
        ),
    ] {
        let request = bench.request(method, &path);
        let (got, answer) = bench.send(request, body.as_bytes()).await;
        assert_eq!(
            (got, code(&answer)),
            (status, wanted),
            "{method} {path}: {answer}"
        );
    }
}
