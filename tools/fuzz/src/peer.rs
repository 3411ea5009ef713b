//! A whole peer in memory, with a chaincode whose part the input plays.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use prost::Message;
use selvage_chaincode::BoxFuture;
use selvage_chaincode::package::{ChaincodeKind, SourceFile, write_package};
use selvage_chaincode::runtime::{
    ChaincodeHost, HostError, PackageSource, RunningChaincode, Runtime, RuntimeConfig,
    StartRequest, StopHandle, StreamOrigin, Target,
};
use selvage_channel::ChannelConfig;
use selvage_client::{Invocation, Proposal, User};
use selvage_env::TestEnv;
use selvage_identity::MspManager;
use selvage_ledger::{LedgerOptions, StateStorage};
use selvage_net::metrics::{DeliverMetrics, Metrics};
use selvage_net::services::deliver_server::DeliverServer;
use selvage_net::services::discovery_server::DiscoveryServer;
use selvage_net::services::endorser_server::EndorserServer;
use selvage_net::services::gateway_server::GatewayServer;
use selvage_net::tonic::body::Body;
use selvage_net::tonic::codegen::Service;
use selvage_net::{CancellationToken, Endpoint, TlsError};
use selvage_ordering::block::{Tip, sign_block};
use selvage_peer::chaincode_glue::{ChaincodeParts, Chaincodes, ServiceDialler};
use selvage_peer::channels::{Channels, PeerChannel};
use selvage_peer::committer::{Committer, CommitterOptions};
use selvage_peer::deliver::{DeliverService, Orderers};
use selvage_peer::discovery::{DiscoveryService, DiscoverySettings, Membership, OwnPeer, Planner};
use selvage_peer::endorser::{Endorser, EndorserParts, EndorserService, LocalMsp};
use selvage_peer::gateway::{
    Gateway, GatewayParts, GatewayService, GatewayTimeouts, PeerEndpoints,
};
use selvage_peer::validator::Validator;
use selvage_proto::common::Envelope;
use selvage_proto::lifecycle::{
    ApproveChaincodeDefinitionForMyOrgArgs, ChaincodeSource, CommitChaincodeDefinitionArgs,
    InstallChaincodeArgs, InstallChaincodeResult, chaincode_source,
};
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::collection_config::Payload;
use selvage_proto::peer::{
    ChaincodeId, ChaincodeMessage, CollectionConfig, CollectionConfigPackage,
    CollectionPolicyConfig, ProposalResponse, Response, SignedProposal, StaticCollectionConfig,
    collection_policy_config,
};
use tokio::sync::mpsc;

use crate::reach::reach;
use crate::world::{CHANNEL, MSP, world};

/// The chaincode.
pub(crate) const CHAINCODE: &str = "cc";
/// Its collection.
pub(crate) const COLLECTION: &str = "col";
/// Longer than anything takes; the clock goes on by itself when there is nothing else to do.
const LONG: Duration = Duration::from_secs(120);

/// The peer's services.
pub(crate) struct Peer {
    runtime: tokio::runtime::Runtime,
    endorser: EndorserServer<EndorserService>,
    gateway: GatewayServer<GatewayService>,
    discovery: DiscoveryServer<DiscoveryService>,
    deliver: DeliverServer<DeliverService>,
    script: Arc<Script>,
}

/// The peer of this process.
pub(crate) fn peer() -> &'static Peer {
    static PEER: OnceLock<Peer> = OnceLock::new();
    PEER.get_or_init(Peer::new)
}

/// What the chaincode says in its next transaction.
#[derive(Default)]
struct Script(Mutex<Vec<ChaincodeMessage>>);

impl Script {
    fn take(&self) -> Vec<ChaincodeMessage> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }

    fn set(&self, messages: Vec<ChaincodeMessage>) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = messages;
    }
}

/// Starts chaincode that follows the script.
struct Host {
    runtime: Arc<OnceLock<Arc<Runtime>>>,
    script: Arc<Script>,
}

struct NothingToStop;

impl StopHandle for NothingToStop {
    fn stop(&self) {}
}

