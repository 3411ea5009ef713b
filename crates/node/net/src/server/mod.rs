//! The server every node listens with: one accept loop for gRPC and for plain HTTP, in TLS or in
//! clear.
//!
//! tonic's own server cannot exchange its client roots while it runs and does not hand the TLS
//! session to handlers; Fabric's protocols need both. Everything that arrives is an
//! [`axum::Router`]: `tonic::service::Routes::into_axum_router` makes one of gRPC services.

mod calls;
mod failures;
mod idle;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpConnectInfo;
use tower::ServiceExt;

use crate::connection::{Connection, Stream};
use crate::tls::{ALPN_H2, ALPN_HTTP11, ServerTls};
use crate::{NetError, TlsError};
pub use calls::CallMetrics;
use failures::HandshakeFailures;
use idle::Requests;

/// Longest head of an HTTP/1.1 request.
const HEAD: usize = 64 << 10;
/// Connections that are told at once that there are too many; further ones are closed unheard.
const REFUSALS: usize = 32;

/// Which protocols a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 only, as gRPC needs.
    Grpc,
    /// HTTP/1.1 and HTTP/2, for operations, administration and consoles.
    Http,
}

/// Limits and timers of one server. The defaults are those of Fabric nodes.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Which protocols to speak.
    pub protocol: Protocol,
    /// TLS settings; none serves in clear.
    pub tls: Option<ServerTls>,
    /// Connections served at once. Further ones wait in the listen queue for gRPC; over HTTP they
    /// are answered 503.
    pub max_connections: usize,
    /// Calls in flight on one connection.
    pub max_streams: u32,
    /// How long a client may take to finish the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a connection may be without a request, from its first byte on; none for ever.
    pub idle_timeout: Option<Duration>,
    /// How often the server pings a silent client.
    pub keepalive_interval: Duration,
    /// How long a pinged client may stay silent before its connection is closed.
    pub keepalive_timeout: Duration,
    /// How long calls may go on after shutdown was asked for.
    pub drain: Duration,
    /// Where connections and gRPC calls are counted.
    pub metrics: Option<CallMetrics>,
}

impl ServerOptions {
    /// Defaults for gRPC: pings every two hours, twenty seconds to answer.
    pub fn grpc(tls: Option<ServerTls>) -> Self {
        Self {
            protocol: Protocol::Grpc,
            tls,
            max_connections: 10_000,
            max_streams: 10_000,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: None,
            keepalive_interval: Duration::from_secs(7200),
            keepalive_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(3),
            metrics: None,
        }
    }

    /// Defaults for plain HTTP endpoints.
    pub fn http(tls: Option<ServerTls>) -> Self {
        Self {
            protocol: Protocol::Http,
            max_connections: 1_000,
            max_streams: 200,
            idle_timeout: Some(Duration::from_secs(60)),
            ..Self::grpc(tls)
        }
    }
}

/// A server that has its port and does not yet accept anyone.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    options: ServerOptions,
}

impl Server {
    /// Takes the port. `address` is `host:port`; port 0 lets the system choose, and
    /// [`Server::local_addr`] tells what it chose.
    pub async fn bind(address: &str, options: ServerOptions) -> Result<Self, NetError> {
        let protocols: &[&[u8]] = match options.protocol {
            Protocol::Grpc => &[ALPN_H2],
            Protocol::Http => &[ALPN_H2, ALPN_HTTP11],
        };
        let acceptor = match &options.tls {
            Some(tls) => Some(TlsAcceptor::from(Arc::new(tls.rustls_config(protocols)?))),
            None => None,
        };
        let bind_error = |source| NetError::Bind {
            address: address.to_owned(),
            source,
        };
        let wanted = listen_address(address);
        let listener = TcpListener::bind(&wanted).await.map_err(bind_error)?;
        let local = listener.local_addr().map_err(bind_error)?;
        Ok(Self {
            listener,
            address: local,
            acceptor,
            options,
        })
    }

    /// The address the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `shutdown` is cancelled, then stops accepting, lets calls finish for
    /// the configured time, and returns.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) -> Result<(), NetError> {
        let router = router.with_state(());
        let shared = Arc::new(Shared {
            acceptor: self.acceptor,
            options: self.options,
            local: self.address,
            failures: HandshakeFailures::default(),
            shutdown: shutdown.clone(),
            abort: CancellationToken::new(),
        });
        let permits = Arc::new(Semaphore::new(shared.options.max_connections));
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accept(&self.listener, &permits, shared.options.protocol) => accepted,
            };
            let (stream, remote, permit) = accepted;
            let shared = shared.clone();
            if let Some(permit) = permit {
                let router = router.clone();
                connections.spawn(async move {
                    serve_connection(&shared, router, stream, remote).await;
                    drop(permit);
                });
            } else if let Ok(permit) = refusals.clone().try_acquire_owned() {
                connections.spawn(async move {
                    let router = full(shared.options.max_connections);
                    let refusing = serve_connection(&shared, router, stream, remote);
                    let _ = tokio::time::timeout(shared.options.handshake_timeout, refusing).await;
                    drop(permit);
                });
            }
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(shared.options.drain, connections.wait())
            .await
            .is_err()
        {
            shared.abort.cancel();
            connections.wait().await;
        }
        Ok(())
    }
}

