//! Blocks from the channel's other orderers: to catch up, to follow, and to see how things stand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_channel::ChannelConfig;
use selvage_channel::block::{
    BlockVerifier, is_config_block, verify_config_block, verify_signatures,
};
use selvage_net::deliver::{
    FollowError, Follower, Kind, Rejected, Signer, newest, only, specified,
};
use selvage_net::{CancellationToken, Endpoint};
use selvage_ordering::Member;
use selvage_proto::common::Block;
use tokio::sync::{mpsc, oneshot};

use super::{Chain, ClusterNode, Shared, config_after, engines};
use crate::cluster::consenter_address;
use crate::in_full;
use crate::local_msp::Signer as Own;
use crate::refusals::Reason;

/// Blocks fetched ahead of the writer.
const AHEAD: usize = 16;
/// The longest pause between attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How long one orderer may take to tell its newest block.
const PATIENCE: Duration = Duration::from_secs(5);

/// Configurations that others may be ahead when this node looks how things stand.
const MAX_CONFIGURATIONS: usize = 100;

/// This node's identity, as the one who asks for blocks.
struct Asker(Own);

impl Signer for Asker {
    fn creator(&self) -> Bytes {
        self.0.current().serialized()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.current().sign(message)
    }
}

/// Verified blocks on their way; dropping it ends the fetching.
pub(super) struct Fetching {
    blocks: mpsc::Receiver<Block>,
    stop: CancellationToken,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fetching {
    /// Fetches the blocks behind `newest`, each judged by the configuration in force before it.
    pub(super) fn begin(chain: &Arc<Chain>, newest: &Block, members: &[Member]) -> Self {
        let (sender, blocks) = mpsc::channel(AHEAD);
        let stop = chain.stop.child_token();
        let header = newest.header.clone().unwrap_or_default();
        let verifier = BlockVerifier::after(chain.config(), &header);
        let follower = follower(chain, members);
        let ended = stop.clone();
        tokio::spawn(async move {
            let verifier = Arc::new(Mutex::new(verifier));
            let accept = |block: Block, _| {
                let (verifier, sender) = (verifier.clone(), sender.clone());
                async move {
                    judge(&mut verifier.lock(), &block).map_err(Rejected)?;
                    // Whoever asked may not want it any more; then `stop` ends this.
                    let _ = sender.send(block).await;
                    Ok(())
                }
            };
            follower.run(header.number + 1, ended, accept).await;
        });
        Self { blocks, stop }
    }

    /// The next block; never, when the fetching has ended.
    pub(super) async fn next(&mut self) -> Block {
        match self.blocks.recv().await {
            Some(block) => block,
            None => std::future::pending().await,
        }
    }
}

/// Verifies the next block and takes over the configuration it may hold.
fn judge(verifier: &mut BlockVerifier, block: &Block) -> Result<(), String> {
    verifier.verify(block).map_err(|error| in_full(&error))?;
    if is_config_block(block) {
        let next = config_after(verifier.config(), block)?;
        verifier.set_config(Arc::new(next));
    }
    Ok(())
}

fn follower(chain: &Arc<Chain>, members: &[Member]) -> Follower {
    let (weak, members) = (Arc::downgrade(chain), members.to_vec());
    let join = chain.join_config();
    let endpoints = move || {
        let Some(chain) = weak.upgrade() else {
            return Vec::new();
        };
        let cluster = &chain.shared.cluster;
        match &join {
            // On the way to the block joined with, the blocks name orderers of old, which may be
            // gone.
            Some(join) if !chain.onboarded() => endpoints(join, cluster, &members),
            _ => endpoints(&chain.config(), cluster, &members),
        }
    };
    let weak = Arc::downgrade(chain);
    let refused = move |error: &FollowError| {
        if let Some(chain) = weak.upgrade() {
            chain.refused(Reason::Block, what_was_refused(error));
        }
    };
    Follower {
        refused: Some(Arc::new(refused)),
        ..asking(&chain.id, &chain.shared, Arc::new(endpoints))
    }
}

fn what_was_refused(error: &FollowError) -> String {
    match error {
        FollowError::Rejected {
            endpoint,
            number,
            reason,
        } => format!("block [{number}] of {endpoint}: {reason}"),
        FollowError::Order {
            endpoint,
            got,
            wanted,
        } => format!("block [{got}] of {endpoint}: block [{wanted}] was due"),
        other => other.to_string(),
    }
}

fn asking(
    channel_id: &str,
    shared: &Shared,
    endpoints: Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>,
) -> Follower {
    Follower {
        channel_id: channel_id.to_owned(),
        kind: Kind::Orderer,
        signer: Arc::new(Asker(shared.signer.clone())),
        endpoints,
        clock: shared.env.clock.clone(),
        rng: shared.env.rng.clone(),
        max_pause: MAX_PAUSE,
        idle: PATIENCE,
        best_effort: true,
        refused: None,
    }
}

/// The first block of a channel that this node joins with a later one. Whether it is the right one
/// shows when the blocks behind it lead to that later one.
pub(crate) async fn genesis(shared: &Shared, join: &ChannelConfig) -> Result<Block, String> {
    let endpoints = endpoints(join, &shared.cluster, &[]);
    let asked = endpoints.clone();
    let follower = asking(join.channel_id(), shared, Arc::new(move || asked.clone()));
    let mut troubles = Vec::new();
    for endpoint in &endpoints {
        let seek = only(specified(0));
        let fetched = tokio::time::timeout(PATIENCE, follower.fetch(endpoint, &seek)).await;
        let block = match fetched {
            Ok(Ok(Some(block))) => block,
            Ok(Ok(None)) => continue,
            Ok(Err(error)) => {
                troubles.push(in_full(&error));
                continue;
            }
            Err(_) => {
                troubles.push(format!("{endpoint}: no answer in time"));
                continue;
            }
        };
        match verify_config_block(&block) {
            Ok(config) if config.channel_id() == join.channel_id() && block.number() == 0 => {
                return Ok(block);
            }
            _ => troubles.push(format!("{endpoint}: its first block is of another channel")),
        }
    }
    Err(format!(
        "none of the channel's orderers gives its first block, they are asked again; make sure that \
         one of them can be reached from here ({})",
        troubles.join("; ")
    ))
}

/// Where the other orderers can be asked: the consenters, those of the configuration in force and
/// those the engine knows, and the addresses that the orderer organisations give.
fn endpoints(config: &ChannelConfig, cluster: &ClusterNode, members: &[Member]) -> Vec<Endpoint> {
    let Some(tls) = &cluster.tls else {
        return Vec::new();
    };
    let mut found: Vec<Endpoint> = Vec::new();
    let places = engines::places(config);
    let (own, others): (Vec<_>, Vec<_>) = places
        .into_iter()
        .partition(|place| cluster.is_own(&place.server_tls_cert));
    let addresses = others
        .iter()
        .map(|place| (place.address.clone(), &place.server_tls_cert))
        .chain(
            members
                .iter()
                .map(|m| (consenter_address(&m.host, m.port), &m.server_tls_cert)),
        );
    for (address, certificate) in addresses {
        if found.iter().any(|known| known.address == address) {
            continue;
        }
        if let Ok(client) = tls.to_certificate(certificate) {
            found.push(Endpoint::new(address, Some(client)));
        }
    }
    let orgs = config.orderer().into_iter().flat_map(|o| o.orgs().values());
    for (org, address) in orgs.flat_map(|org| org.endpoints.iter().map(move |a| (org, a))) {
        let known = found.iter().any(|endpoint| endpoint.address == *address);
        if known || own.iter().any(|place| place.address == *address) {
            continue;
        }
        if let Ok(client) = tls.to_organisation(config, &org.msp_id) {
            found.push(Endpoint::new(address, Some(client)));
        }
    }
    found
}

/// How far the channel is elsewhere.
pub(super) struct Findings {
    /// Blocks of the orderer that has the most.
    pub(super) height: u64,
    newest: Option<(Arc<ChannelConfig>, Block)>,
}

impl Findings {
    /// Asks every other orderer for its newest block, and one that has the most for the newest
    /// configuration.
    pub(super) fn ask(chain: &Arc<Chain>, members: &[Member]) -> oneshot::Receiver<Self> {
        let (sender, receiver) = oneshot::channel();
        let follower = follower(chain, members);
        let stop = chain.stop.clone();
        let chain = chain.clone();
        tokio::spawn(async move {
            let findings = tokio::select! {
                () = stop.cancelled() => return,
                findings = look(&chain, &follower) => findings,
            };
            let _ = sender.send(findings);
        });
        receiver
    }