impl ChaincodeHost for Host {
    fn build<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Target, HostError>> {
        Box::pin(async { Ok(Target::Process) })
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<RunningChaincode, HostError>> {
        let runtime = self.runtime.get().expect("set before any start").clone();
        let script = self.script.clone();
        Box::pin(async move {
            let (to_peer, inbound) = mpsc::channel(16);
            let (outbound, from_peer) = mpsc::channel(16);
            let origin = StreamOrigin::Accepted {
                client_certificate: None,
            };
            tokio::spawn(async move { runtime.serve(origin, inbound, outbound).await });
            let plays = play(request.package_id, script, to_peer, from_peer);
            let playing = tokio::spawn(plays);
            Ok(RunningChaincode {
                exited: Box::pin(async move {
                    let _ = playing.await;
                    "it has played its part".to_owned()
                }),
                stop: Box::new(NothingToStop),
            })
        })
    }

    fn build_log(&self, _: &str) -> Option<String> {
        None
    }
}

/// The chaincode's side of a stream: registers, then answers each transaction with the script.
async fn play(
    package_id: String,
    script: Arc<Script>,
    to_peer: mpsc::Sender<ChaincodeMessage>,
    mut from_peer: mpsc::Receiver<ChaincodeMessage>,
) {
    let id = ChaincodeId {
        name: package_id,
        ..Default::default()
    };
    let register = ChaincodeMessage {
        r#type: Type::Register as i32,
        payload: id.encode_to_vec().into(),
        ..Default::default()
    };
    if to_peer.send(register).await.is_err() {
        return;
    }
    let mut early = None;
    loop {
        let message = match early.take() {
            Some(message) => message,
            None => match from_peer.recv().await {
                Some(message) => message,
                None => return,
            },
        };
        if message.r#type != Type::Transaction as i32 {
            continue;
        }
        for said in script.take().into_iter().chain([completed()]) {
            let quiet = [Type::Completed, Type::Error, Type::Keepalive];
            let answered = !quiet.iter().any(|quiet| said.r#type == *quiet as i32);
            let said = ChaincodeMessage {
                txid: message.txid.clone(),
                channel_id: message.channel_id.clone(),
                ..said
            };
            if to_peer.send(said).await.is_err() {
                return;
            }
            if !answered {
                continue;
            }
            // One that is not answered all the same must not hold the next one up for ever.
            let second = Duration::from_secs(1);
            let Ok(Some(next)) = tokio::time::timeout(second, from_peer.recv()).await else {
                continue;
            };
            if next.r#type == Type::Response as i32 {
                reach("answered");
            }
            if next.r#type == Type::Transaction as i32 {
                // This one has ended: whatever else the script says is too late.
                early = Some(next);
                break;
            }
        }
    }
}

fn completed() -> ChaincodeMessage {
    let response = Response {
        status: 200,
        ..Default::default()
    };
    ChaincodeMessage {
        r#type: Type::Completed as i32,
        payload: response.encode_to_vec().into(),
        ..Default::default()
    }
}

struct Nobody;

impl Orderers for Nobody {
    fn endpoints(&self, _: &PeerChannel) -> Vec<Endpoint> {
        Vec::new()
    }
}

impl PeerEndpoints for Nobody {
    fn endpoint(&self, _: &ChannelConfig, _: &str, _: &str) -> Result<Endpoint, TlsError> {
        Ok(Endpoint::new("127.0.0.1:1", None))
    }
}

