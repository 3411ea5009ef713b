//! Servers and clients over real sockets, with certificates as `cryptogen` makes them.

#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};
use selvage_env::{Clock, System};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::chaincode_support_client::ChaincodeSupportClient;
use selvage_net::services::chaincode_support_server::{ChaincodeSupport, ChaincodeSupportServer};
use selvage_net::throttle::Throttled;
use selvage_net::tls::{
    CertificateDer, ClientAuth, ClientRoots, ClientTls, ServerRoots, ServerTls, TlsIdentity,
    public_key,
};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::transport::Channel;
use selvage_net::tonic::{Code, Request, Response, Status, Streaming, async_trait};
use selvage_net::{
    CancellationToken, Connection, Endpoint, MAX_MESSAGE_BYTES, connect, describe_connect,
    describe_status, dial,
};
use selvage_proto::peer::ChaincodeMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends every message back and remembers what it knew about the connections.
#[derive(Clone, Default)]
struct Echo {
    seen: Arc<Mutex<Vec<Connection>>>,
}

#[async_trait]
impl ChaincodeSupport for Echo {
    type RegisterStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn register(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let connection = Connection::of(request.extensions()).unwrap().clone();
        self.seen.lock().push(connection);
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}

struct Ca(Authority);

impl Ca {
    fn new(name: &str) -> Self {
        let validity = Validity::ten_years(System.unix_seconds());
        Self(Authority::new_root(&Subject::in_san_francisco(name), validity).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.0.certificate().der().to_vec())
    }

    fn issue(&self, host: &str) -> TlsIdentity {
        let validity = Validity::ten_years(System.unix_seconds());
        self.issue_valid(host, validity, "")
    }

    /// `above` is what stands between the certificate and the root, in PEM.
    fn issue_valid(&self, host: &str, validity: Validity, above: &str) -> TlsIdentity {
        let profile = LeafProfile::tls(host, &[host], validity);
        let (certificate, key) = self.0.issue_new(&profile).unwrap();
        let chain = certificate.to_pem() + above;
        let key = key.to_pkcs8_pem().unwrap();
        TlsIdentity::from_pem("test", chain.as_bytes(), key.as_bytes()).unwrap()
    }

    fn client(&self, identity: Option<TlsIdentity>) -> ClientTls {
        ClientTls::new([self.der()], identity).unwrap()
    }
}

struct Running {
    port: u16,
    echo: Echo,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(options: ServerOptions) -> Self {
        Self::start_at("127.0.0.1:0", options, 0).await
    }

