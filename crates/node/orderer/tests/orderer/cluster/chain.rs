//! A chain of blocks made by hand, and sources that serve it, honestly or not.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::genesis::block_from_group;
use selvage_channel::update::compute;
use selvage_crypto::issue::NodeRole;
use selvage_env::{System, random_array};
use selvage_identity::SigningIdentity;
use selvage_net::CancellationToken;
use selvage_net::server::{Server, ServerOptions};
use selvage_net::services::atomic_broadcast_server::{AtomicBroadcast, AtomicBroadcastServer};
use selvage_net::tls::{ClientAuth, ServerTls};
use selvage_net::tonic::service::Routes;
use selvage_net::tonic::{self, Request, Response, Status, Streaming};
use selvage_ordering::block::{Tip, sign_block};
use selvage_proto::common::{
    Block, ChannelHeader, Config, ConfigEnvelope, ConfigGroup, ConfigSignature,
    ConfigUpdateEnvelope, ConfigValue, Envelope, Header, HeaderType, OrdererAddresses, Payload,
    SignatureHeader, Status as Code,
};
use selvage_proto::etcdraft::{ConfigMetadata, Consenter, Options};
use selvage_proto::orderer::deliver_response::Type;
use selvage_proto::orderer::seek_info::SeekBehavior;
use selvage_proto::orderer::seek_position::Type as Position;
use selvage_proto::orderer::{BroadcastResponse, ConsensusType, DeliverResponse, SeekInfo};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Pair;
use crate::world::{CHANNEL, World};

/// Edits a configuration tree.
pub(crate) type Edit<'a> = &'a dyn Fn(&mut ConfigGroup);

/// The orderers' addresses.
pub(crate) fn set_endpoints(root: &mut ConfigGroup, addresses: &[String]) {
    let orderer = root.groups.get_mut("Orderer").unwrap();
    let org = orderer.groups.get_mut("OrdererOrg").unwrap();
    let value = OrdererAddresses {
        addresses: addresses.to_vec(),
    };
    set(org, "Endpoints", value.encode_to_vec());
}

/// Raft, ordered by nodes with these TLS certificates.
pub(crate) fn set_consenters(root: &mut ConfigGroup, pairs: &[&Pair]) {
    let consenters = pairs.iter().map(|pair| Consenter {
        host: "127.0.0.1".to_owned(),
        port: 1,
        client_tls_cert: pair.certificate.clone().into(),
        server_tls_cert: pair.certificate.clone().into(),
    });
    let metadata = ConfigMetadata {
        consenters: consenters.collect(),
        options: Some(Options {
            tick_interval: "500ms".to_owned(),
            election_tick: 10,
            heartbeat_tick: 1,
            max_inflight_blocks: 5,
            snapshot_interval_size: 1 << 20,
        }),
    };
    let value = ConsensusType {
        r#type: "etcdraft".to_owned(),
        metadata: metadata.encode_to_vec().into(),
        ..Default::default()
    };
    let orderer = root.groups.get_mut("Orderer").unwrap();
    set(orderer, "ConsensusType", value.encode_to_vec());
}

fn set(group: &mut ConfigGroup, name: &str, value: Vec<u8>) {
    let value = ConfigValue {
        value: value.into(),
        mod_policy: "Admins".to_owned(),
        ..group.values.get(name).cloned().unwrap_or_default()
    };
    group.values.insert(name.to_owned(), value);
}

/// A chain signed by one orderer.
pub(crate) struct Maker {
    signer: SigningIdentity,
    admin: SigningIdentity,
    pub(crate) blocks: Vec<Block>,
    tip: Tip,
    config: ChannelConfig,
    last_config: u64,
}

impl Maker {
    pub(crate) fn new(world: &World, edit: Edit<'_>) -> Self {
        let config = ChannelConfig::from_block(&world.genesis(CHANNEL)).unwrap();
        let mut group = config.config().channel_group.clone().unwrap();
        edit(&mut group);
        let genesis = block_from_group(CHANNEL, group, 1_000, random_array(&System));
        Self {
            signer: world.orderer_org.identity(NodeRole::Orderer),
            tip: Tip::after(genesis.header.as_ref().unwrap()),
            config: ChannelConfig::from_block(&genesis).unwrap(),
            blocks: vec![genesis],
            admin: world.orderer_org.identity(NodeRole::Admin),
            last_config: 0,
        }
    }

    fn envelope(&self, kind: HeaderType, data: Vec<u8>) -> Bytes {
        let channel_header = ChannelHeader {
            r#type: kind as i32,
            channel_id: CHANNEL.to_owned(),
            ..Default::default()
        };
        let signature_header = SignatureHeader {
            creator: self.signer.serialized(),
            nonce: random_array::<24>(&System).to_vec().into(),
        };
        let payload = Payload {
            header: Some(Header {
                channel_header: channel_header.encode_to_vec().into(),
                signature_header: signature_header.encode_to_vec().into(),
            }),
            data: data.into(),
        }
        .encode_to_vec();
        let envelope = Envelope {
            signature: self.signer.sign(&payload).into(),
            payload: payload.into(),
        };
        envelope.encode_to_vec().into()
    }

    fn add(&mut self, envelope: Bytes, is_config: bool) {
        let mut block = self.tip.next_block(vec![envelope]);
        if is_config {
            self.last_config = block.number();
        }
        let nonce = random_array(&System);
        sign_block(
            &mut block,
            self.last_config,
            Bytes::new(),
            &self.signer,
            nonce,
        );
        self.blocks.push(block);
    }