impl Peer {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let guard = runtime.enter();
        let env = TestEnv::new(7);
        let options = LedgerOptions {
            state: StateStorage::Memory,
            ..LedgerOptions::default()
        };
        let channels = Arc::new(Channels::new(Path::new("/ledgers"), env.env(), options));
        let channel = channels.join(world().genesis.clone()).expect("a channel");
        let script = Arc::new(Script::default());
        let chaincodes = chaincodes(&env, &channels, script.clone());
        let endorser = Endorser::new(EndorserParts {
            chaincodes: chaincodes.clone(),
            signer: world().peer.clone(),
            clock: env.clock.clone(),
            time_window: Duration::from_secs(900),
        });
        let own = OwnPeer {
            endpoint: "127.0.0.1:2".to_owned(),
            signer: world().peer.clone(),
            started: 1,
        };
        let membership = Arc::new(Membership::new(own, chaincodes));
        let planner = Arc::new(Planner::new(membership));
        let settings = DiscoverySettings {
            tls: false,
            org_members_allowed: true,
        };
        let second = Duration::from_secs(1);
        let gateway = Gateway::new(GatewayParts {
            endorser: endorser.clone(),
            planner: planner.clone(),
            orderers: Arc::new(Nobody),
            peers: Arc::new(Nobody),
            timeouts: GatewayTimeouts {
                endorsement: second,
                broadcast: second,
                dial: second,
            },
        });
        let window = Duration::from_secs(900);
        let metrics = DeliverMetrics::new(&Metrics::default());
        let deliver = DeliverService::new(channels, env.clock.clone(), window, false, metrics);
        drop(guard);
        let peer = Self {
            runtime,
            endorser: EndorserService::new(endorser, "peer").into_service(),
            gateway: GatewayService::new(gateway).into_service(),
            discovery: DiscoveryService::new(planner, settings).into_service(),
            deliver: DeliverServer::new(deliver),
            script,
        };
        peer.deploy(&channel);
        peer
    }

    /// Installs the chaincode, approves and commits its definition.
    fn deploy(&self, channel: &Arc<PeerChannel>) {
        let package = InstallChaincodeArgs {
            chaincode_install_package: package(),
        };
        let installed = self.lifecycle("", "InstallChaincode", &package).1;
        let installed = InstallChaincodeResult::decode(installed).expect("an answer");
        let (approve, commit) = definition(installed.package_id);
        let (approved, _) = self.lifecycle(CHANNEL, "ApproveChaincodeDefinitionForMyOrg", &approve);
        self.commit(channel, approved);
        let (committed, _) = self.lifecycle(CHANNEL, "CommitChaincodeDefinition", &commit);
        self.commit(channel, committed);
    }

    /// An administrator's call of `_lifecycle`: its transaction and what it answered.
    fn lifecycle(&self, channel: &str, function: &str, args: &impl Message) -> (Envelope, Bytes) {
        let admin = &world().admin;
        let call = Invocation::new("_lifecycle", function).arg(args.encode_to_vec());
        let proposal = Proposal::new(admin, channel, call);
        let answer = self.process(&proposal.signed).expect("an answer");
        let payload = answer.response.clone().unwrap_or_default().payload;
        let envelope = proposal.assemble(admin, &[("peer", answer)]);
        (envelope.unwrap_or_default(), payload)
    }

    fn commit(&self, channel: &Arc<PeerChannel>, envelope: Envelope) {
        let newest = channel.ledger().block_by_number(u64::MAX).expect("a block");
        let mut tip = Tip::after(newest.header.as_ref().expect("a header"));
        let mut block = tip.next_block(vec![envelope.encode_to_vec().into()]);
        let number = block.number();
        sign_block(&mut block, 0, Bytes::new(), &world().orderer, [9; 24]);
        let committing = async {
            let validator = Arc::new(Validator::new(1).expect("a thread"));
            let options = CommitterOptions::default();
            let stop = CancellationToken::new();
            let committer = Committer::start(channel.clone(), validator, options, stop);
            committer.offer(block).await.expect("a block that follows");
            let mut height = channel.height_watch();
            height.wait_for(|h| *h > number).await.expect("committed");
            committer.finish().await;
        };
        self.runtime.block_on(committing);
        let codes = channel
            .ledger()
            .block_by_number(number)
            .expect("the block")
            .metadata
            .expect("metadata")
            .metadata;
        assert_eq!(codes[2].as_ref(), [0], "the set-up's transaction is valid");
    }

    /// Has a proposal endorsed. `None` when it is turned away.
    pub(crate) fn process(&self, signed: &SignedProposal) -> Option<ProposalResponse> {
        let answers = self.endorse(frame(&signed.encode_to_vec()));
        ProposalResponse::decode(answers.into_iter().next()?).ok()
    }

    /// Sends the body of a gRPC request to the endorser and gives the messages it answers.
    pub(crate) fn endorse(&self, body: Bytes) -> Vec<Bytes> {
        self.call(
            self.endorser.clone(),
            "/protos.Endorser/ProcessProposal",
            body,
        )
    }

    /// The same for a method of the gateway.
    pub(crate) fn gateway(&self, method: &str, body: Bytes) -> Vec<Bytes> {
        let path = format!("/gateway.Gateway/{method}");
        self.call(self.gateway.clone(), &path, body)
    }

    /// The same for discovery.
    pub(crate) fn discover(&self, body: Bytes) -> Vec<Bytes> {
        let path = "/discovery.Discovery/Discover";
        self.call(self.discovery.clone(), path, body)
    }

    /// The same for a method that delivers blocks.
    pub(crate) fn deliver(&self, method: &str, body: Bytes) -> Vec<Bytes> {
        let path = format!("/protos.Deliver/{method}");
        self.call(self.deliver.clone(), &path, body)
    }

    /// Has a client call the chaincode, which says this. Gives the answer to the client.
    pub(crate) fn play(&self, script: Vec<ChaincodeMessage>) -> Option<ProposalResponse> {
        self.script.set(script);
        let client: &User = &world().client;
        let call = Invocation::new(CHAINCODE, "f").transient("t", &b"hidden"[..]);
        let answer = self.process(&Proposal::new(client, CHANNEL, call).signed);
        self.script.take();
        answer
    }

    fn call<S, E>(&self, mut service: S, path: &str, body: Bytes) -> Vec<Bytes>
    where
        S: Service<http::Request<Full<Bytes>>, Response = http::Response<Body>, Error = E>,
        E: std::fmt::Debug,
    {
        let request = http::Request::builder()
            .method(http::Method::POST)
            .uri(path)
            .header("content-type", "application/grpc")
            .body(Full::new(body))
            .expect("a request");
        let answered = self.runtime.block_on(async {
            let mut bytes = BytesMut::new();
            // A call that waits for what does not come, and a stream that stays open, are left
            // after a while.
            let Ok(answer) = tokio::time::timeout(LONG, service.call(request)).await else {
                return bytes.freeze();
            };
            let mut body = answer.expect("services answer").into_body();
            while let Ok(Some(Ok(part))) = tokio::time::timeout(LONG, body.frame()).await {
                if let Ok(data) = part.into_data() {
                    bytes.put(data);
                }
            }
            bytes.freeze()
        });
        unframe(answered)
    }
}

