//! Client connections: lazily opened, reopened after failures, in TLS or in clear.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Uri};
use tower::service_fn;

use crate::server::client_handshake;
use crate::tls::ClientTls;
use crate::{NetError, TlsError};

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
    Ok(
        builder.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move { dial.open().await }
        })),
    )
}

#[derive(Clone)]
struct Dial {
    host: String,
    port: u16,
    tls: Option<ClientTls>,
    timeout: Duration,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Dial {
    async fn open(self) -> Result<TokioIo<Box<dyn Io>>, std::io::Error> {
        let Self { timeout, .. } = self;
        let target = format!("{}:{}", self.host, self.port);
        match tokio::time::timeout(timeout, self.open_slowly()).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("{target} did not answer within {timeout:?}"),
            )),
        }
    }

    async fn open_slowly(self) -> Result<TokioIo<Box<dyn Io>>, std::io::Error> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Io> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let secured = client_handshake(tls, &self.host, stream).await;
                Box::new(secured.map_err(|error| match error {
                    TlsError::Handshake(source) => source,
                    other => std::io::Error::other(other),
                })?)
            }
        };
        Ok(TokioIo::new(stream))
    }
}
