//! What watches the orderer.

use selvage_net::deliver::{oldest, only};
use selvage_net::services::health::HealthCheckRequest;
use selvage_net::services::health::health_client::HealthClient;
use selvage_net::tonic::Code;
use selvage_proto::common::Status;

use crate::world::{CHANNEL, World, http, join};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_health_levels_and_version() {
    let world = World::new();
    let mut settings = world.settings();
    settings.metrics.provider = "prometheus".to_owned();
    let orderer = world.start(&settings).await;
    assert_eq!(join(&orderer, &world.genesis(CHANNEL)).await.0, 201);
    let client = world.client(&orderer);
    for channel in [CHANNEL, "nowhere"] {
        client
            .broadcast_one(client.transaction(channel, b"x"))
            .await;
    }
    assert_eq!(client.blocks(&only(oldest())).await.1, Status::Success);
    let port = orderer.operations.port();
    let get = async |path: &str| http(port, &format!("GET {path} HTTP/1.1\r\n"), b"").await;

    let (code, text, lines) = get("/metrics").await;
    assert_eq!(code, 200);
    assert!(lines.contains("text/plain; version=0.0.4"), "{lines}");
    for line in [
        "broadcast_processed_count{channel=\"trade\",type=\"ENDORSER_TRANSACTION\",\
         status=\"SUCCESS\"} 1",
        "broadcast_processed_count{channel=\"unknown\",type=\"unknown\",status=\"BAD_REQUEST\"} 1",
        "deliver_blocks_sent{channel=\"trade\",filtered=\"false\",data_type=\"block\"} 1",
        "ledger_blockchain_height{channel=\"trade\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let (code, text, _) = get("/healthz").await;
    assert_eq!(
        (code, text.starts_with("{\"status\":\"OK\",\"time\":\"2")),
        (200, true),
        "{text}"
    );
    assert_eq!(get("/logspec").await.1, "{\"spec\":\"info\"}\n");
    let (code, text, _) = get("/version").await;
    assert_eq!((code, text.contains("\"Version\":")), (200, true), "{text}");
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_off_unless_asked_for() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    let port = orderer.operations.port();
    assert_eq!(http(port, "GET /metrics HTTP/1.1\r\n", b"").await.0, 404);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_over_grpc() {
    let world = World::new();
    let orderer = world.serving().await;
    let mut stub = HealthClient::new(world.client(&orderer).channel);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        stub.check(request)
            .await
            .map(|answer| answer.into_inner().status)
    };
    assert_eq!(check("").await.unwrap(), 1);
    assert_eq!(check("orderer.AtomicBroadcast").await.unwrap(), 1);
    assert_eq!(
        check("protos.Endorser").await.unwrap_err().code(),
        Code::NotFound
    );
    orderer.stop().await;
}