fn chaincodes(env: &TestEnv, channels: &Arc<Channels>, script: Arc<Script>) -> Arc<Chaincodes> {
    let own = world()
        .config
        .msp_manager()
        .msp(MSP)
        .expect("the MSP")
        .clone();
    let runtime = Arc::new(OnceLock::new());
    let host = Host {
        runtime: runtime.clone(),
        script,
    };
    let chaincodes = Chaincodes::new(ChaincodeParts {
        env: env.env(),
        packages: PathBuf::from("/packages"),
        channels: channels.clone(),
        local: LocalMsp::new(MSP, Arc::new(MspManager::new([own]))),
        runtime: RuntimeConfig {
            msp_id: MSP.to_owned(),
            ..RuntimeConfig::default()
        },
        host: Box::new(|_: Arc<dyn PackageSource>| Arc::new(host) as _),
        authority: None,
        dialler: Arc::new(ServiceDialler),
        install_timeout: LONG,
    })
    .expect("chaincodes");
    let set = runtime.set(chaincodes.runtime().clone());
    assert!(set.is_ok(), "set once");
    chaincodes
}

/// A package that is never built.
pub(crate) fn package() -> Bytes {
    let file = SourceFile {
        name: "src/package.json".to_owned(),
        contents: Bytes::from_static(b"{}"),
        executable: false,
    };
    write_package("cc_1", &ChaincodeKind::Node, "", vec![file]).expect("a package")
}

/// A collection that the organisation is a member of.
pub(crate) fn collections() -> CollectionConfigPackage {
    let members = selvage_identity::policy::build::signed_by_any_member(&[MSP]);
    let collection = StaticCollectionConfig {
        name: COLLECTION.to_owned(),
        member_orgs_policy: Some(CollectionPolicyConfig {
            payload: Some(collection_policy_config::Payload::SignaturePolicy(members)),
        }),
        member_only_read: true,
        maximum_peer_count: 1,
        block_to_live: 3,
        ..Default::default()
    };
    CollectionConfigPackage {
        config: vec![CollectionConfig {
            payload: Some(Payload::StaticCollectionConfig(collection)),
        }],
    }
}

fn definition(
    package_id: String,
) -> (
    ApproveChaincodeDefinitionForMyOrgArgs,
    CommitChaincodeDefinitionArgs,
) {
    let local = chaincode_source::Local { package_id };
    let approve = ApproveChaincodeDefinitionForMyOrgArgs {
        sequence: 1,
        name: CHAINCODE.to_owned(),
        version: "1".to_owned(),
        collections: Some(collections()),
        source: Some(ChaincodeSource {
            r#type: Some(chaincode_source::Type::LocalPackage(local)),
        }),
        ..Default::default()
    };
    let commit = CommitChaincodeDefinitionArgs {
        sequence: 1,
        name: CHAINCODE.to_owned(),
        version: "1".to_owned(),
        collections: Some(collections()),
        ..Default::default()
    };
    (approve, commit)
}

/// A message as gRPC frames it.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    framed.freeze()
}

fn unframe(mut bytes: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
        let _ = bytes.split_to(5);
        assert!(length <= bytes.len(), "services frame whole messages");
        messages.push(bytes.split_to(length));
    }
    messages
}
