//! A whole peer over real sockets and TLS: it pulls blocks from an orderer, serves them, survives
//! restarts, and says clearly what keeps it from starting.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use common::world::{
    ClientSigner, Running, World, next, request, seek, serve_orderer, tls_identity,
};
use common::{CHANNEL, Network, Tx, define, writes};
use prost::Message;
use selvage_env::{Env, ManualClock};
use selvage_identity::SigningIdentity;
use selvage_net::config::Variables;
use selvage_net::deliver::{between, newest, oldest, only, seek_envelope, specified};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::deliver_client::DeliverClient;
use selvage_net::services::endorser_client::EndorserClient;
use selvage_net::tls::ClientTls;
use selvage_net::{CancellationToken, Endpoint, connect, tonic};
use selvage_peer::config::Settings;
use selvage_proto::common::{Envelope, Status};
use selvage_proto::orderer::seek_info::SeekBehavior;
use selvage_proto::orderer::{SeekInfo, SeekNextCommit, SeekPosition, seek_position};
use selvage_proto::peer::deliver_response::Type;
use selvage_proto::peer::{ChannelQueryResponse, TxValidationCode as Code};

/// A peer with three blocks: a definition, and a transaction that comes twice.
async fn with_three_blocks(world: &World) -> (Running, Tx, CancellationToken) {
    let network = &world.network;
    let orderer = world.start_orderer().await;
    let metrics = [("CORE_METRICS_PROVIDER", "prometheus")];
    let peer = world.start(&metrics).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let definition = define(network, "cc", "OR('OneMSP.peer')");
    world.push(vec![definition.seal()]);
    let set = writes("cc", &[("k", "v")]);
    let tx = Tx::new(&network.one.client, &[&network.one.peer], "cc", &set);
    world.push(vec![tx.seal(), tx.seal()]);
    peer.height(3).await;
    (peer, tx, orderer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_pulls_commits_and_delivers() {
    let world = World::new().await;
    let network = &world.network;
    let (peer, tx, orderer) = with_three_blocks(&world).await;
    let mut client = world.client(&peer);
    let all = between(specified(0), specified(2));
    let envelope = seek(CHANNEL, &all, &network.two.client);
    let answers = client.deliver(request(envelope)).await.expect("call");
    let mut blocks = answers.into_inner();
    for number in 0..3 {
        let Type::Block(block) = next(&mut blocks).await else {
            panic!("no block {number}")
        };
        assert_eq!(block.number(), number);
    }
    let success = Type::Status(Status::Success as i32);
    assert_eq!(next(&mut blocks).await, success);

    // A stream without an end gets the next block when it is committed.
    let from_now_on = between(specified(3), specified(u64::MAX));
    let envelope = seek(CHANNEL, &from_now_on, &network.one.client);
    let answers = client.deliver(request(envelope)).await.expect("call");
    let mut live = answers.into_inner();
    world.push(vec![tx.seal()]);
    let Type::Block(block) = next(&mut live).await else {
        panic!("no block")
    };
    assert_eq!(block.number(), 3);
    drop(live);
    orderer.cancel();
    peer.stop().await;
}

/// The numbers of the blocks that a seek gets, and the closing status.
async fn numbers(
    mut client: DeliverClient<tonic::transport::Channel>,
    envelope: Envelope,
) -> (Vec<u64>, Status) {
    let answers = client.deliver(request(envelope)).await.expect("call");
    let mut answers = answers.into_inner();
    let mut numbers = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), next(&mut answers));
        match next.await.expect("an answer in time") {
            Type::Block(block) => numbers.push(block.number()),
            Type::Status(status) => {
                return (numbers, Status::try_from(status).expect("status"));
            }
            other => panic!("{other:?}"),
        }
    }
}

