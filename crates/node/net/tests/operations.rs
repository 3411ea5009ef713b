//! The operations endpoint over TLS: who may see what.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_env::{Clock, System};
use selvage_net::CancellationToken;
use selvage_net::logging::Levels;
use selvage_net::metrics::Metrics;
use selvage_net::ops::{Operations, Version};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::tls::{CertificateDer, ClientAuth, ClientRoots, ServerTls, TlsIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn authority(name: &str) -> Authority {
    let validity = Validity::ten_years(System.unix_seconds());
    Authority::new_root(&Subject::in_san_francisco(name), validity).unwrap()
}

fn der(ca: &Authority) -> CertificateDer<'static> {
    CertificateDer::from(ca.certificate().der().to_vec())
}

fn leaf(ca: &Authority) -> (Vec<u8>, Vec<u8>, String, String) {
    let validity = Validity::ten_years(System.unix_seconds());
    let profile = LeafProfile::tls("localhost", &["localhost"], validity);
    let (certificate, key) = ca.issue_new(&profile).unwrap();
    (
        certificate.der().to_vec(),
        key.to_pkcs8_der().unwrap().to_vec(),
        certificate.to_pem(),
        key.to_pkcs8_pem().unwrap().to_string(),
    )
}

/// The status code of one request; `None` when the handshake fails.
async fn get(
    port: u16,
    server_ca: &Authority,
    client_ca: Option<&Authority>,
    path: &str,
) -> Option<u16> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(server_ca)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let (certificate, key, _, _) = leaf(ca);
            let chain = vec![CertificateDer::from(certificate)];
            let key = PrivateKeyDer::Pkcs8(key.into());
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, socket).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A server that refuses the certificate says so with the first read.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    answer.split(' ').nth(1)?.parse().ok()
}

async fn check(auth: fn(Arc<ClientRoots>) -> ClientAuth, expected: [[Option<u16>; 3]; 3]) {
    let (server_ca, known, unknown) = (authority("server"), authority("known"), authority("x"));
    let (_, _, certificate, key) = leaf(&server_ca);
    let identity = TlsIdentity::from_pem("test", certificate.as_bytes(), key.as_bytes()).unwrap();
    let tls = ServerTls::new(identity, auth(ClientRoots::new([der(&known)])));
    let operations = Operations::new(
        Levels::new("").unwrap(),
        Some(Metrics::default()),
        Arc::new(System),
        Version {
            commit_sha: String::new(),
            version: "1".to_owned(),
        },
        true,
    );
    let server = Server::bind("127.0.0.1:0", ServerOptions::http(Some(tls)))
        .await
        .unwrap();
    let port = server.local_addr().port();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(operations.router(), shutdown.clone()));
    for (row, client) in [None, Some(&known), Some(&unknown)].into_iter().enumerate() {
        for (column, path) in ["/healthz", "/metrics", "/logspec"].into_iter().enumerate() {
            let got = get(port, &server_ca, client, path).await;
            assert_eq!(got, expected[row][column], "client {row}, {path}");
        }
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_demanding_certificates() {
    let anonymous = [Some(200), Some(401), Some(401)];
    check(ClientAuth::Optional, [anonymous, [Some(200); 3], [None; 3]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn demanding_certificates() {
    check(ClientAuth::Require, [[None; 3], [Some(200); 3], [None; 3]]).await;
}
