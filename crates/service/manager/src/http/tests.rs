//! The server without sockets: requests in, answers out, on a manager with an empty folder.

use super::*;
use crate::auth::signature::{SignedRequest, sign};
use crate::data_dir::DataDir;
use crate::driver::local::Programs;
use crate::network::testing;
use crate::operations::fresh_record;
use crate::service::Settings;
use crate::store::{InstanceState, NewInstance, OperationParams, OperationRow};
use axum::body::to_bytes;
use selvage_manager_api::operation::OperationType;
use selvage_manager_api::table::OPERATIONS;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(super) struct Bench {
    _dir: tempfile::TempDir,
    pub(super) server: Server,
    token: String,
    project: String,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = DataDir::open(dir.path()).expect("free folder");
        let settings = Settings {
            programs: Programs::new(vec![dir.path().join("bin")]),
            node_host: "127.0.0.1".into(),
            node_listen: "127.0.0.1".parse().expect("address"),
            samples: vec![],
        };
        let manager = Manager::start(data, settings).await.expect("starts");
        let project = manager.access().project_id.clone();
        let (_, admin) = manager
            .inner
            .store
            .user("admin")
            .await
            .expect("read")
            .expect("there");
        let (token, _) = manager
            .inner
            .store
            .open_session(&admin)
            .await
            .expect("session");
        let server = Server::new(manager);
        Self {
            _dir: dir,
            server,
            token,
            project,
        }
    }

    pub(super) async fn send(&self, request: http::request::Builder, body: &[u8]) -> (u16, Value) {
        self.send_body(request, Body::from(body.to_vec())).await
    }

    pub(super) async fn send_body(
        &self,
        request: http::request::Builder,
        body: Body,
    ) -> (u16, Value) {
        let request = request.body(body).expect("a request");
        let response = self.server.answer(request).await;
        assert!(response.headers().contains_key("x-request-id"));
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 1 << 22).await.expect("body");
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    pub(super) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        http::Request::builder()
            .method(method)
            .uri(path)
            .header("x-auth-token", &self.token)
    }

    async fn with_token(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        self.send(self.request(method, path), body).await
    }

    /// An instance that is ready, with a network whose nodes do not run.
    pub(super) async fn with_instance() -> Self {
        let bench = Self::new().await;
        bench.add_instance("i").await;
        bench
    }

    async fn add_instance(&self, id: &str) {
        let store = &self.server.manager.inner.store;
        let project = store.project(&self.project).await.expect("read");
        let (project, mut spec) = (project.expect("there"), testing::spec());
        spec.name = format!("{}-{id}", spec.name);
        let kind = OperationType::Create;
        let mut row = OperationRow {
            started_ns: 1,
            undoing: false,
            params: OperationParams::default(),
            record: fresh_record(kind, 1, &project, id, &spec, &[]),
        };
        row.record.operation_id = format!("making-{id}");
        let new = NewInstance {
            id,
            project_id: &self.project,
            created_ns: 1,
            spec: &spec,
            password_hash: "",
        };
        store.add_instance(&new, &row, 5).await.expect("added");
        let mut network = testing::network();
        if id != "i" {
            let ports: Vec<u16> = (50_000..).take(network.ports_needed()).collect();
            network.give_ports(&ports);
        }
        store.set_network(id, &network).await.expect("kept");
        let ready = InstanceState::Ready;
        store.set_state(id, ready).await.expect("kept");
    }

    /// A request signed so many seconds from now, with what stands for the body; `sent` tells the
    /// server what that is.
    pub(super) fn signed(
        &self,
        (method, path): (&str, &str),
        shift: i64,
        payload: &str,
        sent: bool,
    ) -> http::request::Builder {
        let access = self.server.manager.access();
        let at = time::OffsetDateTime::from_unix_timestamp(crate::clock::now_s() + shift);
        let form = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let date = at.expect("time").format(form).expect("text");
        let mut fields = vec![("host", "h:1"), ("x-sdk-date", &date)];
        if sent {
            fields.push(("x-sdk-content-sha256", payload));
        }
        let mut headers = http::HeaderMap::new();
        let mut request = http::Request::builder().method(method).uri(path);
        for &(name, value) in &fields {
            headers.insert(name, value.parse().expect("a header"));
            request = request.header(name, value);
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let signing = SignedRequest {
            method,
            path,
            query: "",
            headers: &headers,
        };
        let signature = sign(&signing, payload, &names, &access.sk);
        let names = names.join(";");
        request.header(
            "authorization",
            format!(
                "SDK-HMAC-SHA256 Access={}, SignedHeaders={names}, Signature={signature}",
                access.ak
            ),
        )
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}{rest}", self.project)
    }
}

