//! What can go wrong between nodes.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// TLS material that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A text that should hold certificates does not.
    #[error("cannot read certificates from {origin}: {reason}")]
    Pem {
        /// Where the text came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A private key is missing, unreadable, or not the certificate's.
    #[error("cannot use the TLS private key of {origin}: {reason}")]
    Key {
        /// Where certificate and key came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A client without a single root trusts nobody.
    #[error("no usable TLS root certificate was given")]
    NoRoots,
    /// Not a host name and not an address.
    #[error("{0:?} is neither a host name nor an address")]
    ServerName(String),
    /// The TLS library refused the settings.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The handshake failed.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
}

/// A server or a connection that cannot come about.
#[derive(Debug, Error)]
pub enum NetError {
    /// An address or endpoint that is not `host:port`.
    #[error("{0:?} is not an address of the form host:port")]
    Address(String),
    /// The listening socket could not be had.
    #[error("cannot listen on {address}{}", listen_hint(source))]
    Bind {
        /// The wanted address.
        address: String,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// The system took a listening socket back.
    #[error("the listener on {address} failed")]
    Accept {
        /// The listener.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No connection could be opened.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS material is unusable.
    #[error("TLS settings are unusable")]
    Tls(#[from] TlsError),
}

fn listen_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process uses this port; stop it or configure another port"
        }
        io::ErrorKind::PermissionDenied => {
            ": this user may not open the port; choose one above 1023"
        }
        io::ErrorKind::AddrNotAvailable => {
            ": this machine does not have the address; use one of its own or 0.0.0.0"
        }
        _ => "",
    }
}

/// What a failed call says, with the causes that a status hides, and a remedy where TLS is at fault.
pub fn describe_status(status: &tonic::Status) -> String {
    describe(status.message().to_owned(), status)
}

/// Why no connection came about, with all causes, and a remedy where TLS is at fault.
pub fn describe_connect(error: &NetError) -> String {
    describe(error.to_string(), error)
}

fn describe(mut text: String, error: &dyn std::error::Error) -> String {
    let mut cause = error.source();
    while let Some(error) = cause {
        let shown = error.to_string();
        if !text.contains(&shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        cause = error.source();
    }
    if text.contains("UnknownIssuer") {
        text.push_str(
            " (the server's certificate was not issued by one of the given TLS roots: use the \
             roots of the server's organisation)",
        );
    } else if text.contains("not valid for name") || text.contains("NotValidForName") {
        text.push_str(
            " (the server's certificate is for another host: dial that one, or override its name)",
        );
    } else if text.contains("certificate expired") || text.contains("Expired") {
        text.push_str(" (renew the server's certificate, or set this machine's clock)");
    } else if text.contains("Connection refused") {
        text.push_str(
            " (nothing listens at this address: see whether the node runs and what its log says, or \
             correct the address)",
        );
    }
    text
}
