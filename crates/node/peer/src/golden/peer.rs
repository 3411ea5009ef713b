//! A peer around a ledger that follows the recorded blocks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use selvage_chaincode::BoxFuture;
use selvage_chaincode::runtime::{
    ChaincodeHost, HostError, PackageSource, RunningChaincode, Runtime, RuntimeConfig,
    StartRequest, StopHandle, StreamOrigin, Target,
};
use selvage_channel::{ChannelConfig, config_transaction, open_config};
use selvage_env::{Disk, TestEnv};
use selvage_identity::{MspManager, SigningIdentity};
use selvage_ledger::{LedgerOptions, PrivateSets, StateStorage};
use selvage_proto::common::{Block, BlockMetadataIndex};
use selvage_proto::peer::{SignedProposal, TxValidationCode};
use selvage_proto::rwset::TxPvtReadWriteSet;
use tokio::sync::mpsc;

use super::client::identity;
use super::contract;
use crate::chaincode_glue::{ChaincodeAuthority, ChaincodeParts, Chaincodes, ServiceDialler};
use crate::channels::{Channels, CommittedBlock, CommittedTx, PeerChannel};
use crate::endorser::{Endorser, EndorserParts, LocalMsp};
use crate::scc::Packages;

/// Runs the double of the contract for every package.
#[derive(Default)]
pub(super) struct ContractHost {
    runtime: Arc<OnceLock<Arc<Runtime>>>,
}

/// A chaincode listener that the contract is to come in through.
pub(super) struct Listening {
    pub(super) authority: Arc<ChaincodeAuthority>,
    pub(super) address: String,
}

struct NothingToStop;

impl StopHandle for NothingToStop {
    fn stop(&self) {}
}

