//! The block browser: what is on a channel, read from a peer.
//!
//! While somebody looks, a feed follows the channel's blocks, counts them into the database and
//! hands them on live; it ends a while after the last look, so an idle manager costs its network
//! nothing. Details are read from a peer when they are asked for.

mod view;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use futures::StreamExt;
use parking_lot::Mutex;
use selvage_client::{ClientError, From as Start, PeerAdmin};
use selvage_manager_api::agent::{
    BlockCount, BlockList, LiveBlock, OrgTxCount, SearchResult, TransactionDetail, TransactionList,
    TransactionTotal, TxCount,
};
use selvage_manager_api::{ApiError, ErrorCode};
use selvage_proto::common::Block;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::clock;
use crate::error::ManagerError;
use crate::fabric::Site;
use crate::nodes::Nodes;
use crate::store::Store;
use view::Decoded;

/// A feed ends this long after the last look.
const IDLE_MS: i64 = 120_000;
/// How long a request waits for the index to reach the peer's height.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Pause before another peer is tried.
const RETRY: Duration = Duration::from_millis(500);
/// Blocks put into the database at once.
const BATCH: usize = 100;
/// Live blocks kept for a slow viewer.
const LIVE: usize = 64;
/// Transactions shown with a live block.
const LIVE_TRANSACTIONS: usize = 100;
/// Feeds at once.
const FEEDS: usize = 32;
/// Bytes of blocks kept decoded.
const CACHE_BYTES: usize = 4 << 20;

/// Which channel of which instance, and where it is.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) instance: String,
    pub(crate) channel: String,
    pub(crate) site: Site,
}

type Key = (String, String);

struct Feed {
    admins: Vec<PeerAdmin>,
    live: broadcast::Sender<Arc<LiveBlock>>,
    /// Blocks in the index.
    indexed: watch::Sender<u64>,
    last_look: AtomicI64,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The browser. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Browser {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    nodes: Nodes,
    feeds: Mutex<HashMap<Key, Arc<Feed>>>,
    cache: Mutex<Cache>,
}

/// Blocks looked at lately, oldest first.
#[derive(Default)]
struct Cache {
    blocks: VecDeque<(Key, u64, Arc<Decoded>)>,
    bytes: usize,
}

impl Cache {
    fn get(&self, key: &Key, number: u64) -> Option<Arc<Decoded>> {
        let found = self
            .blocks
            .iter()
            .find(|(k, n, _)| k == key && *n == number)?;
        Some(Arc::clone(&found.2))
    }

    fn put(&mut self, key: Key, number: u64, block: Arc<Decoded>) {
        self.bytes += block.view.size;
        self.blocks.push_back((key, number, block));
        while self.bytes > CACHE_BYTES {
            let Some((_, _, old)) = self.blocks.pop_front() else {
                break;
            };
            self.bytes -= old.view.size;
        }
    }
}

fn failed(error: &ClientError) -> ApiError {
    ApiError::new(
        ErrorCode::SystemError,
        format!("the peer did not answer: {}", error.text()),
    )
}

fn not_found(what: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("Not Found: {what}"))
}

/// Whether a peer answered the block it was asked for: the greatest number of all means the newest
/// block to Fabric.
fn is_number(block: &Block, number: u64) -> Result<(), ApiError> {
    match &block.header {
        Some(header) if header.number == number => Ok(()),
        _ => Err(not_found(&format!("block {number}"))),
    }
}