/// Fabric's configuration writes `:7050` for every address of the machine.
fn listen_address(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    }
}

/// What a connection too many gets.
fn full(most: usize) -> Router {
    Router::new().fallback(move |request: Request| async move {
        let text = format!("{most} connections are open and no more are served; try again later\n");
        let mut response = (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        // HTTP/2 has no such header.
        if request.version() <= Version::HTTP_11 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    })
}

struct Shared {
    acceptor: Option<TlsAcceptor>,
    options: ServerOptions,
    local: SocketAddr,
    failures: HandshakeFailures,
    shutdown: CancellationToken,
    abort: CancellationToken,
}

/// The next connection, and its place among those that are served: gRPC waits for one, HTTP does
/// without when there is none.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    protocol: Protocol,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    loop {
        // The semaphore is never closed.
        let waited = match protocol {
            Protocol::Grpc => permits.clone().acquire_owned().await.ok(),
            Protocol::Http => None,
        };
        match listener.accept().await {
            Ok((stream, remote)) => {
                let permit = waited.or_else(|| permits.clone().try_acquire_owned().ok());
                return (stream, remote, permit);
            }
            Err(error) => {
                // Out of descriptors or an aborted connection: neither ends the listener.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(shared: &Shared, router: Router, stream: TcpStream, remote: SocketAddr) {
    // Small messages must not wait for the other side's acknowledgement.
    let _ = stream.set_nodelay(true);
    let (stream, tls) = match &shared.acceptor {
        None => (Stream::Plain(stream), None),
        Some(acceptor) => match handshake(shared, acceptor, stream).await {
            Ok((stream, tls)) => {
                shared.failures.succeeded(remote.ip());
                (stream, Some(tls))
            }
            Err(reason) => {
                shared.failures.failed(remote, &reason);
                return;
            }
        },
    };
    let metrics = shared.options.metrics.clone();
    let _open = metrics.as_ref().map(CallMetrics::connection);
    let connection = Connection::new(remote, tls);
    let connect_info = TcpConnectInfo {
        local_addr: Some(shared.local),
        remote_addr: Some(remote),
    };
    let requests = shared.options.idle_timeout.map(|_| Requests::none());
    let counted = requests.clone();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        request.extensions_mut().insert(connect_info.clone());
        let running = counted.as_ref().map(Requests::begin);
        let call = request.uri().clone();
        let answer = answer(router.clone(), request.map(Body::new), metrics.as_ref());
        async move {
            let mut response = answer.await?;
            if let Some(refusal) = crate::advice::advise(response.headers_mut()) {
                tracing::debug!(%remote, call = call.path(), "refused a call: {refusal}");
            }
            Ok::<_, Infallible>(match running {
                Some(running) => running.until_sent(response),
                None => response,
            })
        }
    });
    let builder = http_builder(&shared.options);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let idle = async |limit: Option<Duration>| match (&requests, limit) {
        (Some(requests), Some(limit)) => requests.idle(limit).await,
        _ => std::future::pending().await,
    };
    tokio::select! {
        () = shared.shutdown.cancelled() => {}
        () = idle(shared.options.idle_timeout) => {}
        ended = serving.as_mut() => return note_end(remote, ended),
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        () = shared.abort.cancelled() => {}
        // Who was idle and does not take the farewell either.
        () = idle(Some(shared.options.drain)) => {}
        ended = serving => note_end(remote, ended),
    }
}

/// The router's answer, counted.
fn answer(
    router: Router,
    request: Request,
    metrics: Option<&CallMetrics>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    let (request, call) = match metrics {
        Some(metrics) => metrics.begin(request),
        None => (request, None),
    };
    let answer = router.oneshot(request);
    async move {
        let response = answer.await?;
        Ok(match call {
            Some(call) => call.until_sent(response),
            None => response,
        })
    }
}

fn note_end(remote: SocketAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "connection ended");
    }
}

async fn handshake(
    shared: &Shared,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Result<(Stream, crate::connection::TlsPeer), String> {
    let accepted = acceptor.accept(stream);
    match tokio::time::timeout(shared.options.handshake_timeout, accepted).await {
        Ok(Ok(stream)) => Ok(Stream::tls(stream)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "the client did not finish within {:?}",
            shared.options.handshake_timeout
        )),
    }
}

fn http_builder(options: &ServerOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if options.protocol == Protocol::Grpc {
        builder = builder.http2_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_buf_size(HEAD);
    // Client pings are answered however often they come, calls in flight or not: SDKs of BCS ping
    // every five minutes without calls. Nothing here ever answers "too many pings".
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .max_concurrent_streams(options.max_streams)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(64 << 10)
        .max_send_buf_size(1 << 20);
    builder
}

/// Runs a TLS handshake as a client over an open connection.
pub(crate) async fn client_handshake(
    tls: &crate::tls::ClientTls,
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, TlsError> {
    let name = crate::tls::server_name(tls.server_name_override().unwrap_or(host))?;
    tokio_rustls::TlsConnector::from(tls.rustls_config())
        .connect(name, stream)
        .await
        .map_err(TlsError::Handshake)
}
