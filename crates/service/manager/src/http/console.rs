//! The console's files, carried inside the program when they were built before it.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
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
pub(super) fn file(method: &str, path: &str, asked: &HeaderMap) -> Result<Response, ApiError> {
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
    let kind = found.metadata.mimetype().to_owned();
    // Vite puts a hash of the content into the names below assets/.
    let lasting = wanted.starts_with("assets/");
    // The build leaves a packed copy beside every file that is worth it.
    let packed = Files::get(&format!("{wanted}.gz")).filter(|_| takes_gzip(asked));
    let is_packed = packed.is_some();
    let content = packed.unwrap_or(found).data.into_owned();
    let mut response = page(content, &kind, lasting);
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether the caller takes answers packed with gzip: it names it, and not with a weight of zero.
fn takes_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(header::ACCEPT_ENCODING).into_iter();
    let words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.into_iter().any(|word| {
        let (coding, weight) = word.split_once(';').unwrap_or((word, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        coding.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|w| w > 0.0)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &'static str, expected: bool) {
        let mut asked = HeaderMap::new();
        asked.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        assert_eq!(takes_gzip(&asked), expected, "{value}");
    }

    #[test]
    fn packed_files_go_to_who_takes_them() {
        check("gzip, deflate, br, zstd", true);
        check("br;q=1.0, GZIP;q=0.5", true);
        check("identity", false);
        check("gzip;q=0", false);
        check("gzip;q=0.000, br", false);
        check("", false);
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
