//! Reading bodies: how much, how slowly, and for whom.
//!
//! Nobody gets memory for nothing: who has not shown who they are sends little, and a body that
//! does not come ends its request.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::StreamExt;
use selvage_manager_api::{ApiError, ErrorCode};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use crate::auth::signature::BodyHash;

/// Longest body of who need not show who they are: a login.
pub(super) const MOST_PUBLIC: usize = 4 * 1024;
/// Longest body of a request whose signature cannot be checked before its body.
pub(super) const MOST_UNPROVEN: usize = 64 * 1024;
/// Longest body of who has shown who they are.
pub(super) const MOST_PROVEN: usize = 1024 * 1024;

/// How slowly a body may come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Longest time without a byte.
    pub(super) idle: Duration,
    /// Time that every body has.
    pub(super) grace: Duration,
    /// Bytes a second that it needs beyond that, on the average.
    pub(super) rate: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            rate: 64.0 * 1024.0,
        }
    }
}

/// A body that came.
pub(super) struct Came {
    pub(super) bytes: Bytes,
    pub(super) hash: BodyHash,
}

/// Whether the headers say that no body follows.
pub(super) fn is_empty(body: &Body) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

fn too_large(most: usize) -> ApiError {
    let mut text = format!("request body is too large: at most {most} bytes are read");
    if most == MOST_UNPROVEN {
        text.push_str(
            " before its signature is checked; sign the header X-Sdk-Content-Sha256, or send \
             X-Auth-Token instead, and more are",
        );
    }
    ApiError::new(ErrorCode::BodyTooLarge, text)
}

impl Pace {
    /// Reads a body of at most so many bytes.
    pub(super) async fn read(&self, body: Body, most: usize) -> Result<Came, ApiError> {
        if body.size_hint().lower() > most as u64 {
            return Err(too_large(most));
        }
        let began = Instant::now();
        let mut parts = body.into_data_stream();
        let (mut bytes, mut hash) = (Vec::new(), Sha256::new());
        loop {
            let earned = Duration::from_secs_f64(bytes.len() as f64 / self.rate);
            let due = (began + self.grace + earned).min(Instant::now() + self.idle);
            let part = match timeout_at(due, parts.next()).await {
                Ok(Some(part)) => part,
                Ok(None) => break,
                Err(_) => return Err(self.too_slow(bytes.len())),
            };
            let part = part.map_err(|e| ApiError::bad(format!("the body broke off: {e}")))?;
            if bytes.len() + part.len() > most {
                return Err(too_large(most));
            }
            hash.update(&part);
            bytes.extend_from_slice(&part);
        }
        Ok(Came {
            bytes: bytes.into(),
            hash: hash.finalize().into(),
        })
    }

    fn too_slow(&self, came: usize) -> ApiError {
        ApiError::new(
            ErrorCode::TooSlow,
            format!(
                "the body comes too slowly: {came} bytes came, then nothing for {:?}, or less than \
                 {} bytes a second; try again over a faster connection",
                self.idle, self.rate
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::convert::Infallible;

    fn never() -> stream::Pending<Result<Bytes, Infallible>> {
        stream::pending()
    }

    fn pace(idle_ms: u64, grace_ms: u64) -> Pace {
        Pace {
            idle: Duration::from_millis(idle_ms),
            grace: Duration::from_millis(grace_ms),
            rate: 1e6,
        }
    }

    async fn refused(pace: Pace, body: Body) -> ErrorCode {
        let came = pace.read(body, 100).await;
        came.err().expect("a refusal").code
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_ends() {
        let long = 3_600_000;
        let some = stream::iter([Ok(Bytes::from_static(b"some"))]);
        for body in [
            Body::from_stream(never()),
            Body::from_stream(some.chain(never())),
        ] {
            assert_eq!(refused(pace(1, long), body).await, ErrorCode::TooSlow);
        }
        // Empty pieces for ever are no bytes either.
        let drip = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, Infallible>(Bytes::new()), ()))
        });
        let body = Body::from_stream(drip);
        assert_eq!(refused(pace(long, 20), body).await, ErrorCode::TooSlow);
    }

    #[tokio::test]
    async fn the_limit_holds_whether_or_not_the_length_is_told() {
        let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(b"more")));
        for body in [Body::from_stream(endless), Body::from(vec![0; 101])] {
            let code = refused(Pace::default(), body).await;
            assert_eq!(code, ErrorCode::BodyTooLarge);
        }
        let came = Pace::default().read(Body::from(vec![7; 100]), 100).await;
        let came = came.expect("a body");
        assert_eq!(came.bytes, vec![7; 100]);
        assert_eq!(came.hash, BodyHash::from(Sha256::digest([7; 100])));
        assert!(is_empty(&Body::empty()) && !is_empty(&Body::from_stream(never())));
    }
}
