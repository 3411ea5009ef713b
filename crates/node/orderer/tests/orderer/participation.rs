//! The participation API, as osnadmin and scripts use it.

use prost::Message;
use selvage_env::Env;
use selvage_net::deliver::{between, oldest, specified};
use selvage_net::logging::Levels;
use selvage_orderer::node::Orderer;
use selvage_proto::common::{Block, ConfigEnvelope, Envelope, Payload, Status};
use selvage_proto::orderer::ConsensusType;

use crate::bad_disk::{BadDisk, Mood};
use crate::world::{CHANNEL, POST_FORM, World, exists, form, http, join};

const LIST: &str = "GET /participation/v1/channels HTTP/1.1\r\n";

fn request(method: &str, path: &str) -> String {
    format!("{method} /participation/v1/{path} HTTP/1.1\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn join_list_and_remove() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    let port = orderer.admin.port();
    let check = async |head: &str, code: u16, body: &str| {
        let (got, text, head_lines) = http(port, head, b"").await;
        assert_eq!((got, text.as_str()), (code, body), "{head}");
        head_lines.to_ascii_lowercase()
    };
    let none = "{\"systemChannel\":null,\"channels\":null}\n";
    let lines = check(LIST, 200, none).await;
    assert!(lines.contains("cache-control: no-store"), "{lines}");
    assert!(lines.contains("content-type: application/json"), "{lines}");

    let genesis = world.genesis(CHANNEL);
    let (code, body, lines) = join(&orderer, &genesis).await;
    let joined = "{\"name\":\"trade\",\"url\":\"/participation/v1/channels/trade\",\
                  \"consensusRelation\":\"other\",\"status\":\"active\",\"height\":1}\n";
    assert_eq!((code, body.as_str()), (201, joined));
    let lines = lines.to_ascii_lowercase();
    assert!(
        lines.contains("location: /participation/v1/channels/trade"),
        "{lines}"
    );
    check(&request("GET", "channels/trade"), 200, joined).await;
    let one = "{\"systemChannel\":null,\"channels\":[{\"name\":\"trade\",\
               \"url\":\"/participation/v1/channels/trade\"}]}\n";
    check(LIST, 200, one).await;

    let (code, body, lines) = join(&orderer, &genesis).await;
    assert_eq!(code, 405);
    assert_eq!(
        body,
        "{\"error\":\"cannot join: channel already exists\"}\n"
    );
    assert!(
        lines.to_ascii_lowercase().contains("allow: get, delete"),
        "{lines}"
    );

    assert_eq!(join(&orderer, &world.genesis("second")).await.0, 201);
    let client = world.client(&orderer);
    let envelope = client.transaction("second", b"x");
    assert_eq!(client.broadcast_one(envelope).await.0, Status::Success);
    let waiting = {
        let client = client.clone();
        let seek = client.seek("second", &between(oldest(), specified(u64::MAX)));
        tokio::spawn(async move { client.deliver(seek).await })
    };
    check(&request("DELETE", "channels/second"), 204, "").await;
    let (_, status) = waiting.await.unwrap();
    assert!(
        matches!(status, Status::ServiceUnavailable | Status::NotFound),
        "{status:?}"
    );
    let missing = "{\"error\":\"channel does not exist\"}\n";
    check(&request("GET", "channels/second"), 404, missing).await;
    let missing = "{\"error\":\"cannot remove: channel does not exist\"}\n";
    check(&request("DELETE", "channels/second"), 404, missing).await;
    assert!(!exists(&world.path("ledger/chains/second")));
    assert!(exists(&world.path("ledger/chains/trade")));
    // The same name may come back.
    assert_eq!(join(&orderer, &world.genesis("second")).await.0, 201);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_refused() {
    let world = World::new();
    let orderer = world.serving().await;
    let port = orderer.admin.port();
    let check = async |head: &str, body: &[u8], code: u16, error: &str, line: &str| {
        let (got, text, lines) = http(port, head, body).await;
        assert_eq!(got, code, "{head} {text}");
        assert!(text.contains(error), "{text} lacks {error}");
        assert!(
            lines.to_ascii_lowercase().contains(line),
            "{lines} lacks {line}"
        );
    };
    let get = |path: &str| request("GET", path);
    let accept_text = format!("{LIST}Accept: text/html\r\n");
    let only_json = "response Content-Type is application/json only";
    check(&accept_text, b"", 406, only_json, "").await;
    check(
        &format!("{LIST}Accept: text/html, */*\r\n"),
        b"",
        200,
        "trade",
        "",
    )
    .await;
    check(
        &get(""),
        b"",
        302,
        "",
        "location: /participation/v1/channels",
    )
    .await;
    check(&get("channels/UPPER"), b"", 400, "invalid channel ID", "").await;
    let method = "invalid request method: PATCH";
    check(
        &request("PATCH", "channels"),
        b"",
        405,
        method,
        "allow: get, post, put",
    )
    .await;
    check(
        &request("PATCH", "channels/trade"),
        b"",
        405,
        method,
        "allow: get, delete",
    )
    .await;
    check(
        &request("PATCH", "channels/trade/blocks/1"),
        b"",
        405,
        method,
        "allow: get",
    )
    .await;
    check(&get("nothing"), b"", 404, "404", "").await;

    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_are_refused() {
    let world = World::new();
    let orderer = world.start(&world.settings()).await;
    let port = orderer.admin.port();
    let check = async |head: &str, body: &[u8], error: &str| {
        let (got, text, _) = http(port, head, body).await;
        assert_eq!(got, 400, "{head} {text}");
        assert!(text.contains(error), "{text} lacks {error}");
    };
    let post = request("POST", "channels");
    check(&post, b"x", "unsupported Content-Type: []").await;
    let text = format!("{post}Content-Type: text/plain\r\n");
    check(&text, b"x", "unsupported Content-Type: [text/plain]").await;
    check(POST_FORM, b"no form", "cannot read form from request body").await;
    let other = form("other", b"x");
    let no_key = "form does not contains part key: config-block";
    check(POST_FORM, &other, no_key).await;
    let mut two = form("other", b"x");
    two.truncate(two.len() - 8);
    two.extend_from_slice(b"\r\n");
    two.extend_from_slice(&form("config-block", b"x"));
    check(POST_FORM, &two, "form contains too many parts").await;
    let garbage = form("config-block", b"\xff\xff\xff\xff");
    let no_block = "cannot unmarshal file part config-block into a block";
    check(POST_FORM, &garbage, no_block).await;
    let empty = form("config-block", b"");
    check(POST_FORM, &empty, "block is not a config block").await;
    let large = form("config-block", &vec![0; 2 << 20]);
    check(POST_FORM, &large, "cannot read form from request body").await;
    orderer.stop().await;
}

/// The block with another consensus type in its configuration.
fn with_consensus(block: &Block, name: &str) -> Block {
    let mut block = block.clone();
    let mut envelope = Envelope::decode(block.envelopes()[0].clone()).unwrap();
    let mut payload = Payload::decode(envelope.payload).unwrap();
    let mut config = ConfigEnvelope::decode(payload.data).unwrap();
    let root = config.config.as_mut().unwrap().channel_group.as_mut();
    let orderer = root.unwrap().groups.get_mut("Orderer").unwrap();
    let value = orderer.values.get_mut("ConsensusType").unwrap();
    let mut consensus = ConsensusType::decode(value.value.clone()).unwrap();
    consensus.r#type = name.to_owned();
    value.value = consensus.encode_to_vec().into();
    payload.data = config.encode_to_vec().into();
    envelope.payload = payload.encode_to_vec().into();
    let data = block.data.as_mut().unwrap();
    data.data = vec![envelope.encode_to_vec().into()];
    let hash = selvage_channel::block::data_hash(data);
    block.header.as_mut().unwrap().data_hash = hash.to_vec().into();
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn join_blocks_that_do_not_fit() {
    let world = World::new();
    let orderer = world.serving().await;
    let check = async |block: Block, error: &str| {
        let (code, text, _) = join(&orderer, &block).await;
        assert_eq!(code, 400, "{text}");
        assert!(text.contains(error), "{text} lacks {error}");
    };
    let genesis = world.genesis("fresh");
    let mut bare = genesis.clone();
    bare.metadata = None;
    check(
        bare,
        "invalid join block: invalid block: does not have metadata",
    )
    .await;
    let mut other_hash = genesis.clone();
    other_hash.header.as_mut().unwrap().data_hash = vec![1; 32].into();
    check(
        other_hash,
        "Header.DataHash is different from Hash(block.Data)",
    )
    .await;
    let mut later = genesis.clone();
    later.header.as_mut().unwrap().number = 7;
    check(later, "the block has number 7").await;
    let no_application = world.genesis_of("fresh", |text| {
        text.split("    Application:").next().unwrap().to_owned()
    });
    check(no_application, "must contain application config").await;
    check(
        with_consensus(&genesis, "kafka"),
        "consensus type \\\"kafka\\\" is not built into this orderer",
    )
    .await;
    let nobody = with_consensus(&genesis, "etcdraft");
    check(nobody, "its consenters cannot be used").await;
    // Nothing of it is left behind.
    assert!(!exists(&world.path("ledger/chains/fresh")));
    assert_eq!(join(&orderer, &genesis).await.0, 201);
    orderer.stop().await;
}

/// A removal that breaks off shows, and can be asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_is_not_forgotten() {
    let world = World::new();
    let disk = BadDisk::over(Env::real().disk);
    let levels = Levels::new("info").unwrap();
    let orderer = Orderer::start(&world.settings(), disk.env(), levels)
        .await
        .unwrap();
    let genesis = world.genesis(CHANNEL);
    assert_eq!(join(&orderer, &genesis).await.0, 201);
    let port = orderer.admin.port();
    let check = async |method: &str, code: u16, part: &str| {
        let (got, text, _) = http(port, &request(method, "channels/trade"), b"").await;
        assert_eq!(got, code, "{method}: {text}");
        assert!(text.contains(part), "{text} lacks {part}");
    };
    disk.turns(Mood::Fixed);
    check("DELETE", 400, "cannot remove: ").await;
    check("GET", 200, "\"status\":\"failed\",\"height\":0").await;
    let (code, text, _) = join(&orderer, &genesis).await;
    let failure = "{\"error\":\"cannot join: channel removal failure\"}\n";
    assert_eq!((code, text.as_str()), (500, failure));
    disk.turns(Mood::Well);
    check("DELETE", 204, "").await;
    check("GET", 404, "channel does not exist").await;
    assert_eq!(join(&orderer, &genesis).await.0, 201);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_can_be_fetched() {
    let world = World::new();
    let orderer = world.serving().await;
    let client = world.client(&orderer);
    client
        .broadcast_one(client.transaction(CHANNEL, b"x"))
        .await;
    let port = orderer.admin.port();
    let check = async |which: &str, code: u16| {
        let head = request("GET", &format!("channels/trade/blocks/{which}"));
        assert_eq!(http(port, &head, b"").await.0, code, "{which}");
    };
    for (which, code) in [
        ("oldest", 200),
        ("newest", 200),
        ("config", 200),
        ("1", 200),
        ("2", 404),
        ("some", 400),
        ("-1", 404),
    ] {
        check(which, code).await;
    }
    let update = form(
        "config-update-envelope",
        &client.transaction(CHANNEL, b"").encode_to_vec(),
    );
    let put = POST_FORM.replace("POST", "PUT");
    let (code, text, _) = http(port, &put, &update).await;
    assert_eq!((code, text.contains("bad type")), (400, true), "{text}");
    orderer.stop().await;
}