pub(super) fn code(body: &Value) -> &str {
    body["error_code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn no_endpoint_answers_strangers() {
    let bench = Bench::new().await;
    for route in routes::routes() {
        if route.guard == Guard::Public {
            continue;
        }
        let path = route
            .pattern
            .replace("{project_id}", &bench.project)
            .replace(['{', '}'], "");
        let request = || http::Request::builder().method(route.method).uri(&path);
        let (status, body) = bench.send(request(), b"").await;
        assert_eq!(
            (status, code(&body)),
            (401, "BCS.4010401"),
            "{} {path}",
            route.method
        );
        let wrong = request().header("x-auth-token", "00");
        let (status, _) = bench.send(wrong, b"").await;
        assert_eq!(status, 401, "wrong token at {path}");
        let forged = request().header(
            "authorization",
            format!(
                "SDK-HMAC-SHA256 Access={}, SignedHeaders=host;x-sdk-date, Signature=00",
                bench.server.manager.access().ak
            ),
        );
        let (status, _) = bench.send(forged, b"").await;
        assert_eq!(status, 401, "forged signature at {path}");
    }
}

#[tokio::test]
async fn another_project_is_forbidden() {
    let bench = Bench::new().await;
    for operation in &OPERATIONS {
        let path = format!("/v2/stranger{}", operation.path.replace(['{', '}'], ""));
        let method = format!("{:?}", operation.method).to_uppercase();
        let (status, body) = bench.with_token(&method, &path, b"{}").await;
        assert_eq!((status, code(&body)), (403, "BCS.4030403"), "{path}");
    }
    let path = bench.path("/blockchains");
    let request = http::Request::builder()
        .uri(path)
        .header("x-auth-token", &bench.token)
        .header("x-project-id", "other");
    assert_eq!(bench.send(request, b"").await.0, 403);
}

fn hash(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

#[tokio::test]
async fn a_signed_request_is_answered_and_a_changed_one_is_not() {
    let bench = Bench::new().await;
    let path = bench.path("/blockchains");
    let request = |shift| bench.signed(("GET", &path), shift, &hash(b""), false);
    let (status, body) = bench.send(request(0), b"").await;
    assert_eq!((status, body["count"].as_i64()), (200, Some(0)));
    let (status, body) = bench.send(request(-16 * 60), b"").await;
    assert_eq!(status, 401);
    assert!(
        body["error_msg"].as_str().expect("text").contains("clock"),
        "{body}"
    );
    let elsewhere = request(0).uri(bench.path("/quotas"));
    assert_eq!(bench.send(elsewhere, b"").await.0, 401);
    assert_eq!(bench.send(request(0), b"x").await.0, 401);
    // A body that is named is checked against its name, and one that is not, against the signature.
    let post = |sent| bench.signed(("POST", &path), 0, &hash(b"{}"), sent);
    for sent in [true, false] {
        let (_, body) = bench.send(post(sent), b"{}").await;
        assert_eq!(code(&body), "BCS.4006009", "{body}");
        assert_eq!(bench.send(post(sent), b"{ }").await.0, 401);
    }
}

/// A body that must not be looked at.
fn untouchable() -> Body {
    Body::from_stream(futures::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<Bytes, std::convert::Infallible>>> {
            panic!("the body was read")
        },
    ))
}

#[tokio::test]
async fn nothing_is_read_of_a_body_whose_headers_are_refused() {
    const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=x");
    let bench = Bench::with_instance().await;
    for path in [
        "/v2/agent/apis/chaincode",
        "/v2/agent/apis/chaincode/install",
    ] {
        let at = ("POST", path);
        let form = |shift, payload: &str, sent| {
            let signed = bench.signed(at, shift, payload, sent);
            signed.header(FORM.0, FORM.1)
        };
        let request = form(0, "UNSIGNED-PAYLOAD", true);
        let (_, answer) = bench.send(request, b"--x--").await;
        assert_eq!(code(&answer), "BCS.4006009", "signed in order: {answer}");
        let forged = form(0, "another", false).header("x-sdk-content-sha256", hash(b"x"));
        let old = form(-16 * 60, "", false);
        let stranger = http::Request::builder().method("POST").uri(path);
        let token = http::Request::builder().method("POST").uri(path);
        for request in [forged, old, stranger, token.header("x-auth-token", "00")] {
            let (status, answer) = bench.send_body(request, untouchable()).await;
            assert_eq!(status, 401, "{answer}");
        }
        // Without a word on the body only a small one is read to check the signature.
        let large = vec![b'x'; body::MOST_UNPROVEN + 1];
        let request = form(0, &hash(&large), false);
        let (status, answer) = bench.send(request, &large).await;
        assert_eq!(status, 413, "{answer}");
        let text = answer["error_msg"].as_str().expect("text");
        assert!(text.contains("X-Sdk-Content-Sha256"), "{text}");
        let (_, answer) = bench.send(form(0, &hash(&large), true), &large).await;
        assert_eq!(code(&answer), "BCS.4006005", "read as a form: {answer}");
    }
}

#[tokio::test]
async fn bodies_of_strangers_are_small_and_do_not_take_for_ever() {
    let mut bench = Bench::new().await;
    bench.server.pace.idle = std::time::Duration::from_millis(1);
    for (method, path) in [
        ("POST", "/selvage/v1/sessions"),
        ("GET", "/v2/agent/apis/tokens"),
        ("GET", "/healthz"),
    ] {
        let request = || http::Request::builder().method(method).uri(path);
        let never = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        let never = Body::from_stream(never);
        let (status, answer) = bench.send_body(request(), never).await;
        assert_eq!((status, code(&answer)), (408, "BCS.4080408"), "{path}");
        let large = vec![b' '; body::MOST_PUBLIC + 1];
        let (status, _) = bench.send(request(), &large).await;
        assert_eq!(status, 413, "{path}");
    }
}

#[tokio::test]
async fn an_instance_session_reaches_its_instance_only() {
    let bench = Bench::with_instance().await;
    bench.add_instance("sister").await;
    let scoped = Principal {
        name: "admin".into(),
        project_id: bench.project.clone(),
        instance: Some("i".into()),
    };
    let store = &bench.server.manager.inner.store;
    let (token, _) = store.open_session(&scoped).await.expect("session");
    let agent = |rest: &str| format!("/v2/agent/apis{rest}");
    for (path, status) in [
        (bench.path("/blockchains"), 403),
        (agent("/peers"), 200),
        (agent("/peers?blockchain_id=i"), 200),
        (agent("/peers?blockchain_id=sister"), 404),
        (agent("/peers?blockchain_id=another"), 404),
        (agent("/channel/channel/blocks?blockchain_id=sister"), 404),
        (agent("/chaincodes?blockchain_id=sister"), 404),
    ] {
        let request = http::Request::builder()
            .uri(&path)
            .header("x-auth-token", &token);
        let (got, body) = bench.send(request, b"").await;
        assert_eq!(got, status, "{path}: {body}");
    }
    // The sister is there: a session of the project opens it, and has to say which it means.
    for (path, status) in [
        (agent("/peers?blockchain_id=sister"), 200),
        (agent("/peers"), 400),
    ] {
        assert_eq!(
            bench.with_token("GET", &path, b"").await.0,
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn operations_that_are_not_built_say_so() {
    let bench = Bench::new().await;
    for operation in OPERATIONS.iter().filter(|o| !o.is_built()) {
        let path = bench.path(&operation.path.replace(['{', '}'], ""));
        let method = format!("{:?}", operation.method).to_uppercase();
        let (status, body) = bench.with_token(&method, &path, b"{}").await;
        assert_eq!((status, code(&body)), (501, "BCS.5010501"), "{path}");
        assert!(
            body["error_msg"]
                .as_str()
                .expect("text")
                .contains(operation.name)
        );
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    let bench = Bench::new().await;
    let create = bench.path("/blockchains");
    let (status, body) = bench.with_token("POST", &create, b"{not json").await;
    assert_eq!((status, code(&body)), (400, "BCS.4006003"));
    let (status, body) = bench.with_token("POST", &create, b"{}").await;
    assert_eq!((status, code(&body)), (400, "BCS.4006009"));
    let (status, body) = bench
        .with_token("POST", &create, &vec![b' '; body::MOST_PROVEN + 1])
        .await;
    assert_eq!((status, code(&body)), (413, "BCS.4000013"));
    let whole = json!({
        "name": "bcs-test", "version_type": 4, "enterprise_project_id": "0",
        "resource_password": "Passw0rd!", "cluster_type": "CCE", "create_new_cluster": false,
        "cce_cluster_info": {"cluster_id": "c", "cluster_name": "c"},
    });
    let (status, body) = bench
        .with_token("POST", &create, whole.to_string().as_bytes())
        .await;
    assert_eq!(
        (status, code(&body)),
        (500, "BCS.4009100"),
        "missing programs"
    );
    assert!(
        body["error_msg"]
            .as_str()
            .expect("text")
            .contains("make build")
    );
    let missing = bench.path("/blockchains/nothing");
    for (method, path) in [
        ("GET", missing.clone()),
        ("DELETE", missing.clone()),
        ("GET", format!("{missing}/status")),
        ("GET", format!("{missing}/nodes")),
        ("GET", format!("{missing}/channels")),
        ("GET", format!("{missing}/cert?org_name=o&cert_type=admin")),
        ("GET", "/v2/agent/apis/peers".to_owned()),
        (
            "GET",
            "/v2/agent/apis/channel/c/summary?blockchain_id=x".to_owned(),
        ),
    ] {
        let (status, body) = bench.with_token(method, &path, b"").await;
        assert_eq!(
            (status, code(&body)),
            (404, "BCS.4001011"),
            "{method} {path}"
        );
    }
    let (status, body) = bench
        .with_token("GET", &bench.path("/quotas?type=ecs"), b"")
        .await;
    assert_eq!((status, code(&body)), (400, "BCS.4006014"));
    let flavors = bench.path("/blockchains/flavors?limit=0");
    assert_eq!(bench.with_token("GET", &flavors, b"").await.0, 400);
    let (status, body) = bench.with_token("GET", "/v2/nowhere", b"").await;
    assert_eq!((status, code(&body)), (404, "BCS.4040404"));
}

#[tokio::test]
async fn the_console_is_entered_with_the_password_and_left_again() {
    let bench = Bench::new().await;
    let access = bench.server.manager.access().clone();
    let login = |user: &str, password: &str| {
        json!({"user": user, "password": password})
            .to_string()
            .into_bytes()
    };
    let request = || {
        http::Request::builder()
            .method("POST")
            .uri("/selvage/v1/sessions")
    };
    let (status, session) = bench
        .send(request(), &login(&access.user, &access.password))
        .await;
    assert_eq!(status, 200);
    assert_eq!(session["project_id"], access.project_id);
    let token = session["token"].as_str().expect("token");
    let whoami = |token: &str| {
        http::Request::builder()
            .uri("/selvage/v1/whoami")
            .header("x-auth-token", token)
    };
    let (status, me) = bench.send(whoami(token), b"").await;
    assert_eq!((status, me["user"].as_str()), (200, Some("admin")));
    let out = http::Request::builder()
        .method("DELETE")
        .uri("/selvage/v1/sessions")
        .header("x-auth-token", token);
    assert_eq!(bench.send(out, b"").await.0, 200);
    assert_eq!(bench.send(whoami(token), b"").await.0, 401);
    for _ in 0..5 {
        assert_eq!(bench.send(request(), &login("admin", "wrong")).await.0, 401);
    }
    let (status, body) = bench
        .send(request(), &login("admin", &access.password))
        .await;
    assert_eq!((status, code(&body)), (429, "BCS.4290429"));
}
