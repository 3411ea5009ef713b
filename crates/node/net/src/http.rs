//! Small HTTP endpoints as plain functions from request to response, so that their tables of
//! answers can be tested without a socket.

use std::future::Future;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Multipart, Request};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

/// A request whose body has been read.
pub type WholeRequest = http::Request<Bytes>;

/// Serves every path with one function. Bodies longer than `limit` bytes are cut off: the function
/// gets the answer `too_large` gives instead of being called.
pub fn endpoint<F, A>(limit: usize, handler: F) -> Router
where
    F: Fn(WholeRequest) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Bytes>> + Send,
{
    Router::new().fallback(move |request: Request| {
        let handler = handler.clone();
        async move {
            let (parts, body) = request.into_parts();
            match to_bytes(body, limit).await {
                Ok(body) => handler(WholeRequest::from_parts(parts, body)).await,
                Err(_) => json_error(
                    StatusCode::BAD_REQUEST,
                    &format!(
                        "cannot read form from request body: http: request body too large, the \
                         limit is {limit} bytes"
                    ),
                ),
            }
            .map(Body::from)
        }
    })
}

/// `value` as a JSON body, followed by a newline, as Go's encoder writes it.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let (status, mut body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
    };
    body.push(b'\n');
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// `{"error": message}`.
pub fn json_error(status: StatusCode, message: &str) -> Response<Bytes> {
    json(status, &serde_json::json!({ "error": message }))
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// One part of a form.
#[derive(Debug, Clone)]
pub struct Part {
    /// The field's name.
    pub name: String,
    /// Whether it is a file, that is, carries a file name.
    pub is_file: bool,
    /// Its content.
    pub content: Bytes,
}

/// The most parts a form may have.
const MAX_PARTS: usize = 16;

/// The parts of a `multipart/form-data` request.
pub async fn form_parts(request: WholeRequest) -> Result<Vec<Part>, String> {
    let (parts, body) = request.into_parts();
    let mut request = Request::from_parts(parts, Body::from(body));
    // The body has been limited when it was read.
    let unlimited = axum::extract::DefaultBodyLimit::disable();
    unlimited.apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| error.body_text())?;
    let mut parts = Vec::new();
    loop {
        let field = form.next_field().await.map_err(|e| e.body_text())?;
        let Some(field) = field else {
            return Ok(parts);
        };
        if parts.len() == MAX_PARTS {
            return Err("the form has too many parts".to_owned());
        }
        parts.push(Part {
            name: field.name().unwrap_or_default().to_owned(),
            is_file: field.file_name().is_some(),
            content: field.bytes().await.map_err(|e| e.body_text())?,
        });
    }
}
