//! Where console and API listen.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use selvage_crypto::in_full;
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::tls::{ClientAuth, ServerTls, TlsIdentity};
use selvage_net::{CancellationToken, NetError};

use crate::clock;
use crate::error::ManagerError;
use crate::files::{read_limited, write_private, write_public};
use crate::http;
use crate::service::Manager;

/// Largest certificate or key file.
const MOST: u64 = 64 * 1024;
/// Connections served at once: each may hold the head and the body of who has not shown yet who
/// they are.
const CONNECTIONS: usize = 256;
/// Requests at once on one of them.
const STREAMS: u32 = 32;

/// A port that is taken and does not answer yet.
pub struct Portal {
    server: Server,
    scheme: &'static str,
}

impl Portal {
    /// Takes the address. In clear only on the loopback interface; `tls` makes a certificate of
    /// its own in the data folder at first use.
    pub async fn bind(data: &Path, address: &str, tls: bool) -> Result<Self, ManagerError> {
        let parsed = Self::check(address, tls)?;
        let tls = if tls {
            Some(server_tls(data, parsed.ip())?)
        } else {
            None
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let options = ServerOptions {
            max_connections: CONNECTIONS,
            max_streams: STREAMS,
            ..ServerOptions::http(tls)
        };
        let server = Server::bind(address, options)
            .await
            .map_err(|e| ManagerError::Listen {
                address: address.to_owned(),
                reason: in_full(&e),
            })?;
        Ok(Self { server, scheme })
    }

    /// Whether a console may listen there, without trying.
    pub fn check(address: &str, tls: bool) -> Result<SocketAddr, ManagerError> {
        let parsed: SocketAddr = address.parse().map_err(|_| {
            ManagerError::Option(format!("{address} is no address; --listen takes host:port"))
        })?;
        if !tls && !parsed.ip().is_loopback() {
            return Err(ManagerError::Option(format!(
                "{address} can be reached by others, so the console needs TLS there; add --tls"
            )));
        }
        Ok(parsed)
    }

    /// Whether the address is free now: for refusals that come before anything is written.
    pub fn probe(address: SocketAddr) -> Result<(), ManagerError> {
        let tried = std::net::TcpListener::bind(address);
        tried.map(drop).map_err(|source| {
            let address = address.to_string();
            ManagerError::Listen {
                reason: in_full(&NetError::Bind {
                    address: address.clone(),
                    source,
                }),
                address,
            }
        })
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.server.local_addr())
    }

    /// The address it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Answers until told to stop.
    pub async fn serve(
        self,
        manager: Manager,
        stop: CancellationToken,
    ) -> Result<(), ManagerError> {
        let address = self.address().to_string();
        self.server
            .serve(http::router(manager), stop)
            .await
            .map_err(|e| ManagerError::Listen {
                address,
                reason: in_full(&e),
            })
    }
}

/// The console's own certificate, made once.
fn server_tls(data: &Path, host: IpAddr) -> Result<ServerTls, ManagerError> {
    let folder = data.join("console");
    let (cert, key) = (folder.join("server.crt"), folder.join("server.key"));
    if !cert.exists() {
        let fail = |source| ManagerError::Keys {
            doing: "make the console's certificate",
            source,
        };
        let validity = Validity::ten_years(clock::now_s());
        let root =
            Authority::new_root(&Subject::named("Selvage console"), validity).map_err(fail)?;
        let host = host.to_string();
        let hosts = [host.as_str(), "localhost", "127.0.0.1"];
        let profile = LeafProfile::tls("console", &hosts, validity);
        let (made, made_key) = root.issue_new(&profile).map_err(fail)?;
        write_public(
            &folder.join("ca.crt"),
            root.certificate().to_pem().as_bytes(),
        )?;
        write_private(&key, made_key.to_pkcs8_pem().map_err(fail)?.as_bytes())?;
        write_public(&cert, made.to_pem().as_bytes())?;
    }
    let origin = cert.display().to_string();
    let identity = TlsIdentity::from_pem(
        &origin,
        &read_limited(&cert, MOST)?,
        &read_limited(&key, MOST)?,
    )
    .map_err(|e| ManagerError::Option(format!("cannot use {origin}: {e}")))?;
    Ok(ServerTls::new(identity, ClientAuth::Request))
}
