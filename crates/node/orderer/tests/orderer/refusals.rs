//! Bad input from other orderers and from clients: refused, counted, told once, and nothing stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use selvage_channel::block::header_hash;
use selvage_consensus_bft::wire as bft;
use selvage_consensus_raft::wire as raft;
use selvage_crypto::PrivateKey;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_net::metrics::Metrics;
use selvage_orderer::Signer;
use selvage_orderer::cluster::{ClusterTls, Kind, LinkOptions, Links, Ports};
use selvage_ordering::Member;
use selvage_proto::common::{BlockHeader, Consenter, Status};

use crate::cluster::chain::{Maker, Source, Twist, set_consenters, set_endpoints};
use crate::cluster::streams::{consensus, step};
use crate::cluster::{Pair, raw_to, soon};
use crate::consortium::{Cluster, Consensus};
use crate::log::Lines;
use crate::world::{At, CHANNEL, Org, World, http_to, join};

/// Somebody who has the keys of a consenter, and says what no orderer says.
struct Attacker {
    links: Links,
    signer: Signer,
    others: Vec<Member>,
    _ports: Vec<Ports>,
}

impl Attacker {
    fn with_keys_of(cluster: &Cluster, index: usize) -> Self {
        let node = &cluster.nodes[index];
        let read = |name: &str| {
            let path = cluster.world.path(&format!("msp{index}/{name}"));
            std::fs::read(path).unwrap()
        };
        let key = PrivateKey::from_pem(&read("keystore/priv_sk")).unwrap();
        let identity = SigningIdentity::new("OrdererMSP", &read("signcerts/cert.pem"), key);
        let signer = Signer::new(identity.unwrap());
        let tls = ClusterTls::load(&node.settings).unwrap().unwrap();
        let options = LinkOptions::new(&node.settings);
        let metrics = Metrics::default();
        let others = cluster.nodes.iter().enumerate();
        let others = others.filter(|(other, _)| *other != index);
        Self {
            links: Links::new(options, tls, signer.clone(), &metrics, Env::real()),
            signer,
            others: others.map(|(_, n)| Member::from(&n.consenter)).collect(),
            _ports: Vec::new(),
        }
    }

    /// Speaks on a channel.
    fn on(mut self, channel: &str, kind: Kind) -> Self {
        self._ports.push(self.links.open(channel));
        self.links.configure(channel, kind, &self.others);
        self
    }

    /// Says something to the first node.
    fn say(&self, channel: &str, message: impl Into<Bytes>) {
        self.links.send(channel, 1, message.into(), Bytes::new());
    }
}

/// How often a node refused something, as its operations endpoint says.
async fn refused(at: At<'_>, channel: &str, reason: &str) -> u64 {
    let (code, text, _) = http_to(at, "GET /metrics HTTP/1.1\r\n", b"").await;
    assert_eq!(code, 200);
    let series = format!("selvage_refused_count{{channel=\"{channel}\",reason=\"{reason}\"}} ");
    let mut values = text.lines().filter_map(|line| line.strip_prefix(&series));
    values.next().map_or(0, |value| value.parse().unwrap())
}