impl Browser {
    pub(crate) fn new(store: Store, nodes: Nodes) -> Self {
        let inner = Inner {
            store,
            nodes,
            feeds: Mutex::default(),
            cache: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Ends every feed.
    pub(crate) fn stop(&self) {
        for (_, feed) in self.inner.feeds.lock().drain() {
            feed.end();
        }
    }

    /// Ends the feeds of an instance that goes away.
    pub(crate) fn forget(&self, instance: &str) {
        self.inner.feeds.lock().retain(|(id, _), feed| {
            let stays = id != instance;
            if !stays {
                feed.end();
            }
            stays
        });
        let mut cache = self.inner.cache.lock();
        *cache = Cache::default();
    }

    fn feed(&self, place: &Place) -> Result<Arc<Feed>, ApiError> {
        let key = (place.instance.clone(), place.channel.clone());
        let mut feeds = self.inner.feeds.lock();
        feeds.retain(|_, f| !f.is_over());
        if let Some(feed) = feeds.get(&key) {
            feed.last_look.store(clock::now_ms(), Ordering::Relaxed);
            return Ok(Arc::clone(feed));
        }
        if feeds.len() >= FEEDS {
            return Err(ApiError::new(
                ErrorCode::Busy,
                format!("{FEEDS} channels are being looked at; try again in two minutes"),
            ));
        }
        let admins = self.admins(place)?;
        let feed = Arc::new(Feed {
            admins,
            live: broadcast::Sender::new(LIVE),
            indexed: watch::Sender::new(0),
            last_look: AtomicI64::new(clock::now_ms()),
            task: Mutex::default(),
        });
        let task = tokio::spawn(follow(
            self.inner.store.clone(),
            place.clone(),
            Arc::clone(&feed),
        ));
        *feed.task.lock() = Some(task);
        feeds.insert(key, Arc::clone(&feed));
        Ok(feed)
    }

    fn admins(&self, place: &Place) -> Result<Vec<PeerAdmin>, ApiError> {
        let network = &place.site.network;
        let channel = network
            .channel(&place.channel)
            .ok_or_else(|| ApiError::new(ErrorCode::BadChannelName, "Invalid channel name."))?;
        let all: Result<Vec<PeerAdmin>, ManagerError> = network
            .members(channel)
            .flat_map(|org| org.nodes.iter().map(move |node| (org, node)))
            .map(|(org, node)| self.inner.nodes.admin(&place.site, org, node))
            .collect();
        Ok(all?)
    }

    /// Height of the channel on the first peer that answers.
    async fn height(&self, place: &Place, feed: &Feed) -> Result<u64, ApiError> {
        let mut last = not_found("a peer of the channel");
        for admin in &feed.admins {
            match admin.channel_info(&place.channel).await {
                Ok(info) => return Ok(info.height),
                Err(error) => last = failed(&error),
            }
        }
        Err(last)
    }

    /// The feed and the peer's height, once the index has reached it or time is up.
    async fn fresh(&self, place: &Place) -> Result<(Arc<Feed>, u64), ApiError> {
        let feed = self.feed(place)?;
        let height = self.height(place, &feed).await?;
        let mut indexed = feed.indexed.subscribe();
        let _ = tokio::time::timeout(CATCH_UP, indexed.wait_for(|n| *n >= height)).await;
        Ok((feed, height))
    }

    async fn counted(&self, place: &Place) -> Result<(u64, u64), ApiError> {
        let last = self
            .inner
            .store
            .last_block(&place.instance, &place.channel)
            .await?;
        Ok(last.map_or((0, 0), |b| (b.number + 1, b.tx_total)))
    }

    /// Counters of a channel: height, blocks counted, transactions counted.
    pub(crate) async fn counters(&self, place: &Place) -> Result<(u64, u64, u64), ApiError> {
        let (_, height) = self.fresh(place).await?;
        let (indexed, transactions) = self.counted(place).await?;
        Ok((height, indexed, transactions))
    }

    /// `transactions/count`.
    pub(crate) async fn total(&self, place: &Place) -> Result<TransactionTotal, ApiError> {
        let (block_height, _, transaction_num) = self.counters(place).await?;
        Ok(TransactionTotal {
            channel_id: place.channel.clone(),
            block_height,
            transaction_num,
        })
    }

    /// Curves: blocks and transactions per interval over a span.
    pub(crate) async fn rates(
        &self,
        place: &Place,
        interval_ms: i64,
        span_ms: i64,
    ) -> Result<(Vec<BlockCount>, Vec<TxCount>), ApiError> {
        let since = clock::now_ms() - span_ms;
        let rows = self
            .inner
            .store
            .block_rates(&place.instance, &place.channel, since, interval_ms)
            .await?;
        let time = |slot: i64| clock::rfc3339(slot.saturating_mul(1_000_000));
        Ok(rows
            .into_iter()
            .map(|(slot, block, tx)| {
                (
                    BlockCount {
                        block,
                        time: time(slot),
                    },
                    TxCount {
                        tx,
                        time: time(slot),
                    },
                )
            })
            .unzip())
    }

    /// Transactions per organisation.
    pub(crate) async fn by_org(&self, place: &Place) -> Result<Vec<OrgTxCount>, ApiError> {
        let rows = self
            .inner
            .store
            .creators(&place.instance, &place.channel)
            .await?;
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (msp, count) in rows {
            *by_name
                .entry(view::org_name(&place.site.network, &msp))
                .or_default() += count;
        }
        Ok(by_name
            .into_iter()
            .map(|(org_name, tx_num)| OrgTxCount { org_name, tx_num })
            .collect())
    }

    /// A page of blocks, newest first.
    pub(crate) async fn blocks(
        &self,
        place: &Place,
        offset: u64,
        limit: u32,
    ) -> Result<BlockList, ApiError> {
        self.fresh(place).await?;
        let (count, _) = self.counted(place).await?;
        let rows = self
            .inner
            .store
            .blocks(&place.instance, &place.channel, offset, limit)
            .await?;
        Ok(BlockList {
            count,
            data: rows.iter().map(view::block_row).collect(),
        })
    }

    /// A page of transactions, newest first.
    pub(crate) async fn transactions(
        &self,
        place: &Place,
        offset: u64,
        limit: u32,
    ) -> Result<TransactionList, ApiError> {
        let (feed, _) = self.fresh(place).await?;
        let (_, count) = self.counted(place).await?;
        let last = count.saturating_sub(offset);
        let first = last.saturating_sub(u64::from(limit)) + 1;
        let mut data = Vec::new();
        if last > 0 {
            let rows = self
                .inner
                .store
                .blocks_of_transactions(&place.instance, &place.channel, first, last)
                .await?;
            for row in rows.iter().rev() {
                let block = self.block(place, &feed, row.number).await?;
                let before = row.tx_total - u64::from(row.tx_count);
                for (at, tx) in block.view.transactions.iter().enumerate().rev() {
                    let position = before + at as u64 + 1;
                    if (first..=last).contains(&position) {
                        let network = &place.site.network;
                        data.push(view::transaction_row(network, row.number, tx));
                    }
                }
            }
        }
        Ok(TransactionList { count, data })
    }

    async fn read<F, Fut>(&self, feed: &Feed, ask: F) -> Result<Block, ApiError>
    where
        F: Fn(PeerAdmin) -> Fut,
        Fut: Future<Output = Result<Block, ClientError>>,
    {
        let mut last = not_found("a peer of the channel");
        for admin in &feed.admins {
            match ask(admin.clone()).await {
                Ok(block) => return Ok(block),
                // The peer answered: asking another one gives the same.
                Err(ClientError::Endorsement { message, .. }) => return Err(not_found(&message)),
                Err(error) => last = failed(&error),
            }
        }
        Err(last)
    }

    async fn block(
        &self,
        place: &Place,
        feed: &Feed,
        number: u64,
    ) -> Result<Arc<Decoded>, ApiError> {
        let key = (place.instance.clone(), place.channel.clone());
        if let Some(found) = self.inner.cache.lock().get(&key, number) {
            return Ok(found);
        }
        let channel = &place.channel;
        let ask = |admin: PeerAdmin| async move { admin.block(channel, number).await };
        let block = self.read(feed, ask).await?;
        is_number(&block, number)?;
        Ok(self.keep(key, number, &block))
    }

    fn keep(&self, key: Key, number: u64, block: &Block) -> Arc<Decoded> {
        let decoded = Arc::new(view::decode(block));
        self.inner
            .cache
            .lock()
            .put(key, number, Arc::clone(&decoded));
        decoded
    }

    /// Transactions of a block in full.
    pub(crate) async fn block_transactions(
        &self,
        place: &Place,
        number: u64,
    ) -> Result<Vec<TransactionDetail>, ApiError> {
        let feed = self.feed(place)?;
        let block = self.block(place, &feed, number).await?;
        let count = block.view.transactions.len();
        Ok((0..count)
            .filter_map(|at| view::detail(&place.site.network, &block, at))
            .collect())
    }

    /// A transaction in full.
    pub(crate) async fn transaction(
        &self,
        place: &Place,
        tx_id: &str,
    ) -> Result<TransactionDetail, ApiError> {
        if tx_id.is_empty() || tx_id.len() > 128 || !tx_id.is_ascii() {
            return Err(ApiError::bad("a transaction id is hexadecimal text"));
        }
        let feed = self.feed(place)?;
        let channel = &place.channel;
        let ask = |admin: PeerAdmin| async move { admin.block_by_tx_id(channel, tx_id).await };
        let block = self.read(&feed, ask).await?;
        let number = block.header.as_ref().map_or(0, |h| h.number);
        let key = (place.instance.clone(), place.channel.clone());
        let decoded = self.keep(key, number, &block);
        let at = decoded.view.transactions.iter().position(|t| t.id == tx_id);
        at.and_then(|at| view::detail(&place.site.network, &decoded, at))
            .ok_or_else(|| not_found("the transaction"))
    }

    /// A block by number or hash (hexadecimal or base64), or a transaction by id.
    pub(crate) async fn search(&self, place: &Place, q: &str) -> Result<SearchResult, ApiError> {
        let q = q.trim();
        let feed = self.feed(place)?;
        let numeric = !q.is_empty() && q.len() <= 19 && q.bytes().all(|b| b.is_ascii_digit());
        if numeric {
            let number = q
                .parse()
                .map_err(|_| ApiError::bad("no such block number"))?;
            let block = self.block(place, &feed, number).await?;
            return Ok(found_block(&block));
        }
        let hash = hex::decode(q)
            .or_else(|_| STANDARD_NO_PAD.decode(q))
            .or_else(|_| STANDARD.decode(q))
            .ok()
            .filter(|h| h.len() == 32);
        let Some(hash) = hash else {
            return Err(ApiError::bad(
                "q must be a block number, a block hash or a transaction id",
            ));
        };
        if q.len() == 64
            && let Ok(detail) = self.transaction(place, &q.to_lowercase()).await
        {
            return Ok(SearchResult::Transaction {
                transaction: Box::new(detail),
            });
        }
        let channel = &place.channel;
        let ask = |admin: PeerAdmin| {
            let hash = hash.clone();
            async move { admin.block_by_hash(channel, hash).await }
        };
        let block = self.read(&feed, ask).await?;
        Ok(found_block(&view::decode(&block)))
    }

    /// Blocks as they are committed, from now on.
    pub(crate) async fn live(
        &self,
        place: &Place,
    ) -> Result<broadcast::Receiver<Arc<LiveBlock>>, ApiError> {
        let (feed, _) = self.fresh(place).await?;
        Ok(feed.live.subscribe())
    }
}

fn found_block(block: &Decoded) -> SearchResult {
    SearchResult::Block {
        block: view::block_row(&view::entry(&block.view, 0)),
    }
}

impl Feed {
    fn end(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    fn is_over(&self) -> bool {
        self.task
            .lock()
            .as_ref()
            .is_none_or(JoinHandle::is_finished)
    }

    fn is_unwatched(&self) -> bool {
        let idle = clock::now_ms() - self.last_look.load(Ordering::Relaxed) > IDLE_MS;
        idle && self.live.receiver_count() == 0
    }
}

/// Follows a channel until nobody looks any more.
async fn follow(store: Store, place: Place, feed: Arc<Feed>) {
    let mut turn = 0;
    loop {
        if feed.is_unwatched() || feed.admins.is_empty() {
            return;
        }
        let admin = &feed.admins[turn % feed.admins.len()];
        turn += 1;
        match follow_peer(&store, &place, &feed, admin).await {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(channel = place.channel, %error, "the block feed broke off");
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow_peer(
    store: &Store,
    place: &Place,
    feed: &Feed,
    admin: &PeerAdmin,
) -> Result<(), ApiError> {
    let last = store.last_block(&place.instance, &place.channel).await?;
    let (mut next, mut total) = last.map_or((0, 0), |b| (b.number + 1, b.tx_total));
    feed.indexed.send_replace(next);
    let blocks = admin
        .peer()
        .blocks(admin.user(), &place.channel, Start::Block(next))
        .await
        .map_err(|e| failed(&e))?;
    let mut chunks = Box::pin(blocks.ready_chunks(BATCH));
    loop {
        let wait = Duration::from_millis(IDLE_MS.unsigned_abs() / 4);
        let chunk = match tokio::time::timeout(wait, chunks.next()).await {
            Err(_) if feed.is_unwatched() => return Ok(()),
            Err(_) => continue,
            Ok(None) => return Err(not_found("more blocks: the peer closed the stream")),
            Ok(Some(chunk)) => chunk,
        };
        let mut entries = Vec::with_capacity(chunk.len());
        let mut live = Vec::with_capacity(chunk.len());
        for block in chunk {
            let decoded = selvage_client::explorer::block(&block.map_err(|e| failed(&e))?);
            if decoded.number != next {
                return Err(not_found("the next block: the peer sent another one"));
            }
            let entry = view::entry(&decoded, total);
            (next, total) = (next + 1, entry.tx_total);
            let shown = decoded.transactions.iter().take(LIVE_TRANSACTIONS);
            let network = &place.site.network;
            live.push(Arc::new(LiveBlock {
                block: view::block_row(&entry),
                transactions: shown
                    .map(|t| view::transaction_row(network, entry.number, t))
                    .collect(),
            }));
            entries.push(entry);
        }
        store
            .add_blocks(&place.instance, &place.channel, &entries)
            .await?;
        feed.indexed.send_replace(next);
        for block in live {
            // Nobody listening is fine.
            let _ = feed.live.send(block);
        }
        if feed.is_unwatched() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_proto::common::BlockHeader;

    #[test]
    fn another_block_than_the_one_asked_for_is_none() {
        let block = |number| Block {
            header: Some(BlockHeader {
                number,
                ..BlockHeader::default()
            }),
            ..Block::default()
        };
        assert_eq!(is_number(&block(7), 7), Ok(()));
        for (block, number) in [(block(7), u64::MAX), (Block::default(), 7)] {
            let error = is_number(&block, number).expect_err("another block");
            assert_eq!(error.code, ErrorCode::NotFound);
            assert!(error.message.contains(&number.to_string()), "{error}");
        }
    }
}
