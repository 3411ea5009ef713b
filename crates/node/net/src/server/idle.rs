//! Ends connections on which nothing is asked: each costs memory, and there is a limit to them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;

/// How many requests of a connection are being answered.
#[derive(Clone)]
pub(super) struct Requests {
    running: watch::Sender<usize>,
}

impl Requests {
    pub(super) fn none() -> Self {
        Self {
            running: watch::Sender::new(0),
        }
    }

    /// A request begins. It ends when what this returns is dropped.
    pub(super) fn begin(&self) -> Running {
        self.running.send_modify(|n| *n += 1);
        Running(self.clone())
    }

    /// Waits until there was no request for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        let mut running = self.running.subscribe();
        // The sender is here: waiting does not fail.
        while running.wait_for(|n| *n == 0).await.is_ok()
            && tokio::time::timeout(limit, running.changed()).await.is_ok()
        {}
    }
}

/// A request that is being answered.
pub(super) struct Running(Requests);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|n| *n -= 1);
    }
}

impl Running {
    /// The request goes on until its answer is sent or given up.
    pub(super) fn until_sent(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(Sending {
                body,
                _running: self,
            })
        })
    }
}

struct Sending {
    body: Body,
    _running: Running,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