/// Does it again and again until the node has refused it for this reason twice more. The log tells
/// of it once.
async fn check(
    (at, lines): (At<'_>, &Lines),
    (channel, reason): (&str, &str),
    mut act: impl AsyncFnMut(),
) {
    let (before, mark) = (refused(at, channel, reason).await, lines.len());
    let refusing = async {
        while refused(at, channel, reason).await < before + 2 {
            act().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(refusing).await;
    let of = (format!("channel={channel} "), format!("reason={reason} "));
    let told = lines.with(mark, &["refused", &of.0, &of.1]);
    assert_eq!(told.len(), 1, "{reason}: {told:?}");
}

/// A cluster without its last node, whose keys somebody else has.
async fn without_the_last(consensus: Consensus, count: usize) -> Cluster {
    let mut cluster = Cluster::new(consensus, count, count);
    for node in &mut cluster.nodes {
        node.settings.metrics.provider = "prometheus".to_owned();
    }
    cluster.founded(count).await;
    cluster.order(0, b"first").await;
    cluster.order(1, b"second").await;
    let all: Vec<_> = (0..count).collect();
    cluster.level(&all).await;
    cluster.stop(count - 1).await;
    cluster
}

/// It still orders.
async fn goes_on(mut cluster: Cluster, count: usize) {
    for n in 0..5 {
        cluster.order(n % (count - 1), &[n as u8; 7]).await;
    }
    cluster.start(count - 1).await;
    let all: Vec<_> = (0..count).collect();
    cluster.level(&all).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_raft_cluster_counts_what_it_refuses_and_goes_on() {
    let (lines, _listening) = Lines::listen();
    let cluster = without_the_last(Consensus::Raft, 3).await;
    let watched = (cluster.operations(0), &lines);
    let attacker = Attacker::with_keys_of(&cluster, 2).on(CHANNEL, Kind::Raft);
    let attacker = attacker.on("nowhere", Kind::Raft);
    let heartbeat = |from, to, term| raft::Message {
        kind: 8,
        from,
        to,
        term,
        ..Default::default()
    };
    for (reason, message) in [
        ("consensus_malformed", vec![0xff; 9]),
        ("consensus_forged", heartbeat(2, 1, 9).encode_to_vec()),
        ("consensus_misdirected", heartbeat(3, 2, 9).encode_to_vec()),
        ("consensus_impossible", heartbeat(3, 1, 0).encode_to_vec()),
    ] {
        check(watched, (CHANNEL, reason), async || {
            attacker.say(CHANNEL, message.clone());
        })
        .await;
    }
    check(
        watched,
        ("unknown", "cluster_unknown_channel"),
        async || {
            attacker.say("nowhere", "x");
        },
    )
    .await;
    let stranger = Pair::new(&Org::new("Else"));
    let port = cluster.nodes[0].settings.general.listen_port;
    let unknown = (CHANNEL, "cluster_unknown_certificate");
    check(watched, unknown, async || {
        let dialled = raw_to(&cluster.world, port, Some(&stranger)).await;
        step(dialled.unwrap().channel, consensus(CHANNEL, 1))
            .await
            .unwrap_err();
    })
    .await;
    // A client whose messages are refused is told each time; the log is not.
    let client = cluster.client(0);
    check(watched, (CHANNEL, "broadcast_bad_request"), async || {
        let large = client.transaction(CHANNEL, &[7; 2 << 20]);
        assert_eq!(client.broadcast_one(large).await.0, Status::BadRequest);
    })
    .await;
    check(watched, (CHANNEL, "broadcast_forbidden"), async || {
        let mut forged = client.transaction(CHANNEL, b"x");
        forged.signature = Bytes::from_static(b"no");
        assert_eq!(client.broadcast_one(forged).await.0, Status::Forbidden);
    })
    .await;
    drop(attacker);
    goes_on(cluster, 3).await;
}

/// What a consenter signs when it prevotes: for no block, or for one of this name.
fn signed_bytes(newest: &BlockHeader, digest: Option<u8>) -> Vec<u8> {
    let previous = header_hash(newest);
    let mut bytes = b"selvage-bft/1\x01".to_vec();
    for part in [CHANNEL.as_bytes(), &previous] {
        bytes.extend((part.len() as u32).to_be_bytes());
        bytes.extend(part);
    }
    bytes.extend((newest.number + 1).to_be_bytes());
    // The first round.
    bytes.extend(0i64.to_be_bytes());
    match digest {
        None => bytes.push(0),
        Some(byte) => {
            bytes.push(1);
            bytes.extend([byte; 64]);
            bytes.extend(0u64.to_be_bytes());
        }
    }
    bytes
}

fn prevote(signer: &Signer, newest: &BlockHeader, digest: Option<u8>) -> Bytes {
    let hash = |byte| Bytes::from(vec![byte; 32]);
    let vote = bft::Vote {
        kind: 1,
        height: newest.number + 1,
        value: digest.map(|byte| bft::WireBlockId {
            digest: hash(byte),
            data_hash: hash(byte),
            view: 0,
            is_config: false,
        }),
        voter: 4,
        signature: signer.current().sign(&signed_bytes(newest, digest)).into(),
        ..Default::default()
    };
    message(bft::Body::Vote(vote))
}

fn message(body: bft::Body) -> Bytes {
    let message = bft::Message {
        version: bft::VERSION,
        body: Some(body),
    };
    message.encode_to_vec().into()
}

#[tokio::test]
async fn a_bft_cluster_counts_what_it_refuses_and_goes_on() {
    let (lines, _listening) = Lines::listen();
    let cluster = without_the_last(Consensus::Bft, 4).await;
    let watched = (cluster.operations(0), &lines);
    let consenters: Arc<[Consenter]> = cluster.nodes.iter().map(|n| n.consenter.clone()).collect();
    let kind = |own| Kind::Bft {
        own,
        consenters: consenters.clone(),
    };
    let attacker = Attacker::with_keys_of(&cluster, 3).on(CHANNEL, kind(4));
    let attacker = attacker.on("nowhere", kind(4));
    let blocks = cluster.level(&[0, 1, 2]).await;
    let newest = blocks.last().unwrap().header.clone().unwrap();
    let vote = |voter, height| bft::Vote {
        kind: 1,
        height,
        voter,
        signature: vec![1; 70].into(),
        ..Default::default()
    };
    let other = bft::Message {
        version: bft::VERSION + 1,
        body: None,
    };
    let unlinked = bft::Proposal {
        height: newest.number + 1,
        proposer: 4,
        block: blocks[1].encode_to_vec().into(),
        ..Default::default()
    };
    let forged = message(bft::Body::Vote(vote(2, newest.number + 1)));
    let replayed = message(bft::Body::Vote(vote(4, newest.number - 1)));
    for (reason, message) in [
        ("consensus_malformed", Bytes::from(vec![0xff; 9])),
        ("consensus_version", other.encode_to_vec().into()),
        ("consensus_signature", forged),
        ("consensus_stale", replayed),
        ("consensus_block", message(bft::Body::Proposal(unlinked))),
    ] {
        check(watched, (CHANNEL, reason), async || {
            attacker.say(CHANNEL, message.clone());
        })
        .await;
    }
    let votes = [None, Some(1), Some(2)].map(|digest| prevote(&attacker.signer, &newest, digest));
    check(watched, (CHANNEL, "consensus_equivocation"), async || {
        for vote in &votes {
            attacker.say(CHANNEL, vote.clone());
        }
    })
    .await;
    check(
        watched,
        ("unknown", "cluster_unknown_channel"),
        async || {
            attacker.say("nowhere", "x");
        },
    )
    .await;
    let pretender = Attacker::with_keys_of(&cluster, 3).on(CHANNEL, kind(2));
    check(watched, (CHANNEL, "cluster_forged"), async || {
        pretender.say(CHANNEL, "x");
    })
    .await;
    drop((attacker, pretender));
    goes_on(cluster, 4).await;
}

#[tokio::test]
async fn blocks_that_do_not_link_are_counted_until_honest_ones_come() {
    let (lines, _listening) = Lines::listen();
    let world = World::new();
    let mut settings = world.settings();
    settings.metrics.provider = "prometheus".to_owned();
    let orderer = world.start(&settings).await;
    let at = ("127.0.0.1", orderer.operations.port());
    let lying = Arc::new(AtomicBool::new(true));
    let twist: Twist = {
        let lying = lying.clone();
        Arc::new(move |mut block| {
            if block.number() == 2 && lying.load(Ordering::Relaxed) {
                block.header.as_mut().unwrap().previous_hash = vec![1; 32].into();
            }
            Some(block)
        })
    };
    let source = Source::start(&world, &[], twist).await;
    let other = Pair::new(&world.orderer_org);
    let maker = Maker::new(&world, &|root| {
        set_endpoints(root, std::slice::from_ref(&source.address));
        set_consenters(root, &[&other]);
    });
    let maker = maker.normal(3);
    source.blocks.send_replace(maker.blocks.clone());
    let mut joined = false;
    check((at, &lines), (CHANNEL, "fetched_block"), async || {
        if !std::mem::replace(&mut joined, true) {
            assert_eq!(join(&orderer, &maker.blocks[0]).await.0, 201);
        }
    })
    .await;
    lying.store(false, Ordering::Relaxed);
    let height = format!("ledger_blockchain_height{{channel=\"{CHANNEL}\"}} 4");
    let arriving = async {
        loop {
            let (_, text, _) = http_to(at, "GET /metrics HTTP/1.1\r\n", b"").await;
            if text.lines().any(|line| line == height) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(arriving).await;
    source.stop().await;
    orderer.stop().await;
}
