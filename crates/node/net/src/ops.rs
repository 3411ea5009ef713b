//! The operations endpoint: `/metrics`, `/healthz`, `/logspec`, `/version`
//! (Fabric: `core/operations`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use parking_lot::RwLock;
use selvage_env::Clock;
use serde::{Deserialize, Serialize};

use crate::Connection;
use crate::civil::Moment;
use crate::http::{WholeRequest, empty, endpoint, json, json_error};
use crate::logging::Levels;
use crate::metrics::Metrics;

/// How long all health checks together may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest body of a request.
const MAX_BODY: usize = 64 << 10;

type Check =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the endpoint shows. Clones share it.
#[derive(Clone)]
pub struct Operations {
    levels: Levels,
    metrics: Option<Metrics>,
    clock: Arc<dyn Clock>,
    version: Version,
    require_certificate: bool,
    checks: Arc<RwLock<Vec<(String, Check)>>>,
}

/// Who this program is.
#[derive(Debug, Clone, Serialize)]
pub struct Version {
    /// The commit it was built from.
    #[serde(rename = "CommitSHA", skip_serializing_if = "String::is_empty")]
    pub commit_sha: String,
    /// Its version.
    #[serde(rename = "Version")]
    pub version: String,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_checks: Vec<FailedCheck>,
}

#[derive(Serialize)]
struct FailedCheck {
    component: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct LogSpec {
    #[serde(default)]
    spec: String,
}

impl Operations {
    /// An endpoint that shows `metrics` only where the provider is `prometheus`, and that lets only
    /// clients with a verified certificate see metrics and change levels where it runs over TLS.
    /// What the log holds, and the version, are among the metrics from here on.
    pub fn new(
        levels: Levels,
        metrics: Option<Metrics>,
        clock: Arc<dyn Clock>,
        version: Version,
        require_certificate: bool,
    ) -> Self {
        if let Some(metrics) = &metrics {
            levels.observe(metrics);
            let help = "The version of this node, as a label; the value is 1.";
            let running = metrics.gauges("fabric_version", help, &["version"]);
            running.with(&[&version.version]).set(1);
        }
        Self {
            levels,
            metrics,
            clock,
            version,
            require_certificate,
            checks: Arc::default(),
        }
    }

    /// Adds a health check. The component's name appears in answers when the check fails.
    pub fn register_check<F, A>(&self, component: &str, check: F)
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks.write().push((component.to_owned(), check));
    }

    /// The endpoint, ready to be served.
    pub fn router(&self) -> Router {
        let operations = self.clone();
        endpoint(MAX_BODY, move |request| {
            let operations = operations.clone();
            async move { operations.answer(request).await }
        })
    }

    async fn answer(&self, request: WholeRequest) -> Response<Bytes> {
        let guarded = self.require_certificate && !has_certificate(&request);
        match request.uri().path() {
            "/metrics" | "/logspec" if guarded => empty(StatusCode::UNAUTHORIZED),
            "/metrics" => self.metrics(),
            "/logspec" => self.logspec(&request),
            "/healthz" => self.healthz(&request).await,
            "/version" if request.method() == Method::GET => json(StatusCode::OK, &self.version),
            "/version" => json(
                StatusCode::BAD_REQUEST,
                &serde_json::json!({
                    "Error": format!("invalid request method: {}", request.method())
                }),
            ),
            _ => not_found(),
        }
    }

    fn metrics(&self) -> Response<Bytes> {
        let Some(metrics) = &self.metrics else {
            return not_found();
        };
        let mut response = Response::new(Bytes::from(metrics.text()));
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        response
    }

    fn logspec(&self, request: &WholeRequest) -> Response<Bytes> {
        match *request.method() {
            Method::GET => json(
                StatusCode::OK,
                &LogSpec {
                    spec: self.levels.spec(),
                },
            ),
            Method::PUT => {
                let set = serde_json::from_slice::<LogSpec>(request.body())
                    .map_err(|error| error.to_string())
                    .and_then(|new| self.levels.set(&new.spec).map_err(|e| e.to_string()));
                match set {
                    Ok(()) => empty(StatusCode::NO_CONTENT),
                    Err(reason) => json_error(StatusCode::BAD_REQUEST, &reason),
                }
            }
            _ => json_error(
                StatusCode::BAD_REQUEST,
                &format!("invalid request method: {}", request.method()),
            ),
        }
    }

