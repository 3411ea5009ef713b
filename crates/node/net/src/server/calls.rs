//! Counts connections and gRPC calls (Fabric: `common/grpcmetrics`, `internal/pkg/comm`).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use http::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Code;

use crate::metrics::{Counter, Counters, Durations, Metrics};

/// Path, service, name, and whether it has streams.
type Row = (&'static str, &'static str, &'static str, bool);

const METHODS: &[Row] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

static BY_PATH: LazyLock<HashMap<&'static str, &'static Row>> =
    LazyLock::new(|| METHODS.iter().map(|row| (row.0, row)).collect());

const METHOD: &[&str] = &["service", "method"];
const ENDED: &[&str] = &["service", "method", "code"];

/// Where the gRPC servers of a node count. Clones share the counters.
///
/// Calls of methods that no service of Fabric has are not counted: their names are the client's.
#[derive(Debug, Clone)]
pub struct CallMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    opened: Counter,
    closed: Counter,
    unary: Kind,
    stream: Kind,
    messages_received: Counters,
    messages_sent: Counters,
}

/// Unary calls, or those with streams.
#[derive(Debug)]
struct Kind {
    received: Counters,
    completed: Counters,
    duration: Durations,
}

impl Kind {
    fn new(metrics: &Metrics, kind: &str) -> Self {
        let name = |what: &str| format!("grpc_server_{kind}_{what}");
        Self {
            received: metrics.counters(
                &name("requests_received"),
                &format!("How many {kind} calls began."),
                METHOD,
            ),
            completed: metrics.counters(
                &name("requests_completed"),
                &format!("How many {kind} calls ended."),
                ENDED,
            ),
            duration: metrics.durations(
                &name("request_duration"),
                &format!("How long {kind} calls took, in seconds."),
                ENDED,
            ),
        }
    }
}

impl CallMetrics {
    /// Registers the counters.
    pub fn new(metrics: &Metrics) -> Self {
        let connections = |name: &str, help: &str| {
            let name = format!("grpc_comm_conn_{name}");
            metrics.counters(&name, help, &[]).with(&[])
        };
        Self(Arc::new(Families {
            opened: connections(
                "opened",
                "How many gRPC connections were opened; less those closed, how many there are.",
            ),
            closed: connections("closed", "How many gRPC connections were closed."),
            unary: Kind::new(metrics, "unary"),
            stream: Kind::new(metrics, "stream"),
            messages_received: metrics.counters(
                "grpc_server_stream_messages_received",
                "How many messages came in on streams.",
                METHOD,
            ),
            messages_sent: metrics.counters(
                "grpc_server_stream_messages_sent",
                "How many messages went out on streams.",
                METHOD,
            ),
        }))
    }

    /// A connection is open until what this returns is dropped.
    pub(super) fn connection(&self) -> impl Drop + use<> {
        self.0.opened.inc();
        Open(self.0.closed.clone())
    }

    /// A call begins, if this is one.
    pub(super) fn begin(&self, request: Request) -> (Request, Option<Call>) {
        let Some(method) = BY_PATH.get(request.uri().path()).copied() else {
            return (request, None);
        };
        let call = Call {
            families: self.0.clone(),
            method,
            begun: Instant::now(),
            code: None,
        };
        let labels = call.labels();
        call.kind().received.with(&labels).inc();
        if !method.3 {
            return (request, Some(call));
        }
        let counter = self.0.messages_received.with(&labels);
        let request = request.map(|body| {
            Body::new(Receiving {
                body,
                messages: Messages::new(counter),
            })
        });
        (request, Some(call))
    }
}

struct Open(Counter);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inc();
    }
}

/// A call that is being answered. It ends when it is dropped.
pub(super) struct Call {
    families: Arc<Families>,
    method: &'static Row,
    begun: Instant,
    /// How it ended, once that is said.
    code: Option<Code>,
}

impl Call {
    fn labels(&self) -> [&'static str; 2] {
        [self.method.1, self.method.2]
    }

    fn kind(&self) -> &Kind {
        match self.method.3 {
            true => &self.families.stream,
            false => &self.families.unary,
        }
    }