    /// The configuration and block found, when they are newer than block `number`.
    pub(super) fn newer_than(self, number: u64) -> Option<(Arc<ChannelConfig>, Block)> {
        self.newest.filter(|(_, block)| block.number() > number)
    }
}

async fn look(chain: &Chain, follower: &Follower) -> Findings {
    let mut findings = Findings {
        height: 0,
        newest: None,
    };
    for endpoint in (follower.endpoints)() {
        let seek = only(newest());
        let asked = follower.fetch(&endpoint, &seek);
        let Ok(Ok(Some(block))) = tokio::time::timeout(PATIENCE, asked).await else {
            continue;
        };
        let height = block.number() + 1;
        if height <= findings.height {
            continue;
        }
        let Some(config) = config_at(chain, follower, &endpoint, &block).await else {
            continue;
        };
        findings = Findings {
            height,
            newest: Some((config, block)),
        };
    }
    findings
}

/// The configuration in force at a block that somebody showed. Every configuration on the way there
/// has to follow from the one before, signed by the orderers that this names, so that a change of
/// all orderers, or of the consensus, is believed as far as whoever follows the blocks would.
async fn config_at(
    chain: &Chain,
    follower: &Follower,
    endpoint: &Endpoint,
    block: &Block,
) -> Option<Arc<ChannelConfig>> {
    let current = chain.config();
    let fetch = async |number| {
        let seek = only(specified(number));
        let asked = follower.fetch(endpoint, &seek);
        tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?
    };
    let mut newer = Vec::new();
    let mut number = block.last_config_index().ok()?;
    while newer.len() < MAX_CONFIGURATIONS {
        let config_block: Block = fetch(number).await?;
        let config = verify_config_block(&config_block).ok()?;
        if config.channel_id() != chain.id {
            return None;
        }
        if config.sequence() <= current.sequence() {
            break;
        }
        newer.push(config_block);
        let before = fetch(number.checked_sub(1)?).await?;
        number = before.last_config_index().ok()?;
    }
    match believed(current, &newer, block) {
        Ok(config) => Some(config),
        Err(reason) => {
            let what = format_args!("block [{}] of {endpoint}: {reason}", block.number());
            chain.refused(Reason::Block, what);
            None
        }
    }
}

/// The configuration that these blocks, the newest first, make of one that is known, when each of
/// them and the block shown is signed as the one before asks.
fn believed(
    mut config: Arc<ChannelConfig>,
    newer: &[Block],
    block: &Block,
) -> Result<Arc<ChannelConfig>, String> {
    let signed = |config: &ChannelConfig, block: &Block| {
        let header = block.header.as_ref().ok_or("it has no header")?;
        verify_signatures(config, header, block.metadata.as_ref()).map_err(|e| in_full(&e))
    };
    for config_block in newer.iter().rev() {
        signed(&config, config_block)?;
        config = Arc::new(config_after(&config, config_block)?);
    }
    // A genesis block is signed by nobody; the channel's own is known here.
    if block.number() > 0 && !is_config_block(block) {
        signed(&config, block)?;
    }
    Ok(config)
}