    async fn start_at(address: &str, options: ServerOptions, limit: usize) -> Self {
        let server = Server::bind(address, options).await.unwrap();
        let echo = Echo::default();
        let service = ChaincodeSupportServer::new(echo.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let router = Routes::new(Throttled::new(service, limit)).into_axum_router();
        let shutdown = CancellationToken::new();
        Self {
            port: server.local_addr().port(),
            echo,
            task: tokio::spawn({
                let shutdown = shutdown.clone();
                async move { server.serve(router, shutdown).await.unwrap() }
            }),
            shutdown,
        }
    }

    fn endpoint(&self, tls: Option<ClientTls>) -> Endpoint {
        Endpoint::new(format!("127.0.0.1:{}", self.port), tls)
    }

    fn channel(&self, tls: Option<ClientTls>) -> Channel {
        connect(&self.endpoint(tls)).unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// Sends one message around.
async fn echo(channel: &Channel, payload: Vec<u8>) -> Result<usize, Status> {
    let message = ChaincodeMessage {
        payload: payload.into(),
        ..Default::default()
    };
    let answers = ChaincodeSupportClient::new(channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(2 * MAX_MESSAGE_BYTES)
        .register(futures::stream::iter([message]))
        .await?;
    let answer = answers.into_inner().message().await?;
    Ok(answer.map_or(0, |m| m.payload.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn in_clear_and_over_a_restart() {
    let server = Running::start(ServerOptions::grpc(None)).await;
    let channel = server.channel(None);
    assert_eq!(echo(&channel, vec![1; 10]).await.unwrap(), 10);
    assert!(server.echo.seen.lock()[0].tls().is_none());
    let address = format!("127.0.0.1:{}", server.port);
    server.stop().await;
    assert!(echo(&channel, vec![1; 10]).await.is_err());
    let server = Running::start_at(&address, ServerOptions::grpc(None), 0).await;
    // The same channel connects again by itself.
    while echo(&channel, vec![1; 10]).await.is_err() {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_asked_for_and_handlers_see_them() {
    let ca = Ca::new("ca");
    let tls = ServerTls::new(ca.issue("127.0.0.1"), ClientAuth::Request);
    let server = Running::start(ServerOptions::grpc(Some(tls))).await;
    // Nobody here knows who issued this one.
    let identity = Ca::new("elsewhere").issue("client");
    let hash = identity.leaf_hash();
    let with = server.channel(Some(ca.client(Some(identity))));
    assert_eq!(echo(&with, vec![0; 5]).await.unwrap(), 5);
    let without = server.channel(Some(ca.client(None)));
    assert_eq!(echo(&without, vec![0; 5]).await.unwrap(), 5);

    let seen = server.echo.seen.lock().clone();
    assert_eq!(seen[0].certificate_hash(), Some(&hash));
    assert_eq!(selvage_crypto::sha256(seen[0].certificate().unwrap()), hash);
    assert!(seen[0].remote().ip().is_loopback());
    assert_eq!(seen[1].certificate(), None);
    let session = seen[0].tls().unwrap();
    let material = session
        .export_keying_material(b"label", b"context")
        .unwrap();
    assert_eq!(
        session.export_keying_material(b"label", b"context"),
        Some(material)
    );
    assert_ne!(
        session.export_keying_material(b"label", b"other"),
        Some(material)
    );
    let other = seen[1]
        .tls()
        .unwrap()
        .export_keying_material(b"label", b"context");
    assert_ne!(other, Some(material));
    drop((with, without));
    server.stop().await;
    assert_eq!(
        seen[0].tls().unwrap().export_keying_material(b"l", b"c"),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn client_roots_change_while_the_server_runs() {
    let (ca, one, two) = (Ca::new("server"), Ca::new("one"), Ca::new("two"));
    let roots = ClientRoots::new([]);
    let tls = ServerTls::new(ca.issue("127.0.0.1"), ClientAuth::Require(roots.clone()));
    assert!(tls.requires_client_certificate());
    let server = Running::start(ServerOptions::grpc(Some(tls))).await;
    let by = |issuer: &Ca| server.channel(Some(ca.client(Some(issuer.issue("client")))));
    let works = async |channel: &Channel| echo(channel, vec![0; 3]).await.is_ok();

    assert!(!works(&by(&one)).await);
    assert_eq!(roots.replace([one.der()]), 1);
    let kept = by(&one);
    assert!(works(&kept).await);
    assert!(!works(&by(&two)).await);
    assert_eq!(
        roots.replace([two.der(), CertificateDer::from(vec![1, 2, 3])]),
        1
    );
    assert!(works(&by(&two)).await);
    assert!(!works(&by(&one)).await);
    assert!(works(&kept).await, "connections that exist stay");
    assert!(!works(&server.channel(Some(ca.client(None)))).await);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_certificates_are_checked_where_they_come() {
    let (ca, known) = (Ca::new("server"), Ca::new("known"));
    let auth = ClientAuth::Optional(ClientRoots::new([known.der()]));
    let tls = ServerTls::new(ca.issue("127.0.0.1"), auth);
    let server = Running::start(ServerOptions::grpc(Some(tls))).await;
    let check = async |identity: Option<TlsIdentity>, works: bool| {
        let channel = server.channel(Some(ca.client(identity)));
        assert_eq!(echo(&channel, vec![]).await.is_ok(), works);
    };
    check(None, true).await;
    check(Some(known.issue("client")), true).await;
    check(Some(Ca::new("unknown").issue("client")), false).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_check_servers() {
    let ca = Ca::new("ca");
    let tls = ServerTls::new(ca.issue("peer0.org1.example.com"), ClientAuth::Request);
    let server = Running::start(ServerOptions::grpc(Some(tls.clone()))).await;
    let check = async |client: ClientTls, works: bool| {
        let channel = server.channel(Some(client));
        let got = echo(&channel, vec![]).await;
        assert_eq!(got.is_ok(), works, "{got:?}");
    };
    let named = |ca: &Ca, name: &str| ca.client(None).with_server_name(name);
    check(named(&ca, "peer0.org1.example.com"), true).await;
    check(named(&ca, "peer1.org1.example.com"), false).await;
    check(ca.client(None), false).await;
    check(named(&Ca::new("other"), "peer0.org1.example.com"), false).await;

    // Certificates are renewed while the server runs.
    let before = tls.leaf_hash();
    tls.set_identity(ca.issue("peer1.org1.example.com"));
    assert_ne!(tls.leaf_hash(), before);
    check(named(&ca, "peer1.org1.example.com"), true).await;
    let past = Validity {
        not_before: 0,
        not_after: System.unix_seconds() - 3600,
    };
    tls.set_identity(ca.issue_valid("peer1.org1.example.com", past, ""));
    check(named(&ca, "peer1.org1.example.com"), false).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_with_intermediates_on_both_sides() {
    let ca = Ca::new("root");
    let validity = Validity::ten_years(System.unix_seconds());
    let subject = Subject::in_san_francisco("intermediate");
    let middle = Ca(ca.0.new_intermediate(&subject, validity, None).unwrap());
    let above = middle.0.certificate().to_pem();
    let identity = || middle.issue_valid("127.0.0.1", validity, &above);
    let auth = ClientAuth::Require(ClientRoots::new([ca.der()]));
    let server = Running::start(ServerOptions::grpc(Some(ServerTls::new(identity(), auth)))).await;
    let channel = server.channel(Some(ca.client(Some(identity()))));
    assert!(echo(&channel, vec![]).await.is_ok());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_ninety_megabytes_and_no_more_than_a_hundred() {
    let ca = Ca::new("ca");
    let tls = ServerTls::new(ca.issue("127.0.0.1"), ClientAuth::Request);
    let server = Running::start(ServerOptions::grpc(Some(tls))).await;
    let channel = server.channel(Some(ca.client(None)));
    assert_eq!(echo(&channel, vec![7; 90 << 20]).await.unwrap(), 90 << 20);
    let error = echo(&channel, vec![7; 101 << 20]).await.unwrap_err();
    assert!(
        matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{error}"
    );
    assert_eq!(echo(&channel, vec![7; 10]).await.unwrap(), 10);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_without_calls_are_welcome() {
    let server = Running::start(ServerOptions::grpc(None)).await;
    let endpoint = Endpoint {
        keepalive_interval: Duration::from_millis(5),
        keepalive_timeout: Duration::from_secs(8),
        ..server.endpoint(None)
    };
    let channel = connect(&endpoint).unwrap();
    echo(&channel, vec![]).await.unwrap();
    // Dozens of pings, where gRPC servers usually give up on a client after two.
    tokio::time::sleep(Duration::from_millis(400)).await;
    echo(&channel, vec![]).await.unwrap();
    let seen = server.echo.seen.lock().clone();
    assert_eq!(
        seen[0].remote(),
        seen[1].remote(),
        "the connection is still the first one"
    );
    drop(channel);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_allowed_are_refused_by_name() {
    let server = Running::start_at("127.0.0.1:0", ServerOptions::grpc(None), 1).await;
    let channel = server.channel(None);
    let mut stub = ChaincodeSupportClient::new(channel.clone());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let requests = futures::stream::once(async move {
        let _ = ended.await;
        ChaincodeMessage::default()
    });
    let held = stub.register(requests).await.unwrap();
    let error = echo(&channel, vec![]).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(
        error.message(),
        "too many requests for /protos.ChaincodeSupport, exceeding concurrency limit (1)"
    );
    drop((held, end));
    while echo(&channel, vec![]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_wait() {
    let options = ServerOptions {
        max_connections: 1,
        ..ServerOptions::grpc(None)
    };
    let server = Running::start(options).await;
    let first = server.channel(None);
    echo(&first, vec![]).await.unwrap();
    let second = tokio::spawn({
        let channel = server.channel(None);
        async move { echo(&channel, vec![1]).await }
    });
    echo(&first, vec![]).await.unwrap();
    assert!(!second.is_finished());
    drop(first);
    assert_eq!(second.await.unwrap().unwrap(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_cannot_shake_hands_are_sent_away() {
    let ca = Ca::new("ca");
    let options = ServerOptions {
        handshake_timeout: Duration::from_millis(50),
        ..ServerOptions::grpc(Some(ServerTls::new(
            ca.issue("127.0.0.1"),
            ClientAuth::Request,
        )))
    };
    let server = Running::start(options).await;
    for words in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff\xff\xff",
    ] {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", server.port))
            .await
            .unwrap();
        socket.write_all(words).await.unwrap();
        let mut rest = Vec::new();
        // The server ends the connection, be it by a reset.
        let _ = socket.read_to_end(&mut rest).await;
    }
    let channel = server.channel(Some(ca.client(None)));
    assert!(echo(&channel, vec![]).await.is_ok());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_idle_clients() {
    let options = ServerOptions {
        drain: Duration::from_secs(3600),
        ..ServerOptions::grpc(None)
    };
    let server = Running::start(options).await;
    let channel = server.channel(None);
    echo(&channel, vec![]).await.unwrap();
    server.stop().await;
    drop(channel);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_calls_that_do_not_end_themselves() {
    let options = ServerOptions {
        drain: Duration::from_millis(50),
        ..ServerOptions::grpc(None)
    };
    let server = Running::start(options).await;
    let mut stub = ChaincodeSupportClient::new(server.channel(None));
    let mut held = stub
        .register(futures::stream::pending())
        .await
        .unwrap()
        .into_inner();
    server.stop().await;
    assert!(!matches!(held.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn unusable_settings_name_the_fault() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Server::bind(&address, ServerOptions::grpc(None))
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("another process uses this port"),
        "{error}"
    );
    for address in [
        "",
        "host",
        "host:port",
        "a b:1",
        "host:1/path",
        "host:70000",
    ] {
        assert!(connect(&Endpoint::new(address, None)).is_err(), "{address}");
    }
    assert!(connect(&Endpoint::new("grpcs://localhost:7051", None)).is_ok());
    assert!(ClientTls::from_pem("ca.pem", b"nothing", None).is_err());
    let error = TlsIdentity::from_pem("server.crt", b"", b"").unwrap_err();
    assert!(error.to_string().contains("server.crt"), "{error}");
    // A key that belongs to another certificate.
    let (one, two) = (Ca::new("one"), Ca::new("two"));
    let certificate = one.0.certificate().to_pem();
    let key = two.0.key().to_pkcs8_pem().unwrap();
    let error = TlsIdentity::from_pem("x", certificate.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("private key"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_described_with_their_cause() {
    let ca = Ca::new("ca");
    let auth = ClientAuth::Require(ClientRoots::new([ca.der()]));
    let tls = ServerTls::new(ca.issue("127.0.0.1"), auth);
    let server = Running::start(ServerOptions::grpc(Some(tls))).await;
    let check = async |channel: Channel, part: &str| {
        let text = describe_status(&echo(&channel, vec![]).await.unwrap_err());
        assert!(text.contains(part), "{text} lacks {part}");
    };
    let nobody = connect(&Endpoint::new("127.0.0.1:1", None)).unwrap();
    check(nobody, "Connection refused").await;
    let other = Ca::new("other").client(None);
    check(
        server.channel(Some(other)),
        "not issued by one of the given TLS roots",
    )
    .await;
    let named = ca.client(None).with_server_name("elsewhere");
    check(server.channel(Some(named)), "override its name").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_dial_servers_by_the_key_they_expect() {
    let ca = Ca::new("ca");
    let identity = ca.issue("127.0.0.1");
    let key = public_key(identity.leaf()).unwrap();
    assert_eq!(public_key(b"no certificate"), None);
    let tls = ServerTls::new(identity, ClientAuth::Request);
    let server = Running::start(ServerOptions::grpc(Some(tls))).await;
    let roots = ServerRoots::new([]);
    let try_with = async |pinned: Option<Vec<u8>>| {
        let client = Some(ca.issue("client"));
        let tls = ClientTls::between_nodes(&roots, client, pinned, Duration::ZERO).unwrap();
        let dialled = dial(&server.endpoint(Some(tls))).await;
        dialled.map_err(|error| describe_connect(&error))
    };
    // Nobody is trusted until there are roots, which may come later.
    let refused = try_with(Some(key.clone())).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    assert_eq!(roots.replace([ca.der()]), 1);
    let other = public_key(ca.issue("127.0.0.1").leaf()).unwrap();
    let refused = try_with(Some(other)).await.unwrap_err();
    let words = "public key of server certificate presented by 127.0.0.1 doesn't match";
    assert!(refused.contains(words), "{refused}");
    try_with(None).await.unwrap();
    let dialled = try_with(Some(key)).await.unwrap();

    // Both ends of the session export the same, and each sees the other's certificate.
    assert_eq!(echo(&dialled.channel, vec![0; 5]).await.unwrap(), 5);
    let here = dialled.tls.clone().unwrap();
    let there = server.echo.seen.lock().last().unwrap().clone();
    let exported = here.export_keying_material(b"label", b"context");
    let seen = there.tls().unwrap();
    assert!(exported.is_some());
    assert_eq!(exported, seen.export_keying_material(b"label", b"context"));
    assert_ne!(exported, seen.export_keying_material(b"label", b"other"));
    assert!(here.certificate().is_some() && there.certificate().is_some());

    // Broken off, it takes running calls with it and is not opened again.
    let endless = futures::stream::pending::<ChaincodeMessage>();
    let mut client = ChaincodeSupportClient::new(dialled.channel.clone());
    let mut answers = client.register(endless).await.unwrap().into_inner();
    dialled.close();
    assert!(answers.message().await.is_err());
    assert!(echo(&dialled.channel, vec![0; 5]).await.is_err());
    server.stop().await;
}
