//! Client connections: lazily opened, reopened after failures, in TLS or in clear.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::{Channel, Uri};
use tower::service_fn;

use crate::connection::Stream;
use crate::server::client_handshake;
use crate::tls::ClientTls;
use crate::{NetError, TlsError, TlsPeer};

/// A server to call, and how.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// TLS settings; none connects in clear.
    pub tls: Option<ClientTls>,
    /// How long opening a connection may take, handshake included.
    pub connect_timeout: Duration,
    /// How long a call may take; none leaves it to each call. Streams must not have one.
    pub call_timeout: Option<Duration>,
    /// How often an idle connection is pinged.
    pub keepalive_interval: Duration,
    /// How long the server may take to answer a ping.
    pub keepalive_timeout: Duration,
}

impl Endpoint {
    /// An endpoint with Fabric's client timers: a ping each minute, twenty seconds to answer, three
    /// seconds to connect. `address` is `host:port`; `grpc://` and `grpcs://` in front are taken
    /// off, as connection profiles write them.
    pub fn new(address: impl AsRef<str>, tls: Option<ClientTls>) -> Self {
        let address = address.as_ref();
        let bare = address
            .strip_prefix("grpcs://")
            .or_else(|| address.strip_prefix("grpc://"))
            .unwrap_or(address);
        Self {
            address: bare.to_owned(),
            tls,
            connect_timeout: Duration::from_secs(3),
            call_timeout: None,
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// A channel to `endpoint`. Nothing is dialled yet: the first call connects, and each call after a
/// broken connection connects again. Only an address that cannot be one is an error.
///
/// Messages may be large, but each stub decides how large:
/// `.max_decoding_message_size(MAX_MESSAGE_BYTES)`.
pub fn connect(endpoint: &Endpoint) -> Result<Channel, NetError> {
    let (builder, dial) = prepare(endpoint)?;
    Ok(
        builder.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(dial.open().await?.0)) }
        })),
    )
}

/// One open connection. Calls on its channel fail once it is broken; it is not opened again.
#[derive(Debug, Clone)]
pub struct Dialled {
    /// Where to make calls.
    pub channel: Channel,
    /// The TLS session that all calls on the channel share; absent in clear.
    pub tls: Option<Arc<TlsPeer>>,
    closed: CancellationToken,
}

impl Dialled {
    /// Breaks the connection off, with all calls on it, whatever the server does. Without this it
    /// lives as long as calls do, and a server that reads nothing can keep a call for ever.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

/// Opens one connection to `endpoint`, for callers that need to know when they are connected, over
/// which TLS session, and decide themselves when to try again.
pub async fn dial(endpoint: &Endpoint) -> Result<Dialled, NetError> {
    let (builder, dial) = prepare(endpoint)?;
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| NetError::Connect {
        address: endpoint.address.clone(),
        source,
    };
    let (stream, tls) = dial.open().await.map_err(|error| failed(error.into()))?;
    let closed = CancellationToken::new();
    let stream = Mutex::new(Some(Closable {
        stream,
        closed: Box::pin(closed.clone().cancelled_owned()),
    }));
    let once = service_fn(move |_: Uri| {
        let stream = stream.lock().take();
        let over = || io::Error::new(io::ErrorKind::NotConnected, "the connection is closed");
        std::future::ready(stream.map(TokioIo::new).ok_or_else(over))
    });
    let channel = builder.connect_with_connector(once).await;
    Ok(Dialled {
        channel: channel.map_err(|error| failed(error.into()))?,
        tls: tls.map(Arc::new),
        closed,
    })
}

/// A stream that can be broken off from outside.
struct Closable {
    stream: Stream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for Closable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always reads, so this is where the news arrives.
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Closable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn prepare(endpoint: &Endpoint) -> Result<(tonic::transport::Endpoint, Dial), NetError> {
    let bad_address = || NetError::Address(endpoint.address.clone());
    let uri = Uri::from_str(&format!("http://{}", endpoint.address)).map_err(|_| bad_address())?;
    let host = uri
        .host()
        .filter(|h| !h.is_empty())
        .ok_or_else(bad_address)?;
    let port = uri.port_u16().ok_or_else(bad_address)?;
    if uri.path() != "/" || uri.query().is_some() {
        return Err(bad_address());
    }
    let authority = match endpoint.tls.as_ref().and_then(|t| t.server_name_override()) {
        Some(name) => format!("{name}:{port}"),
        None => format!("{host}:{port}"),
    };
    let scheme = if endpoint.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let origin = Uri::from_str(&format!("{scheme}://{authority}")).map_err(|_| bad_address())?;

    let mut builder = Channel::builder(uri.clone())
        .origin(origin)
        .connect_timeout(endpoint.connect_timeout)
        .http2_keep_alive_interval(endpoint.keepalive_interval)
        .keep_alive_timeout(endpoint.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    if let Some(limit) = endpoint.call_timeout {
        builder = builder.timeout(limit);
    }
    let dial = Dial {
        host: host.to_owned(),
        port,
        tls: endpoint.tls.clone(),
        timeout: endpoint.connect_timeout,
    };
    Ok((builder, dial))
}

#[derive(Clone)]
struct Dial {
    host: String,
    port: u16,
    tls: Option<ClientTls>,
    timeout: Duration,
}

impl Dial {
    async fn open(self) -> Result<(Stream, Option<TlsPeer>), io::Error> {
        let Self { timeout, .. } = self;
        let target = format!("{}:{}", self.host, self.port);
        match tokio::time::timeout(timeout, self.open_slowly()).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{target} did not answer within {timeout:?}"),
            )),
        }
    }

    async fn open_slowly(self) -> Result<(Stream, Option<TlsPeer>), io::Error> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok((Stream::Plain(stream), None));
        };
        let secured = client_handshake(tls, &self.host, stream).await;
        let secured = secured.map_err(|error| match error {
            TlsError::Handshake(source) => source,
            other => io::Error::other(other),
        })?;
        let (stream, peer) = Stream::tls(secured);
        Ok((stream, Some(peer)))
    }
}
