//! `protos.Deliver`: blocks, filtered blocks, and blocks with private data.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use selvage_env::Clock;
use selvage_identity::{SignedData, SignerFault};
use selvage_net::deliver::{Deliverer, Respond, SeekRequest, Source, SourceError, Sources};
use selvage_net::metrics::DeliverMetrics;
use selvage_net::services::deliver_server::Deliver;
use selvage_net::tonic::{self, Request, Response, Status as Rpc, Streaming};
use selvage_proto::common::{Block, Envelope, Status};
use selvage_proto::peer::collection_policy_config::Payload as MembersPolicy;
use selvage_proto::peer::deliver_response::Type;
use selvage_proto::peer::{BlockAndPrivateData, CollectionPolicyConfig, DeliverResponse};
use selvage_proto::rwset::{NsPvtReadWriteSet, TxPvtReadWriteSet};
use tokio::sync::watch;

use super::{EVENT_BLOCK, EVENT_FILTERED_BLOCK, filtered_block};
use crate::channels::{Channels, PeerChannel};

/// A channel's blocks, guarded by the policy of one resource.
struct ChannelSource {
    channel: Arc<PeerChannel>,
    resource: &'static str,
}

impl Source for ChannelSource {
    fn height(&self) -> watch::Receiver<u64> {
        self.channel.height_watch()
    }

    fn recent(&self, number: u64) -> Option<Arc<Block>> {
        self.channel.recent_block(number)
    }

    fn read(&self, number: u64) -> Result<Arc<Block>, SourceError> {
        let block = self.channel.ledger().block_by_number(number);
        block.map(Arc::new).map_err(|e| SourceError {
            number,
            reason: crate::report(&e),
        })
    }

    fn config_sequence(&self) -> u64 {
        self.channel.config().sequence()
    }

    fn authorize(&self, request: &SeekRequest) -> Result<(), String> {
        let config = self.channel.config();
        let path = config
            .acl_policy(self.resource)
            .ok_or_else(|| format!("no policy guards {}", self.resource))?;
        let policy = config
            .policy(path)
            .ok_or_else(|| format!("no policy {path}"))?;
        let signed = [SignedData {
            data: request.payload.clone(),
            identity: request.creator.clone(),
            signature: request.signature.clone(),
        }];
        policy.evaluate(&signed).map_err(|error| {
            let fault = SignerFault::find(config.msp_manager(), &signed[0]);
            let advice = fault.map_or_else(
                || "use an identity that satisfies this policy".to_owned(),
                |fault| fault.to_string(),
            );
            format!(
                "{} ({path}): {}; {advice}",
                self.resource,
                crate::report(&error)
            )
        })
    }
}

struct ChannelSources {
    channels: Arc<Channels>,
    resource: &'static str,
}

impl Sources for ChannelSources {
    fn source(&self, channel_id: &str) -> Option<Arc<dyn Source>> {
        let channel = self.channels.get(channel_id)?;
        Some(Arc::new(ChannelSource {
            channel,
            resource: self.resource,
        }))
    }
}

fn respond(response: Type) -> DeliverResponse {
    DeliverResponse {
        r#type: Some(response),
    }
}

struct Whole;

impl Respond for Whole {
    type Response = DeliverResponse;

    fn data_type(&self) -> &'static str {
        "block"
    }

    fn status(&self, status: Status) -> DeliverResponse {
        respond(Type::Status(status as i32))
    }

    fn block(&self, _: &SeekRequest, block: Arc<Block>) -> Result<DeliverResponse, Rpc> {
        Ok(respond(Type::Block(Arc::unwrap_or_clone(block))))
    }
}

struct Filtered;

impl Respond for Filtered {
    type Response = DeliverResponse;

    fn data_type(&self) -> &'static str {
        "filtered_block"
    }

    fn status(&self, status: Status) -> DeliverResponse {
        respond(Type::Status(status as i32))
    }

    fn block(&self, _: &SeekRequest, block: Arc<Block>) -> Result<DeliverResponse, Rpc> {
        // A block that cannot be filtered is answered by a status, and the stream goes on.
        Ok(filtered_block(&block).map_or_else(
            |error| {
                tracing::warn!(block = block.number(), %error, "cannot filter a block");
                self.status(Status::BadRequest)
            },
            |filtered| respond(Type::FilteredBlock(filtered)),
        ))
    }
}

struct WithPrivateData {
    channels: Arc<Channels>,
}

impl Respond for WithPrivateData {
    type Response = DeliverResponse;

    fn data_type(&self) -> &'static str {
        "block_and_pvtdata"
    }

    fn status(&self, status: Status) -> DeliverResponse {
        respond(Type::Status(status as i32))
    }

    fn block(&self, request: &SeekRequest, block: Arc<Block>) -> Result<DeliverResponse, Rpc> {
        let channel = self
            .channels
            .get(&request.channel_id)
            .ok_or_else(|| Rpc::not_found(format!("channel {} not found", request.channel_id)))?;
        let private_data_map =
            private_data(&channel, request, block.number()).map_err(Rpc::internal)?;
        let block = Some(Arc::unwrap_or_clone(block));
        Ok(respond(Type::BlockAndPrivateData(BlockAndPrivateData {
            block,
            private_data_map,
        })))
    }
}