    pub(crate) fn normal(mut self, blocks: usize) -> Self {
        for n in 0..blocks {
            let envelope = self.envelope(HeaderType::EndorserTransaction, vec![n as u8; 100]);
            self.add(envelope, false);
        }
        self
    }

    pub(crate) fn configure(self, edit: Edit<'_>) -> Self {
        let admin = self.admin.clone();
        self.configure_by(&admin, edit)
    }

    /// As [`Self::configure`], signed by somebody of one's choice, whether that suffices or not.
    pub(crate) fn configure_by(mut self, by: &SigningIdentity, edit: Edit<'_>) -> Self {
        let original = self.config.config();
        let mut updated = original.clone();
        edit(updated.channel_group.as_mut().unwrap());
        let mut update = compute(original, &updated).unwrap();
        update.channel_id = CHANNEL.to_owned();
        let update = update.encode_to_vec();
        let signature_header = SignatureHeader {
            creator: by.serialized(),
            nonce: random_array::<24>(&System).to_vec().into(),
        }
        .encode_to_vec();
        let content = ConfigUpdateEnvelope {
            signatures: vec![ConfigSignature {
                signature: by.sign_parts(&[&signature_header, &update]).into(),
                signature_header: signature_header.into(),
            }],
            config_update: update.into(),
        };
        let update = self.envelope(HeaderType::ConfigUpdate, content.encode_to_vec());
        let update = Envelope::decode(update).unwrap();
        let next = self.config.propose_update(&update).unwrap_or_else(|_| {
            // As a lying orderer would.
            ConfigEnvelope {
                config: Some(Config {
                    sequence: self.config.sequence() + 1,
                    ..updated
                }),
                last_update: Some(update),
            }
        });
        let envelope = self.envelope(HeaderType::Config, next.encode_to_vec());
        self.add(envelope, true);
        self.config = ChannelConfig::new(CHANNEL, next.config.unwrap()).unwrap();
        self
    }
}

/// What a source makes of a block: `None` breaks the stream off.
pub(crate) type Twist = Arc<dyn Fn(Block) -> Option<Block> + Send + Sync>;

/// Serves blocks as an orderer does.
pub(crate) struct Source {
    pub(crate) address: String,
    pub(crate) blocks: watch::Sender<Vec<Block>>,
    /// Streams that were asked for.
    pub(crate) asked: watch::Receiver<usize>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Serving {
    blocks: watch::Receiver<Vec<Block>>,
    twist: Twist,
    asked: Arc<watch::Sender<usize>>,
}

impl Source {
    pub(crate) async fn honest(world: &World, blocks: &[Block]) -> Self {
        Self::start(world, blocks, Arc::new(Some)).await
    }

    pub(crate) async fn start(world: &World, blocks: &[Block], twist: Twist) -> Self {
        let pair = Pair::new(&world.orderer_org);
        let tls = ServerTls::new(pair.identity(), ClientAuth::Request);
        let options = ServerOptions::grpc(Some(tls));
        let server = Server::bind("127.0.0.1:0", options).await.unwrap();
        let address = server.local_addr().to_string();
        let blocks = watch::Sender::new(blocks.to_vec());
        let (sender, asked) = watch::channel(0);
        let serving = Serving {
            blocks: blocks.subscribe(),
            twist,
            asked: Arc::new(sender),
        };
        let router = Routes::new(AtomicBroadcastServer::new(serving)).into_axum_router();
        let shutdown = CancellationToken::new();
        Self {
            address,
            blocks,
            asked,
            serving: tokio::spawn({
                let shutdown = shutdown.clone();
                async move { server.serve(router, shutdown).await.unwrap() }
            }),
            shutdown,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

fn status(code: Code) -> DeliverResponse {
    DeliverResponse {
        r#type: Some(Type::Status(code as i32)),
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AtomicBroadcast for Serving {
    type BroadcastStream = Answers<BroadcastResponse>;
    type DeliverStream = Answers<DeliverResponse>;

    async fn broadcast(
        &self,
        _: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::BroadcastStream>, Status> {
        Err(Status::unimplemented("only deliver"))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        self.asked.send_modify(|asked| *asked += 1);
        let envelope = request.into_inner().message().await?.unwrap();
        let payload = Payload::decode(envelope.payload).unwrap();
        let seek = SeekInfo::decode(payload.data).unwrap();
        let at_once = seek.behavior() == SeekBehavior::FailIfNotReady;
        let Self {
            mut blocks, twist, ..
        } = self.clone();
        let newest = blocks.borrow().last().map_or(0, Block::number);
        let place = |position: Option<Position>| match position {
            Some(Position::Specified(at)) => at.number,
            _ => newest,
        };
        let mut next = place(seek.start.unwrap().r#type);
        let stop = place(seek.stop.unwrap().r#type);
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while next <= stop {
                let found = blocks.borrow_and_update().get(next as usize).cloned();
                match found {
                    Some(block) => match twist(block) {
                        Some(block) => yield DeliverResponse {
                            r#type: Some(Type::Block(block)),
                        },
                        None => Err(Status::unavailable("gone"))?,
                    },
                    None if at_once => {
                        yield status(Code::NotFound);
                        return;
                    }
                    None => {
                        if blocks.changed().await.is_err() {
                            return;
                        }
                        continue;
                    }
                }
                next += 1;
            }
            yield status(Code::Success);
        })))
    }
}
