//! What a handler may know about the connection its call came over.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Extensions;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// The connection of a call. The server puts it into the extensions of each request.
#[derive(Debug, Clone)]
pub struct Connection {
    remote: SocketAddr,
    tls: Option<Arc<TlsPeer>>,
}

impl Connection {
    pub(crate) fn new(remote: SocketAddr, tls: Option<TlsPeer>) -> Self {
        Self {
            remote,
            tls: tls.map(Arc::new),
        }
    }

    /// The connection in a request's extensions; absent only where no server of this crate carried
    /// the request.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The other side's address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The TLS session; absent on plain connections.
    pub fn tls(&self) -> Option<&TlsPeer> {
        self.tls.as_deref()
    }

    /// The client's certificate in DER form, where it presented one.
    pub fn certificate(&self) -> Option<&Bytes> {
        self.tls.as_ref()?.certificate.as_ref()
    }

    /// SHA-256 of the client's certificate, where it presented one.
    pub fn certificate_hash(&self) -> Option<&[u8; 32]> {
        self.tls.as_ref()?.certificate_hash.as_ref()
    }
}

/// The other end of a TLS session: a server's client, or the server that a client has dialled.
pub struct TlsPeer {
    certificate: Option<Bytes>,
    certificate_hash: Option<[u8; 32]>,
    // Weak, because requests may outlive the connection and must not keep its socket open.
    session: Weak<Mutex<TlsStream<TcpStream>>>,
}

impl TlsPeer {
    /// The other side's certificate in DER form, where it presented one.
    pub fn certificate(&self) -> Option<&Bytes> {
        self.certificate.as_ref()
    }

    /// Keying material as of RFC 5705, 32 bytes, which both ends of this session and nobody else
    /// can compute. `None` when the connection is gone.
    pub fn export_keying_material(&self, label: &[u8], context: &[u8]) -> Option<[u8; 32]> {
        let stream = self.session.upgrade()?;
        let stream = stream.lock();
        let material = match &*stream {
            TlsStream::Client(stream) => {
                let (_, session) = stream.get_ref();
                session.export_keying_material([0; 32], label, Some(context))
            }
            TlsStream::Server(stream) => {
                let (_, session) = stream.get_ref();
                session.export_keying_material([0; 32], label, Some(context))
            }
        };
        material.ok()
    }
}

impl fmt::Debug for TlsPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPeer")
            .field("certificate", &self.certificate.is_some())
            .finish_non_exhaustive()
    }
}

/// An open stream, in clear or in TLS.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Arc<Mutex<TlsStream<TcpStream>>>),
}

impl Stream {
    /// Splits a finished handshake into the stream and what handlers may know about it.
    pub(crate) fn tls(stream: impl Into<TlsStream<TcpStream>>) -> (Self, TlsPeer) {
        let stream = stream.into();
        let (_, session) = stream.get_ref();
        let certificate = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| Bytes::copy_from_slice(leaf));
        let shared = Arc::new(Mutex::new(stream));
        let peer = TlsPeer {
            certificate_hash: certificate.as_deref().map(selvage_crypto::sha256),
            certificate,
            session: Arc::downgrade(&shared),
        };
        (Self::Tls(shared), peer)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_shutdown(cx),
        }
    }
}
