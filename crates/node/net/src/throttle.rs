//! Bounded concurrency per gRPC service (`peer.limits.concurrency`).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// A gRPC service that serves a bounded number of calls at once and answers the others with
/// RESOURCE_EXHAUSTED, in the words of Fabric. A streaming call counts until its stream ends.
#[derive(Clone)]
pub struct Throttled<S> {
    inner: S,
    permits: Option<Arc<Semaphore>>,
    limit: usize,
}

impl<S> Throttled<S> {
    /// Lets `limit` calls through at once; 0 means no limit.
    pub fn new(inner: S, limit: usize) -> Self {
        Self {
            inner,
            permits: (limit > 0)
                .then(|| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))),
            limit,
        }
    }
}

impl<S: NamedService> NamedService for Throttled<S> {
    const NAME: &'static str = S::NAME;
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, B> Service<Request<B>> for Throttled<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + NamedService,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let permit = match &self.permits {
            None => None,
            Some(permits) => match permits.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    let message = format!(
                        "too many requests for /{}, exceeding concurrency limit ({})",
                        S::NAME,
                        self.limit
                    );
                    tracing::warn!("{message}");
                    let refused = Status::resource_exhausted(message).into_http();
                    return Box::pin(std::future::ready(Ok(refused)));
                }
            },
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let Some(permit) = permit else {
                return Ok(response);
            };
            // The permit lives as long as the response's body.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &permit;
                    frame as hyper::body::Frame<Bytes>
                }))
            }))
        })
    }
}