fn next_commit() -> SeekPosition {
    SeekPosition {
        r#type: Some(seek_position::Type::NextCommit(SeekNextCommit {})),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seek_form_is_answered() {
    let world = World::new().await;
    let signer = &world.network.two.client;
    let (peer, _, orderer) = with_three_blocks(&world).await;
    let client = world.client(&peer);
    let no_waiting = |seek: SeekInfo| SeekInfo {
        behavior: SeekBehavior::FailIfNotReady as i32,
        ..seek
    };
    use Status::{BadRequest, NotFound, Success};
    for (what, form, expected, status) in [
        ("oldest", only(oldest()), &[0][..], Success),
        ("newest", only(newest()), &[2], Success),
        ("a number", only(specified(1)), &[1], Success),
        ("all", between(oldest(), newest()), &[0, 1, 2], Success),
        ("the end", between(specified(1), newest()), &[1, 2], Success),
        ("newest on", between(newest(), specified(2)), &[2], Success),
        ("to oldest", between(specified(1), oldest()), &[1], Success),
        (
            "to the next",
            between(oldest(), next_commit()),
            &[0],
            Success,
        ),
        ("back", between(specified(2), specified(1)), &[], BadRequest),
        ("beyond", only(specified(4)), &[], NotFound),
        ("not yet", no_waiting(only(specified(3))), &[], NotFound),
        ("the next", no_waiting(only(next_commit())), &[], NotFound),
        (
            "more",
            no_waiting(between(specified(1), specified(9))),
            &[1, 2],
            NotFound,
        ),
    ] {
        let got = numbers(client.clone(), seek(CHANNEL, &form, signer)).await;
        assert_eq!(got, (expected.to_vec(), status), "{what}");
    }
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_readers_get_blocks_as_they_are_committed() {
    let world = World::new().await;
    let signer = &world.network.two.client;
    let (peer, tx, orderer) = with_three_blocks(&world).await;
    let client = world.client(&peer);
    let mut readers = Vec::new();
    for (form, expected) in [
        (between(next_commit(), specified(4)), vec![3, 4]),
        (between(newest(), specified(3)), vec![2, 3]),
        (between(oldest(), specified(4)), vec![0, 1, 2, 3, 4]),
    ] {
        let envelope = seek(CHANNEL, &form, signer);
        let reader = tokio::spawn(numbers(client.clone(), envelope));
        readers.push((reader, expected));
    }
    // They have their places before there is anything new.
    let placed = tokio::time::timeout(Duration::from_secs(20), async {
        while requests(&peer).await < readers.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    placed.await.expect("the requests never came");
    for _ in 0..2 {
        world.push(vec![tx.seal()]);
    }
    for (reader, expected) in readers {
        let got = reader.await.expect("reader");
        assert_eq!(got, (expected, Status::Success));
    }
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_may_be_almost_a_quarter_of_an_hour_off() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let client = world.client(&peer);
    let env = Env::real();
    let signer = ClientSigner(network.one.client.clone());
    for (minutes, expected) in [
        (-16, (vec![], Status::BadRequest)),
        (-14, (vec![0], Status::Success)),
        (14, (vec![0], Status::Success)),
        (16, (vec![], Status::BadRequest)),
    ] {
        let clock = ManualClock::new(env.clock.unix_nanos() + minutes * 60_000_000_000);
        let rng = env.rng.as_ref();
        let envelope = seek_envelope(CHANNEL, &only(oldest()), &signer, None, &clock, rng);
        assert_eq!(
            numbers(client.clone(), envelope).await,
            expected,
            "{minutes}"
        );
    }
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_delivered_filtered_and_with_private_data() {
    let world = World::new().await;
    let network = &world.network;
    let (peer, tx, orderer) = with_three_blocks(&world).await;
    let mut client = world.client(&peer);
    let last = between(specified(2), specified(2));
    let envelope = seek(CHANNEL, &last, &network.one.client);
    let answers = client.deliver_filtered(request(envelope)).await;
    let mut blocks = answers.expect("call").into_inner();
    let Type::FilteredBlock(filtered) = next(&mut blocks).await else {
        panic!("no block")
    };
    let place = (filtered.number, filtered.channel_id.as_str());
    assert_eq!(place, (2, CHANNEL));
    let transactions = filtered.filtered_transactions;
    let codes: Vec<i32> = transactions.iter().map(|t| t.tx_validation_code).collect();
    assert_eq!(codes, [Code::Valid as i32, Code::DuplicateTxid as i32]);
    assert_eq!(transactions[0].txid, tx.id());

    let second = between(specified(1), specified(1));
    let envelope = seek(CHANNEL, &second, &network.one.client);
    let answers = client.deliver_with_private_data(request(envelope)).await;
    let mut blocks = answers.expect("call").into_inner();
    let Type::BlockAndPrivateData(both) = next(&mut blocks).await else {
        panic!("no block")
    };
    assert_eq!(both.block.expect("block").number(), 1);
    assert!(both.private_data_map.is_empty());
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_is_told_so() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let client = world.client(&peer);
    let first = between(specified(0), specified(0));
    let outside = Network::new();
    let check = async |what: &str, envelope: Envelope, status: Status| {
        let mut client = client.clone();
        let mut answers = client
            .deliver(request(envelope))
            .await
            .expect("call")
            .into_inner();
        assert_eq!(
            next(&mut answers).await,
            Type::Status(status as i32),
            "{what}"
        );
    };
    let stranger = seek(CHANNEL, &first, &outside.one.client);
    check("a stranger", stranger, Status::Forbidden).await;
    let unknown = seek("otherchannel", &first, &network.one.client);
    check("an unknown channel", unknown, Status::NotFound).await;
    let mut forged = seek(CHANNEL, &first, &network.one.client);
    forged.signature = Bytes::from_static(b"signature");
    check("a forged signature", forged, Status::Forbidden).await;
    let empty = Envelope {
        payload: Bytes::from_static(b"\xff"),
        ..Default::default()
    };
    check("no envelope", empty, Status::BadRequest).await;
    let backwards = seek(
        CHANNEL,
        &between(specified(1), specified(0)),
        &network.one.client,
    );
    check("an end before the start", backwards, Status::BadRequest).await;
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_waits_for_its_orderer_and_resumes() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let push = |key: &str| {
        let set = writes("_lifecycle", &[(key, "v")]);
        let endorsers = [&network.one.peer, &network.two.peer];
        let tx = Tx::new(&network.one.client, &endorsers, "_lifecycle", &set);
        world.push(vec![tx.seal()]);
    };
    push("a");
    let orderer = world.start_orderer().await;
    peer.height(2).await;
    peer.stop().await;
    orderer.cancel();
    push("b");
    let peer = world.start_again().await;
    assert_eq!(peer.channels.get(CHANNEL).expect("channel").height(), 2);
    let orderer = world.start_orderer().await;
    push("c");
    peer.height(4).await;
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_joins_the_peer_to_a_channel() {
    let world = World::new().await;
    let network = &world.network;
    let orderer = world.start_orderer().await;
    let peer = world.start(&[]).await.expect("peer");
    let roots = network.one.tls_ca.certificate().to_pem();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), None).expect("TLS");
    let endpoint = Endpoint::new(&peer.address, Some(tls));
    let mut endorser = EndorserClient::new(connect(&endpoint).expect("endpoint"));
    let genesis = network.genesis.encode_to_vec();
    let mut call = async |signer: &SigningIdentity, args: &[&[u8]]| {
        let proposal = common::proposal(signer, "", "cscc", args);
        let answer = endorser
            .process_proposal(proposal)
            .await
            .expect("call")
            .into_inner();
        answer.response.expect("response")
    };
    let refused = call(&network.one.client, &[b"JoinChain", &genesis]).await;
    assert_eq!(refused.status, 500, "{refused:?}");
    assert!(peer.channels.get(CHANNEL).is_none());
    let joined = call(&network.one.admin, &[b"JoinChain", &genesis]).await;
    assert_eq!(joined.status, 200, "{joined:?}");
    let again = call(&network.one.admin, &[b"JoinChain", &genesis]).await;
    assert!(again.message.contains("already exists"), "{again:?}");
    let listed = call(&network.one.client, &[b"GetChannels"]).await;
    let listed = ChannelQueryResponse::decode(listed.payload).expect("channels");
    assert_eq!(listed.channels[0].channel_id, CHANNEL);
    let definition = define(network, "cc", "OR('OneMSP.peer')");
    world.push(vec![definition.seal()]);
    peer.height(2).await;
    orderer.cancel();
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_mutual_tls_clients_prove_themselves_twice() {
    let world = World::new().await;
    let network = &world.network;
    let peer = world
        .start(&[("CORE_PEER_TLS_CLIENTAUTHREQUIRED", "true")])
        .await
        .expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let roots = network.one.tls_ca.certificate().to_pem();
    let first = between(specified(0), specified(0));
    let bare = ClientTls::from_pem("test", roots.as_bytes(), None).expect("TLS");
    let bare = Endpoint::new(&peer.address, Some(bare));
    let mut client = DeliverClient::new(connect(&bare).expect("endpoint"));
    let envelope = seek(CHANNEL, &first, &network.one.client);
    client
        .deliver(request(envelope.clone()))
        .await
        .expect_err("no certificate");

    // The second organisation is known through the channel only.
    let identity = tls_identity(&network.two);
    let hash = identity.leaf_hash();
    let tls = ClientTls::from_pem("test", roots.as_bytes(), Some(identity)).expect("TLS");
    let endpoint = Endpoint::new(&peer.address, Some(tls));
    let connected = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut client = DeliverClient::new(connect(&endpoint).expect("endpoint"));
            // The roots of a channel count a moment after it was joined.
            if let Ok(answers) = client.deliver(request(envelope.clone())).await {
                return (client, answers.into_inner());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (mut client, mut answers) = connected
        .await
        .expect("a certificate of the channel counts");
    assert_eq!(
        next(&mut answers).await,
        Type::Status(Status::BadRequest as i32)
    );
    let env = Env::real();
    let signer = ClientSigner(network.two.client.clone());
    let (clock, rng) = (env.clock.as_ref(), env.rng.as_ref());
    let bound = seek_envelope(CHANNEL, &first, &signer, Some(hash), clock, rng);
    let mut answers = client
        .deliver(request(bound))
        .await
        .expect("call")
        .into_inner();
    assert!(matches!(next(&mut answers).await, Type::Block(_)));
    peer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderer_is_found_under_another_address() {
    let world = World::new().await;
    let network = &world.network;
    let server = Server::bind(
        "127.0.0.1:0",
        ServerOptions::grpc(Some(world.orderer_tls.clone())),
    )
    .await
    .expect("port");
    let address = server.local_addr();
    let stop = CancellationToken::new();
    serve_orderer(server, &world.chain, stop.clone()).await;
    let file = world.path("core.yaml");
    let text = fs::read_to_string(&file).expect("core.yaml");
    let (from, roots) = (&world.orderer_address, "roots.pem");
    let pem = network.ordering.tls_ca.certificate().to_pem();
    fs::write(world.path(roots), pem).expect("roots");
    let entry = format!(
        "addressOverrides:\n      - from: {from}\n        to: {address}\n        \
         caCertsFile: {roots}\n"
    );
    fs::write(&file, text.replace("addressOverrides:\n", &entry)).expect("core.yaml");
    let peer = world.start(&[]).await.expect("peer");
    peer.channels.join(network.genesis.clone()).expect("join");
    let definition = define(network, "cc", "OR('OneMSP.peer')");
    world.push(vec![definition.seal()]);
    peer.height(2).await;
    stop.cancel();
    peer.stop().await;
}

/// A page of the operations endpoint, headers included.
async fn get(peer: &Running, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = peer.operations.expect("operations");
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connect");
    let text = format!("GET {path} HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    answer
}

/// How many requests for blocks have their place in the channel, or had one.
async fn requests(peer: &Running) -> usize {
    let line = format!(
        "deliver_requests_received{{channel=\"{CHANNEL}\",filtered=\"false\",data_type=\"block\"}} "
    );
    let metrics = get(peer, "/metrics").await;
    let count = metrics.lines().find_map(|l| l.strip_prefix(&line));
    count.map_or(0, |count| count.parse().expect("a count"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_health_and_version() {
    let world = World::new().await;
    let peer = world
        .start(&[("CORE_METRICS_PROVIDER", "prometheus")])
        .await
        .expect("peer");
    peer.channels
        .join(world.network.genesis.clone())
        .expect("join");
    let get = async |path: &str| get(&peer, path).await;
    let health = get("/healthz").await;
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains("\"status\":\"OK\""),
        "{health}"
    );
    let version = get("/version").await;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let metrics = get("/metrics").await;
    for name in [
        "ledger_blockchain_height{channel=",
        "fabric_version{version=",
        "grpc_comm_conn_opened ",
        "logging_entries_checked{level=\"info\"} ",
        "logging_entries_written{level=\"warn\"} ",
    ] {
        let shown = metrics.lines().any(|line| line.starts_with(name));
        assert!(shown, "{name} is not in\n{metrics}");
    }
    peer.stop().await;
}

/// Starts a peer that must not start, and looks for the words that say why.
async fn refused(world: &World, what: &str, more: &[(&str, &str)], words: &[&str]) {
    let Err(error) = world.start(more).await else {
        panic!("{what}: started")
    };
    let text = selvage_peer::report(&error);
    for word in words {
        assert!(text.contains(word), "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_keep_a_peer_from_starting_are_named() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let address = taken.local_addr().expect("address").to_string();
    for (variable, value, words) in [
        (
            "CORE_PEER_LISTENADDRESS",
            address.as_str(),
            ["cannot listen", &address],
        ),
        (
            "CORE_PEER_MSPCONFIGPATH",
            "/nowhere",
            ["cannot read", "/nowhere"],
        ),
        (
            "CORE_PEER_TLS_KEY_FILE",
            "/nowhere",
            ["cannot read", "/nowhere"],
        ),
        ("CORE_CHAINCODE_MODE", "odd", ["chaincode.mode", "odd"]),
        (
            "CORE_CHAINCODE_SANDBOX",
            "odd",
            ["chaincode.sandbox", "odd"],
        ),
    ] {
        refused(&world, variable, &[(variable, value)], &words).await;
    }
    let nowhere = Path::new("/nowhere/core.yaml");
    assert!(Settings::load_file(nowhere, &Variables::new()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_keep_a_peer_from_starting_are_named() {
    let world = World::new().await;
    let key = world.path("msp/keystore/key_sk");
    let saved = fs::read(&key).expect("key");
    let other = world.network.two.peer_key.to_pkcs8_pem().expect("key");
    fs::write(&key, other.as_bytes()).expect("write");
    let words = ["no private key in keystore"];
    refused(&world, "another's key", &[], &words).await;
    fs::write(&key, saved).expect("write");
    let file = world.path("file");
    fs::write(&file, b"").expect("write");
    let file = file.display().to_string();
    let setting = [("CORE_PEER_FILESYSTEMPATH", file.as_str())];
    refused(&world, "data folder", &setting, &["peer.fileSystemPath"]).await;
    let peer = world.start(&[]).await.expect("peer");
    let words = ["in use by another process"];
    refused(&world, "two peers on one folder", &[], &words).await;
    peer.stop().await;
}