/// The private write sets of a block that the requester may read: those of collections that are
/// open to all readers of blocks, and those whose members it belongs to.
fn private_data(
    channel: &PeerChannel,
    request: &SeekRequest,
    number: u64,
) -> Result<BTreeMap<u64, TxPvtReadWriteSet>, String> {
    let stored = channel
        .ledger()
        .private_data(number)
        .map_err(|e| crate::report(&e))?;
    let mut readable = BTreeMap::new();
    for (tx, set) in stored {
        let mut namespaces = Vec::new();
        for ns in set.ns_pvt_rwset {
            let mut collections = Vec::new();
            for collection in ns.collection_pvt_rwset {
                let name = &collection.collection_name;
                if may_read(channel, request, &ns.namespace, name)? {
                    collections.push(collection);
                }
            }
            if !collections.is_empty() {
                namespaces.push(NsPvtReadWriteSet {
                    namespace: ns.namespace,
                    collection_pvt_rwset: collections,
                });
            }
        }
        if !namespaces.is_empty() {
            let set = TxPvtReadWriteSet {
                data_model: set.data_model,
                ns_pvt_rwset: namespaces,
            };
            readable.insert(tx, set);
        }
    }
    Ok(readable)
}

fn may_read(
    channel: &PeerChannel,
    request: &SeekRequest,
    chaincode: &str,
    collection: &str,
) -> Result<bool, String> {
    // Implicit collections do not restrict reading to members.
    if crate::lifecycle::implicit_collection_org(collection).is_some() {
        return Ok(true);
    }
    let definition = channel
        .definition(chaincode)
        .map_err(|e| crate::report(&e))?;
    let config = definition.as_ref().and_then(|d| d.collection(collection)).ok_or_else(|| {
        format!(
            "no collection config was found for collection {collection} for chaincode {chaincode}"
        )
    })?;
    if !config.member_only_read {
        return Ok(true);
    }
    let Some(CollectionPolicyConfig {
        payload: Some(MembersPolicy::SignaturePolicy(members)),
    }) = &config.member_orgs_policy
    else {
        return Ok(false);
    };
    let manager = channel.config().msp_manager().clone();
    let policy = selvage_identity::policy::compile(members, manager)
        .map_err(|e| format!("collection {collection}: {}", crate::report(&e)))?;
    let signed = [SignedData {
        data: request.payload.clone(),
        identity: request.creator.clone(),
        signature: request.signature.clone(),
    }];
    Ok(policy.evaluate(&signed).is_ok())
}

/// The peer's `protos.Deliver` service.
pub struct DeliverService {
    blocks: Deliverer,
    filtered: Deliverer,
    channels: Arc<Channels>,
}

impl DeliverService {
    /// A service over the peer's channels. With `mutual_tls`, requests must be bound to the TLS
    /// certificate they come with.
    pub fn new(
        channels: Arc<Channels>,
        clock: Arc<dyn Clock>,
        time_window: Duration,
        mutual_tls: bool,
        metrics: DeliverMetrics,
    ) -> Self {
        let deliverer = |resource| Deliverer {
            sources: Arc::new(ChannelSources {
                channels: channels.clone(),
                resource,
            }),
            clock: clock.clone(),
            time_window,
            mutual_tls,
            expiration_checks: true,
            metrics: metrics.clone(),
        };
        Self {
            blocks: deliverer(EVENT_BLOCK),
            filtered: deliverer(EVENT_FILTERED_BLOCK),
            channels,
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<DeliverResponse, Rpc>> + Send>>;
type Seeks = Request<Streaming<Envelope>>;

#[tonic::async_trait]
impl Deliver for DeliverService {
    type DeliverStream = Answers;
    type DeliverFilteredStream = Answers;
    type DeliverWithPrivateDataStream = Answers;

    async fn deliver(&self, request: Seeks) -> Result<Response<Answers>, Rpc> {
        Ok(Response::new(Box::pin(
            self.blocks.serve(request, Arc::new(Whole)),
        )))
    }

    async fn deliver_filtered(&self, request: Seeks) -> Result<Response<Answers>, Rpc> {
        Ok(Response::new(Box::pin(
            self.filtered.serve(request, Arc::new(Filtered)),
        )))
    }

    async fn deliver_with_private_data(&self, request: Seeks) -> Result<Response<Answers>, Rpc> {
        let respond = Arc::new(WithPrivateData {
            channels: self.channels.clone(),
        });
        Ok(Response::new(Box::pin(self.blocks.serve(request, respond))))
    }
}
