//! The console's files, carried inside the program when they were built before it.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use rust_embed::RustEmbed;
use selvage_manager_api::{ApiError, ErrorCode};

/// `web/dist`, when it exists.
#[derive(RustEmbed)]
#[folder = "../../../web/dist"]
#[allow_missing = true]
struct Files;

/// Shown when the program was built without the console.
const MISSING: &str = "<!doctype html><meta charset=utf-8><title>Selvage</title>\
<h1>The console is not in this program</h1>\
<p>Build it and then the program: <code>npm --prefix web ci &amp;&amp; npm --prefix web run build \
&amp;&amp; cargo build --release</code>, or simply <code>make build</code>.</p>\
<p>The management API answers under <code>/v2</code> all the same.</p>";

/// What pages may load: only themselves.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// A file of the console; any other path of a page is the console's own affair and gets its index.
pub(super) fn file(method: &str, path: &str) -> Result<Response, ApiError> {
    let name = path.trim_start_matches('/');
    let api = ["v1/", "v2/", "v3/", "selvage/"]
        .iter()
        .any(|p| name.starts_with(p));
    if api || !matches!(method, "GET" | "HEAD") {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            "Not Found:the url is not found",
        ));
    }
    let is_page = !name.rsplit('/').next().unwrap_or_default().contains('.');
    let wanted = if is_page { "index.html" } else { name };
    let Some(found) = Files::get(wanted) else {
        if is_page {
            return Ok(page(
                MISSING.as_bytes().to_vec(),
                "text/html; charset=utf-8",
                false,
            ));
        }
        return Err(ApiError::new(
            ErrorCode::NotFound,
            "Not Found:the url is not found",
        ));
    };
    // Vite puts a hash of the content into the names below assets/.
    let lasting = wanted.starts_with("assets/");
    Ok(page(
        found.data.into_owned(),
        found.metadata.mimetype(),
        lasting,
    ))
}

fn page(content: Vec<u8>, kind: &str, lasting: bool) -> Response {
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(if lasting {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        }),
    );
    response
}
