//! The committing path over a real ledger: order, verification, configuration changes, restarts.

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{CHANNEL, Network, Tx, results, sign_block, writes};
use prost::Message;
use selvage_env::Env;
use selvage_identity::SigningIdentity;
use selvage_ledger::LedgerOptions;
use selvage_net::CancellationToken;
use selvage_peer::channels::{Channels, JoinError, PeerChannel};
use selvage_peer::committer::{Committer, CommitterOptions, OfferError};
use selvage_peer::validator::Validator;
use selvage_proto::common::{Block, BlockMetadataIndex};
use selvage_proto::kvrwset::range_query_info::ReadsInfo;
use selvage_proto::kvrwset::{KvRead, KvrwSet, QueryReads, RangeQueryInfo};
use selvage_proto::peer::TxValidationCode as Code;

fn open(dir: &Path) -> Channels {
    Channels::new(dir, Env::real(), LedgerOptions::default())
}

fn start(channel: &Arc<PeerChannel>) -> Committer {
    let validator = Arc::new(Validator::new(2).expect("threads"));
    let options = CommitterOptions::default();
    Committer::start(
        channel.clone(),
        validator,
        options,
        CancellationToken::new(),
    )
}

async fn height(channel: &PeerChannel, wanted: u64) {
    let mut height = channel.height_watch();
    height
        .wait_for(|h| *h >= wanted)
        .await
        .expect("the channel lives");
}

/// A transaction of a chaincode nobody defined: invalid, which is all these tests need.
fn undefined(network: &Network) -> Tx {
    Tx::new(
        &network.one.client,
        &[&network.one.peer],
        "none",
        &writes("none", &[("k", "v")]),
    )
}