impl ChaincodeHost for ContractHost {
    fn build<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Target, HostError>> {
        Box::pin(async { Ok(Target::Process) })
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<RunningChaincode, HostError>> {
        let runtime = self.runtime.get().unwrap().clone();
        Box::pin(async move {
            let (to_peer, from_peer) = match &request.tls {
                Some(_) => {
                    let address = &request.peer_address;
                    super::streams::register(address, request.tls.as_ref())
                        .await
                        .unwrap()
                }
                None => {
                    let (to_peer, inbound) = mpsc::channel(16);
                    let (outbound, from_peer) = mpsc::channel(16);
                    let origin = StreamOrigin::Accepted {
                        client_certificate: None,
                    };
                    tokio::spawn(async move { runtime.serve(origin, inbound, outbound).await });
                    (to_peer, from_peer)
                }
            };
            tokio::spawn(contract::serve(request.package_id, to_peer, from_peer));
            Ok(RunningChaincode {
                exited: Box::pin(std::future::pending()),
                stop: Box::new(NothingToStop),
            })
        })
    }

    fn build_log(&self, _: &str) -> Option<String> {
        None
    }
}

/// One organisation's peer at some height of the recorded channel.
pub(super) struct GoldenPeer {
    pub(super) msp_id: String,
    corpus: PathBuf,
    env: TestEnv,
    channels: Arc<Channels>,
    pub(super) chaincodes: Arc<Chaincodes>,
    pub(super) endorser: Endorser,
    pub(super) signer: Arc<SigningIdentity>,
}

pub(super) fn read(path: impl AsRef<Path>) -> Bytes {
    let path = path.as_ref();
    std::fs::read(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .into()
}

pub(super) fn block(corpus: &Path, number: u64) -> Block {
    Block::decode(read(corpus.join(format!("blocks/{number:03}.block")))).unwrap()
}

impl GoldenPeer {
    /// The peer of `org1` or `org2`, with the genesis block joined.
    pub(super) fn new(corpus: &Path, org: &str) -> Self {
        Self::with(corpus, org, None)
    }

    /// The same, with chaincode that comes in through a listener.
    pub(super) fn with(corpus: &Path, org: &str, listening: Option<Listening>) -> Self {
        let msp_id = format!("{}MSP", org.replacen('o', "O", 1));
        let env = TestEnv::new(7);
        let options = LedgerOptions {
            state: StateStorage::Memory,
            ..LedgerOptions::default()
        };
        let channels = Arc::new(Channels::new(Path::new("/ledgers"), env.env(), options));
        let genesis = Block::decode(read(corpus.join("network/genesis.block"))).unwrap();
        let config = ChannelConfig::from_block(&genesis).unwrap();
        let own = config.msp_manager().msp(&msp_id).unwrap().clone();
        let local = LocalMsp::new(&msp_id, Arc::new(MspManager::new([own])));
        let packages = PathBuf::from("/packages");
        install(&env, &packages, corpus, org);
        let host = ContractHost::default();
        let runtime = host.runtime.clone();
        let chaincodes = Chaincodes::new(ChaincodeParts {
            env: env.env(),
            packages,
            channels: channels.clone(),
            local,
            runtime: RuntimeConfig {
                msp_id: msp_id.clone(),
                peer_address: listening
                    .as_ref()
                    .map(|l| l.address.clone())
                    .unwrap_or_default(),
                ..RuntimeConfig::default()
            },
            host: Box::new(|_: Arc<dyn PackageSource>| Arc::new(host) as _),
            authority: listening.map(|l| l.authority),
            dialler: Arc::new(ServiceDialler),
            install_timeout: Duration::from_secs(1),
        })
        .unwrap();
        let _ = runtime.set(chaincodes.runtime().clone());
        let signer = Arc::new(identity(corpus, org, "peers", "peer0"));
        let endorser = Endorser::new(EndorserParts {
            chaincodes: chaincodes.clone(),
            signer: signer.clone(),
            clock: env.clock.clone(),
            time_window: Duration::from_secs(900),
        });
        channels.join(block(corpus, 0)).unwrap();
        let corpus = corpus.to_owned();
        Self {
            msp_id,
            corpus,
            env,
            channels,
            chaincodes,
            endorser,
            signer,
        }
    }

    pub(super) fn channel(&self) -> Arc<PeerChannel> {
        self.channels.get("goldchannel").unwrap()
    }

    /// The id of the installed package of that name.
    pub(super) fn package_id(&self, name: &str) -> String {
        let installed = Packages::list(&*self.chaincodes)
            .into_iter()
            .map(|p| p.package_id);
        installed
            .into_iter()
            .find(|id| id.starts_with(name))
            .unwrap()
    }

    pub(super) fn set_clock(&self, nanos: i64) {
        self.env.clock.set_unix_nanos(nanos);
    }

    /// Sets the clock to the time a proposal claims.
    pub(super) fn at_time_of(&self, signed: &SignedProposal) {
        if let Some(nanos) = timestamp(signed) {
            self.env.clock.set_unix_nanos(nanos);
        }
    }

    /// Commits the next recorded block with the codes that Fabric gave it.
    pub(super) fn commit_next(&self) {
        let channel = self.channel();
        let number = channel.height();
        let block = block(&self.corpus, number);
        let filter = block
            .metadata_slot(BlockMetadataIndex::TransactionsFilter)
            .to_vec();
        let codes: Vec<TxValidationCode> = filter
            .iter()
            .map(
                |code| match TxValidationCode::try_from(i32::from(*code)).unwrap() {
                    // These two the ledger finds out itself.
                    TxValidationCode::MvccReadConflict | TxValidationCode::PhantomReadConflict => {
                        TxValidationCode::Valid
                    }
                    other => other,
                },
            )
            .collect();
        let envelope = config_transaction(&block)
            .and_then(|e| open_config(&e))
            .ok();
        let config = envelope.filter(|_| filter[0] == 0).map(|(id, envelope)| {
            Arc::new(ChannelConfig::new(&id, envelope.config.unwrap()).unwrap())
        });
        let private = self.private_sets(number, filter.len());
        let committed = channel.ledger().commit(block, &codes, &private).unwrap();
        let reached: Vec<u8> = committed.codes.iter().map(|c| *c as u8).collect();
        assert_eq!(reached, filter, "codes of block {number}");
        let pairs = committed.tx_ids.iter().zip(&committed.codes);
        let transactions = pairs.map(|(tx_id, code)| CommittedTx {
            tx_id: tx_id.clone(),
            code: *code,
        });
        let announced = CommittedBlock {
            number,
            transactions: transactions.collect(),
            redefined: Vec::new(),
            reconfigured: config.is_some(),
        };
        channel.committed(committed.block.clone(), announced, config, true);
    }

    /// The private data that the recorded peer had when the block was new.
    fn private_sets(&self, number: u64, transactions: usize) -> PrivateSets {
        let folder = self.corpus.join("private").join(&self.msp_id).join("live");
        let mut sets = BTreeMap::new();
        for i in 0..transactions as u64 {
            let path = folder.join(format!("{number:03}-{i}.bin"));
            if path.exists() {
                sets.insert(i, TxPvtReadWriteSet::decode(read(path)).unwrap());
            }
        }
        sets
    }
}

/// The time in a proposal's header, in nanoseconds.
fn timestamp(signed: &SignedProposal) -> Option<i64> {
    use selvage_proto::common::{ChannelHeader, Header};
    let proposal = selvage_proto::peer::Proposal::decode(signed.proposal_bytes.clone()).ok()?;
    let header = Header::decode(proposal.header).ok()?;
    let time = ChannelHeader::decode(header.channel_header)
        .ok()?
        .timestamp?;
    Some(time.seconds * 1_000_000_000 + i64::from(time.nanos))
}

/// Puts the recorded packages where installed packages lie.
fn install(env: &TestEnv, folder: &Path, corpus: &Path, org: &str) {
    env.disk.create_dir_all(folder).unwrap();
    for name in ["gold", "sec"] {
        let bytes = read(corpus.join(format!("network/{name}-{org}.tgz")));
        let package = selvage_chaincode::package::Package::open(&bytes).unwrap();
        let file = format!("{}.tar.gz", package.id().replacen(':', ".", 1));
        env.disk.write_atomic(&folder.join(file), &bytes).unwrap();
    }
}