    /// The call goes on until its answer is sent or given up.
    pub(super) fn until_sent(mut self, response: Response) -> Response {
        // An answer without messages may say how it ended in its head.
        self.note(response.headers());
        let messages = self.method.3.then(|| {
            let sent = &self.families.messages_sent;
            Messages::new(sent.with(&self.labels()))
        });
        response.map(|body| {
            Body::new(Sending {
                body,
                messages,
                call: self,
            })
        })
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.code = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = code_name(self.code.unwrap_or(Code::Cancelled));
        let [service, method] = self.labels();
        let labels = [service, method, code.as_str()];
        self.kind().completed.with(&labels).inc();
        self.kind()
            .duration
            .with(&labels)
            .observe(self.begun.elapsed());
    }
}

/// As Go names codes.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Counts the messages in the bytes of a stream: each has its length in front.
struct Messages {
    counter: Counter,
    head: Vec<u8>,
    left: u64,
}

/// One byte that says whether it is compressed, and four of length.
const HEAD: usize = 5;

impl Messages {
    fn new(counter: Counter) -> Self {
        Self {
            counter,
            head: Vec::with_capacity(HEAD),
            left: 0,
        }
    }

    fn passed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.head.len() < HEAD {
                let taken = bytes.len().min(HEAD - self.head.len());
                self.head.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                let [_, length @ ..] = self.head.as_slice() else {
                    continue;
                };
                let Ok(length) = <[u8; 4]>::try_from(length) else {
                    continue;
                };
                self.left = u32::from_be_bytes(length).into();
            } else {
                let taken = self.left.min(bytes.len() as u64);
                self.left -= taken;
                bytes = &bytes[taken as usize..];
            }
            if self.left == 0 {
                self.counter.inc();
                self.head.clear();
            }
        }
    }

    fn frame(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.passed(data);
        }
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

struct Receiving {
    body: Body,
    messages: Messages,
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.messages.frame(frame);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Sending {
    body: Body,
    messages: Option<Messages>,
    call: Call,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(messages) = &mut self.messages {
                messages.frame(frame);
            }
            if let Some(trailers) = frame.trailers_ref() {
                self.call.note(trailers);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        // Three messages: of three bytes, of none, and of 300.
        let mut stream = vec![0, 0, 0, 0, 3, 7, 7, 7];
        stream.extend([0, 0, 0, 0, 0]);
        stream.extend([1, 0, 0, 1, 44]);
        stream.extend([9; 300]);
        for size in [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 100, 1000] {
            let metrics = Metrics::default();
            let counter = metrics.counters("messages", "Messages.", &[]).with(&[]);
            let mut messages = Messages::new(counter);
            let (all, most) = (stream.len(), stream.len() - 1);
            for piece in stream[..most].chunks(size) {
                messages.passed(piece);
            }
            assert!(metrics.text().contains("\nmessages 2\n"), "{size}");
            messages.passed(&stream[most..all]);
            assert!(metrics.text().contains("\nmessages 3\n"), "{size}");
        }
    }

    #[test]
    fn methods_are_those_of_fabrics_services() {
        let check = |path: &str, service: &str, method: &str, streams: bool| {
            let row = BY_PATH.get(path).copied().copied();
            assert_eq!(
                row.map(|r| (r.1, r.2, r.3)),
                Some((service, method, streams))
            );
        };
        let broadcast = "/orderer.AtomicBroadcast/Broadcast";
        check(broadcast, "orderer_AtomicBroadcast", "Broadcast", true);
        let propose = "/protos.Endorser/ProcessProposal";
        check(propose, "protos_Endorser", "ProcessProposal", false);
        let events = "/gateway.Gateway/ChaincodeEvents";
        check(events, "gateway_Gateway", "ChaincodeEvents", true);
        let health = "/grpc.health.v1.Health/Check";
        check(health, "grpc_health_v1_Health", "Check", false);
        assert!(!BY_PATH.contains_key("/made.Up/ByClient"));
        assert_eq!(code_name(Code::Ok), "OK");
        assert_eq!(code_name(Code::Cancelled), "Canceled");
        assert_eq!(code_name(Code::ResourceExhausted), "ResourceExhausted");
    }
}