/// A transaction that writes to `_lifecycle`, the one namespace every channel has from the start.
fn lifecycle(network: &Network, key: &str) -> Tx {
    let set = writes("_lifecycle", &[(key, "value")]);
    Tx::new(
        &network.one.client,
        &[&network.one.peer, &network.two.peer],
        "_lifecycle",
        &set,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_committed_and_announced() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let channel = channels.join(network.genesis.clone()).expect("join");
    let committer = start(&channel);
    let mut commits = channel.subscribe();
    let (valid, invalid) = (lifecycle(&network, "k"), undefined(&network));
    let waiting = {
        let (channel, id) = (channel.clone(), valid.id().to_owned());
        tokio::spawn(async move { channel.commit_status(&id).await })
    };
    let envelopes = vec![valid.seal(), invalid.seal(), valid.seal()];
    let first = network.block(&network.genesis, envelopes);
    committer.offer(first.clone()).await.expect("block 1");
    let status = waiting.await.expect("task").expect("status");
    assert_eq!((status.block_number, status.code), (1, Code::Valid));
    let announced = commits.recv().await.expect("announcement");
    let codes: Vec<Code> = announced.transactions.iter().map(|tx| tx.code).collect();
    assert_eq!(
        codes,
        [Code::Valid, Code::InvalidChaincode, Code::DuplicateTxid]
    );
    assert!(!announced.reconfigured);
    let again = channel
        .commit_status(invalid.id())
        .await
        .expect("known already");
    assert_eq!(again.code, Code::InvalidChaincode);
    let recent = channel.recent_block(1).expect("kept in memory");
    assert_eq!(
        *recent,
        channel.ledger().block_by_number(1).expect("stored")
    );
    assert_eq!(
        recent.metadata_slot(BlockMetadataIndex::TransactionsFilter),
        codes.iter().map(|c| *c as u8).collect::<Vec<_>>()
    );
    committer
        .offer(first)
        .await
        .expect("a known block is passed over");
    committer.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocks_in_flight_keep_their_order() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let channel = channels.join(network.genesis.clone()).expect("join");
    let committer = start(&channel);
    let mut newest = network.genesis.clone();
    let mut ids = Vec::new();
    for number in 0..20 {
        let tx = lifecycle(&network, &format!("key{}", number % 3));
        ids.push(tx.id().to_owned());
        newest = network.block(&newest, vec![tx.seal()]);
        committer.offer(newest.clone()).await.expect("block");
    }
    height(&channel, 21).await;
    for (number, id) in ids.iter().enumerate() {
        let status = channel.commit_status(id).await.expect("status");
        assert_eq!(status.block_number, number as u64 + 1);
        assert_eq!(status.code, Code::Valid);
    }
    committer.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_counts_from_the_next_block_on() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let channel = channels.join(network.genesis.clone()).expect("join");
    let committer = start(&channel);
    assert!(channel.definition("none").expect("readable").is_none());
    let definition = common::define(&network, "none", "OR('OneMSP.peer')");
    let first = network.block(
        &network.genesis,
        vec![definition.seal(), undefined(&network).seal()],
    );
    let second = network.block(&first, vec![undefined(&network).seal()]);
    let mut commits = channel.subscribe();
    committer.offer(first).await.expect("block 1");
    committer.offer(second).await.expect("block 2");
    let announced = commits.recv().await.expect("announcement");
    assert_eq!(announced.redefined, ["none"]);
    assert_eq!(announced.transactions[1].code, Code::InvalidChaincode);
    let announced = commits.recv().await.expect("announcement");
    assert_eq!(announced.transactions[0].code, Code::Valid);
    assert_eq!(
        channel
            .definition("none")
            .expect("readable")
            .expect("defined")
            .sequence,
        1
    );
    committer.finish().await;
}

/// What the ledger finds out comes last: a conflict counts where nothing else is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_come_after_everything_else() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let channel = channels.join(network.genesis.clone()).expect("join");
    let committer = start(&channel);
    // As if the key and the range had been read before the first write.
    let stale = KvRead {
        key: "k".to_owned(),
        version: None,
    };
    let nothing = RangeQueryInfo {
        start_key: "a".to_owned(),
        end_key: "z".to_owned(),
        itr_exhausted: true,
        reads_info: Some(ReadsInfo::RawReads(QueryReads::default())),
    };
    let tx = |set: &KvrwSet, endorsers: &[&Arc<SigningIdentity>]| {
        let set = results(&[("_lifecycle", set.clone())]);
        Tx::new(&network.one.client, endorsers, "_lifecycle", &set)
    };
    let both = [&network.one.peer, &network.two.peer];
    let key = KvrwSet {
        reads: vec![stale],
        ..Default::default()
    };
    let range = KvrwSet {
        range_queries_info: vec![nothing],
        ..Default::default()
    };
    let key_and_range = KvrwSet {
        reads: key.reads.clone(),
        ..range.clone()
    };
    let conflict = tx(&key, &both);
    let second = vec![
        tx(&range, &both).seal(),
        tx(&key_and_range, &both).seal(),
        conflict.seal(),
        // Its id was used by a transaction that was good until the ledger looked at it.
        conflict.seal(),
        tx(&key_and_range, &both[..1]).seal(),
    ];
    let first = network.block(&network.genesis, vec![lifecycle(&network, "k").seal()]);
    let second = network.block(&first, second);
    let mut commits = channel.subscribe();
    committer.offer(first).await.expect("block 1");
    committer.offer(second).await.expect("block 2");
    let announced = commits.recv().await.expect("announcement");
    assert_eq!(announced.transactions[0].code, Code::Valid);
    let announced = commits.recv().await.expect("announcement");
    let codes: Vec<Code> = announced.transactions.iter().map(|tx| tx.code).collect();
    assert_eq!(
        codes,
        [
            Code::PhantomReadConflict,
            Code::MvccReadConflict,
            Code::MvccReadConflict,
            Code::DuplicateTxid,
            Code::EndorsementPolicyFailure,
        ]
    );
    committer.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_do_not_verify_are_refused() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let channel = channels.join(network.genesis.clone()).expect("join");
    let committer = start(&channel);
    let envelope = undefined(&network).seal();
    let good = network.block(&network.genesis, vec![envelope.clone()]);
    let refused = |what: &'static str, block: Block| {
        let committer = &committer;
        async move {
            let error = committer.offer(block).await.expect_err(what);
            assert!(
                matches!(error, OfferError::Verify { .. }),
                "{what}: {error:?}"
            );
        }
    };
    let by_peer = sign_block(&network.genesis, vec![envelope], &network.one.peer);
    refused("signed by a peer", by_peer).await;
    let mut other = good.clone();
    other.data.as_mut().expect("data").data[0] = undefined(&network).seal();
    refused("other data", other).await;
    let mut unsigned = good.clone();
    unsigned.set_metadata_slot(BlockMetadataIndex::Signatures, Bytes::new());
    refused("no signatures", unsigned).await;
    refused("another parent", {
        let mut fork = good.clone();
        fork.header.as_mut().expect("header").previous_hash = Bytes::from_static(b"other");
        fork
    })
    .await;
    let gap = network.block(&good, vec![undefined(&network).seal()]);
    let error = committer.offer(gap).await.expect_err("a gap");
    assert!(
        matches!(
            error,
            OfferError::Gap {
                got: 2,
                expected: 1,
                ..
            }
        ),
        "{error:?}"
    );
    committer
        .offer(good)
        .await
        .expect("the right block still comes in");
    height(&channel, 2).await;
    committer.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_joined_once_and_found_again() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let channel = channels.join(network.genesis.clone()).expect("join");
    let error = channels.join(network.genesis.clone()).expect_err("twice");
    assert_eq!(
        error.to_string(),
        "cannot create ledger from genesis block: ledger [testchannel] already exists with state \
         [ACTIVE]"
    );
    let committer = start(&channel);
    let tx = lifecycle(&network, "k");
    let first = network.block(&network.genesis, vec![tx.seal()]);
    committer.offer(first.clone()).await.expect("block 1");
    height(&channel, 2).await;
    committer.finish().await;
    drop((committer, channel, channels));
    // A join that was interrupted leaves a folder without blocks.
    std::fs::create_dir(dir.path().join("halfway")).expect("folder");
    let channels = open(dir.path());
    channels.open_all().expect("open");
    assert_eq!(channels.list().len(), 1);
    assert!(!dir.path().join("halfway").exists());
    let channel = channels.get(CHANNEL).expect("channel");
    assert_eq!(channel.height(), 2);
    let status = channel
        .committed_status(tx.id())
        .expect("readable")
        .expect("known");
    assert_eq!(status.code, Code::Valid);
    let committer = start(&channel);
    let second = network.block(&first, vec![tx.seal()]);
    committer.offer(second).await.expect("block 2");
    height(&channel, 3).await;
    let stored = channel.ledger().block_by_number(2).expect("stored");
    let filter = stored.metadata_slot(BlockMetadataIndex::TransactionsFilter);
    assert_eq!(filter, [Code::DuplicateTxid as u8]);
    committer.finish().await;
}

#[test]
fn what_is_no_genesis_block_is_refused() {
    let (network, dir) = (Network::new(), tempfile::tempdir().expect("folder"));
    let channels = open(dir.path());
    let next = network.block(&network.genesis, vec![undefined(&network).seal()]);
    assert!(matches!(channels.join(next), Err(JoinError::NotGenesis(1))));
    assert!(matches!(
        channels.join(Block::default()),
        Err(JoinError::Config { .. })
    ));
    let mut truncated = network.genesis.clone();
    let data = &mut truncated.data.as_mut().expect("data").data[0];
    *data = data.slice(..data.len() / 2);
    assert!(matches!(
        channels.join(truncated),
        Err(JoinError::Config { .. })
    ));
    assert!(channels.list().is_empty());
    let decoded = Block::decode(network.genesis.encode_to_vec().as_slice()).expect("block");
    channels.join(decoded).expect("the block itself is fine");
}