    async fn healthz(&self, request: &WholeRequest) -> Response<Bytes> {
        if request.method() != Method::GET {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let checks = self.checks.read().clone();
        let run = async {
            let mut failed = Vec::new();
            for (component, check) in checks {
                if let Err(reason) = check().await {
                    failed.push(FailedCheck { component, reason });
                }
            }
            failed
        };
        let Ok(failed_checks) = tokio::time::timeout(CHECK_TIMEOUT, run).await else {
            return empty(StatusCode::REQUEST_TIMEOUT);
        };
        let (code, status) = if failed_checks.is_empty() {
            (StatusCode::OK, "OK")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
        };
        let health = Health {
            status,
            time: Moment(self.clock.unix_nanos()).rfc3339().to_string(),
            failed_checks,
        };
        json(code, &health)
    }
}

/// Whether the request came over TLS with a certificate. The server checked it against its roots.
pub fn has_certificate(request: &WholeRequest) -> bool {
    Connection::of(request.extensions()).is_some_and(|c| c.certificate().is_some())
}

fn not_found() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(require_certificate: bool) -> Operations {
        Operations::new(
            Levels::new("info").unwrap(),
            Some(Metrics::default()),
            selvage_env::Env::test(1).clock,
            Version {
                commit_sha: "abc".into(),
                version: "0.1.0".into(),
            },
            require_certificate,
        )
    }

    async fn ask(
        operations: &Operations,
        method: &str,
        path: &str,
        body: &'static str,
    ) -> (u16, String) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap();
        let response = operations.answer(request).await;
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        (response.status().as_u16(), text.trim_end().to_owned())
    }

    #[tokio::test]
    async fn answers_have_fabric_shapes() {
        let ops = operations(false);
        let check = async |method, path, body, code: u16, text: &str| {
            let (got, shown) = ask(&ops, method, path, body).await;
            assert_eq!((got, shown.as_str()), (code, text), "{method} {path}");
        };
        check("GET", "/logspec", "", 200, r#"{"spec":"info"}"#).await;
        check(
            "PUT",
            "/logspec",
            r#"{"spec":"debug:gossip=warn"}"#,
            204,
            "",
        )
        .await;
        check(
            "GET",
            "/logspec",
            "",
            200,
            r#"{"spec":"gossip=warn:debug"}"#,
        )
        .await;
        let bad = r#"{"error":"invalid logging specification 'loud': bad segment 'loud'"}"#;
        check("PUT", "/logspec", r#"{"spec":"loud"}"#, 400, bad).await;
        let method = r#"{"error":"invalid request method: POST"}"#;
        check("POST", "/logspec", "", 400, method).await;
        check(
            "GET",
            "/version",
            "",
            200,
            r#"{"CommitSHA":"abc","Version":"0.1.0"}"#,
        )
        .await;
        check("POST", "/healthz", "", 405, "").await;
        check("GET", "/nothing", "", 404, "404 page not found").await;
    }

    #[tokio::test]
    async fn health_names_what_failed() {
        let ops = operations(false);
        let (code, text) = ask(&ops, "GET", "/healthz", "").await;
        assert_eq!(code, 200);
        assert!(text.starts_with(r#"{"status":"OK","time":""#), "{text}");
        ops.register_check("disk", || async { Err("the disk is full".to_owned()) });
        let (code, text) = ask(&ops, "GET", "/healthz", "").await;
        assert_eq!(code, 503);
        let failed = r#""failed_checks":[{"component":"disk","reason":"the disk is full"}]"#;
        assert!(text.contains(failed), "{text}");
    }

    #[tokio::test]
    async fn metrics_and_levels_want_a_certificate_over_tls() {
        let ops = operations(true);
        for (path, code) in [("/metrics", 401), ("/logspec", 401), ("/healthz", 200)] {
            assert_eq!(ask(&ops, "GET", path, "").await.0, code, "{path}");
        }
    }
}
