//! Blocks that real Fabric networks ordered go through this peer's whole committing path and come
//! out with the bytes that Fabric's peers stored: the same validation codes, the same commit hash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use selvage_env::Env;
use selvage_ledger::LedgerOptions;
use selvage_net::CancellationToken;
use selvage_peer::channels::{Channels, PeerChannel};
use selvage_peer::committer::{Committer, CommitterOptions};
use selvage_peer::validator::Validator;
use selvage_proto::common::{Block, BlockMetadataIndex};
use selvage_proto::peer::TxValidationCode;
use selvage_testing::golden_dir;

fn block(path: &Path) -> Block {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Block::decode(&bytes[..]).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A block as the orderer sent it: without what peers add.
fn as_ordered(mut block: Block) -> Block {
    block.set_metadata_slot(BlockMetadataIndex::TransactionsFilter, Bytes::new());
    if block
        .metadata
        .as_ref()
        .is_some_and(|m| m.metadata.len() > 4)
    {
        block.set_metadata_slot(BlockMetadataIndex::CommitHash, Bytes::new());
    }
    block
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

fn codes(block: &Block) -> Vec<&'static str> {
    block
        .metadata_slot(BlockMetadataIndex::TransactionsFilter)
        .iter()
        .map(|code| TxValidationCode::try_from(i32::from(*code)).map_or("?", |c| c.as_str_name()))
        .collect()
}

async fn commit(committer: &Committer, channel: &PeerChannel, ordered: Block) {
    let number = ordered.number();
    committer
        .offer(ordered)
        .await
        .unwrap_or_else(|e| panic!("block {number}: {e:?}"));
    let mut height = channel.height_watch();
    tokio::select! {
        _ = height.wait_for(|h| *h > number) => {}
        error = committer.stopped() => panic!("block {number}: {error:?}"),
    }
}

fn compare(channel: &PeerChannel, expected: &Block) {
    let number = expected.number();
    let stored = channel
        .ledger()
        .block_by_number(number)
        .expect("stored block");
    assert_eq!(codes(&stored), codes(expected), "codes of block {number}");
    let slot = BlockMetadataIndex::CommitHash;
    assert_eq!(
        hex::encode(stored.metadata_slot(slot)),
        hex::encode(expected.metadata_slot(slot)),
        "commit hash of block {number}"
    );
    assert_eq!(stored, *expected, "block {number}");
}

/// Replays ordered blocks and compares with what Fabric's peer stored; opens the ledger anew in the
/// middle.
async fn replay(ordered: Vec<Block>, expected: Vec<Block>) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let channels = Channels::new(dir.path(), Env::real(), LedgerOptions::default());
    let mut channel = channels.join(ordered[0].clone()).expect("join");
    compare(&channel, &expected[0]);
    let mut committer = start(&channel);
    let middle = ordered.len() / 2;
    let id = channel.id().to_owned();
    let mut registry = channels;
    for (number, block) in ordered.iter().enumerate().skip(1) {
        if number == middle {
            committer.finish().await;
            drop((committer, channel, registry));
            registry = Channels::new(dir.path(), Env::real(), LedgerOptions::default());
            registry.open_all().expect("open again");
            channel = registry.get(&id).expect("channel");
            assert_eq!(channel.height(), number as u64);
            committer = start(&channel);
        }
        commit(&committer, &channel, block.clone()).await;
        compare(&channel, &expected[number]);
    }
    committer.finish().await;
}

fn folder(dir: PathBuf, count: usize, name: impl Fn(usize) -> String) -> Vec<Block> {
    (0..count).map(|n| block(&dir.join(name(n)))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_of_the_corpus_replays() {
    let Some(golden) = golden_dir("every_block_of_the_corpus_replays") else {
        return;
    };
    let corpus = golden.join("corpus");
    let name = |n: usize| format!("{n:03}.block");
    let ordered = folder(corpus.join("orderer-blocks"), 208, name);
    let expected = folder(corpus.join("blocks"), 208, name);
    replay(ordered, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_a_raft_network_replay() {
    let Some(golden) = golden_dir("blocks_of_a_raft_network_replay") else {
        return;
    };
    let expected = folder(golden.join("raft"), 6, |n| format!("b{n}.block"));
    replay(expected.iter().cloned().map(as_ordered).collect(), expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_of_a_bft_network_replay() {
    let Some(golden) = golden_dir("blocks_of_a_bft_network_replay") else {
        return;
    };
    let expected = folder(golden.join("bft"), 4, |n| format!("b{n}.block"));
    replay(expected.iter().cloned().map(as_ordered).collect(), expected).await;
}
