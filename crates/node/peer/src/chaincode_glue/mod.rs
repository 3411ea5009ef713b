//! Chaincode and the ledger brought together: what may run, how it is called, and how it reaches
//! the peer (Fabric: `core/chaincode`, `core/container`).
//!
//! [`Chaincodes`] keeps the installed packages, decides which of them a call means, and runs the
//! call against the simulator of its transaction. Processes come in through the chaincode
//! listener ([`ChaincodeListener`]); services are dialled.

mod context;
mod definitions;
mod dialler;
mod install;
mod listener;
mod store;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use selvage_chaincode::runtime::{
    ChaincodeHost, Invocation, InvokeKind, LaunchRequest, PackageSource, Runtime, RuntimeConfig,
    RuntimeParts, read_completion,
};
use selvage_env::Env;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{ChaincodeEvent, ChaincodeInput, ChaincodeMessage, Response};

pub(crate) use context::{Proposed, Tx};
pub(crate) use definitions::{LocalChaincode, Runnable, SYSTEM_VERSION, is_system};
pub use dialler::ServiceDialler;
pub use listener::{ChaincodeAuthority, ChaincodeListener};
use store::PackageStore;

use self::definitions::Definitions;
use crate::channels::{Channels, PeerChannel};
use crate::endorser::{Caller, Denied, LocalMsp, acl_check};
use crate::report;
use crate::scc::SystemChaincodes;

/// Key of a namespace that records which version was initialised. U+10FFFF sorts it last.
const INITIALIZED_KEY: &str = "\u{0}\u{10ffff}initialized";

/// Why chaincode cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ChaincodeSetupError {
    /// The folder of packages cannot be used.
    #[error("the folder of chaincode packages cannot be used: {}", path.display())]
    Packages {
        /// The folder.
        path: PathBuf,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate authority of the chaincode listener could not be made.
    #[error("the certificate authority for chaincode could not be made: {0}")]
    Authority(String),
    /// The chaincode listener's own certificate was not usable.
    #[error("TLS of the chaincode listener")]
    Tls(#[source] selvage_net::TlsError),
}

/// Makes what builds and starts packages, given the source of their files.
pub type MakeHost = Box<dyn FnOnce(Arc<dyn PackageSource>) -> Arc<dyn ChaincodeHost> + Send>;

/// What [`Chaincodes`] is made of.
pub struct ChaincodeParts {
    /// Time, chance and disk.
    pub env: Env,
    /// Where installed packages lie.
    pub packages: PathBuf,
    /// The peer's channels.
    pub channels: Arc<Channels>,
    /// The peer's organisation.
    pub local: LocalMsp,
    /// Settings of calls and streams.
    pub runtime: RuntimeConfig,
    /// Builds and starts packages.
    pub host: MakeHost,
    /// Issues certificates to chaincode; none without TLS on the chaincode listener.
    pub authority: Option<Arc<ChaincodeAuthority>>,
    /// Connects to chaincode that runs as a service.
    pub dialler: Arc<ServiceDialler>,
    /// Longest build of a package (`chaincode.installTimeout`).
    pub install_timeout: Duration,
}

/// The chaincode of this peer.
pub struct Chaincodes {
    /// Itself, for calls that outlive a borrow.
    me: Weak<Chaincodes>,
    runtime: Arc<Runtime>,
    packages: Arc<PackageStore>,
    channels: Arc<Channels>,
    local: LocalMsp,
    system: SystemChaincodes,
    definitions: Definitions,
    /// One lock for each package being installed.
    installing: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Packages that were started because a definition uses them.
    started: Mutex<BTreeSet<String>>,
    install_timeout: Duration,
    /// Users start chaincode themselves, under `name:version`, and install nothing.
    dev_mode: bool,
}

impl Chaincodes {
    /// Opens the packages. Nothing runs yet; see [`Chaincodes::follow`].
    pub fn new(parts: ChaincodeParts) -> Result<Arc<Self>, ChaincodeSetupError> {
        let path = parts.packages;
        let packages = PackageStore::open(parts.env.disk.clone(), &path);
        let packages = Arc::new(packages.map_err(|source| ChaincodeSetupError::Packages {
            path,
            source: Box::new(source),
        })?);
        let source: Arc<dyn PackageSource> = packages.clone();
        let runtime_parts = RuntimeParts {
            host: (parts.host)(source),
            certificates: parts.authority.map(|a| a as _),
            dialler: parts.dialler,
        };
        let dev_mode = parts.runtime.dev_mode;
        let runtime = Runtime::new(parts.runtime, runtime_parts);
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime,
            packages,
            system: SystemChaincodes::new(parts.channels.clone(), parts.local.clone()),
            channels: parts.channels,
            local: parts.local,
            definitions: Definitions::default(),
            installing: Mutex::default(),
            started: Mutex::default(),
            install_timeout: parts.install_timeout,
            dev_mode,
        }))
    }

    /// The running chaincode.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    pub(crate) fn local_msp(&self) -> &LocalMsp {
        &self.local
    }

    pub(crate) fn channels(&self) -> &Arc<Channels> {
        &self.channels
    }

    pub(crate) fn channel(&self, id: &str) -> Option<Arc<PeerChannel>> {
        self.channels.get(id)
    }

    /// Stops every chaincode.
    pub async fn shutdown(&self) {
        self.runtime.shutdown().await;
    }

    /// How this peer stands to a chaincode of a channel.
    pub(crate) fn local_chaincode(
        &self,
        channel: &PeerChannel,
        name: &str,
    ) -> Result<Option<Arc<LocalChaincode>>, String> {
        self.definitions
            .local(channel, name, self.local.msp_id(), &self.packages)
    }

    /// The chaincode a call means, if it may be run. Reads its sequence in the simulation.
    pub(crate) fn runnable(&self, tx: &mut Tx, name: &str) -> Result<Runnable, String> {
        let Some(channel) = tx.channel().cloned() else {
            return Err("could not get channel config for channel ''".to_owned());
        };
        let simulator = tx.simulator_mut().ok_or("no ledger context")?;
        let found = self.definitions.runnable(
            &channel,
            name,
            self.local.msp_id(),
            &self.packages,
            simulator,
        )?;
        let LocalChaincode {
            definition,
            package_id,
            ..
        } = &*found;
        let package_id = match package_id {
            Some(package_id) => package_id.clone(),
            None if self.dev_mode => format!("{name}:{}", definition.version()),
            None => {
                return Err(format!(
                    "chaincode definition for '{name}' exists, but chaincode is not installed"
                ));
            }
        };
        Ok(Runnable {
            definition: definition.clone(),
            package_id,
        })
    }

    pub(crate) fn check_call_allowed(&self, channel: &str, caller: &Caller) -> Result<(), String> {
        let config = self.channel(channel).map(|c| c.config());
        let resource = "peer/ChaincodeToChaincode";
        // The identity was verified on the calling channel, which says nothing about others.
        let caller = Caller {
            verified: None,
            ..caller.clone()
        };
        let checked = acl_check(&self.local, channel, config.as_deref(), resource, &caller);
        checked.map_err(Denied::logged)
    }

    /// Runs a chaincode of the transaction's channel and gives its last message.
    pub(crate) async fn invoke(
        &self,
        tx: &mut Tx,
        name: &str,
        input: ChaincodeInput,
    ) -> Result<ChaincodeMessage, String> {
        if is_system(name) {
            let response = self.system.call(self, tx, name, &input).await;
            return Ok(completed(tx, &response));
        }
        let (target, kind) = self
            .check_invocation(tx, name, &input)
            .map_err(|e| format!("invalid invocation: {e}"))?;
        let invocation = Invocation {
            target,
            channel: tx.channel_id().to_owned(),
            txid: tx.proposed.tx_id.clone(),
            kind,
            input: ChaincodeInput {
                decorations: Default::default(),
                ..input
            },
            proposal: Some(tx.proposed.signed.clone()),
            timeout: None,
        };
        self.runtime
            .invoke(invocation, tx)
            .await
            .map_err(|e| report(&e))
    }

    /// Runs a chaincode for an endorsement: its response, and its event if it set one.
    pub(crate) async fn execute(
        &self,
        tx: &mut Tx,
        name: &str,
        input: ChaincodeInput,
    ) -> Result<(Response, Option<ChaincodeEvent>), String> {
        let tx_id = tx.proposed.tx_id.clone();
        let message = self
            .invoke(tx, name, input)
            .await
            .map_err(|e| format!("failed to execute transaction {tx_id}: {e}"))?;
        read_completion(&tx_id, name, message).map_err(|e| report(&e))
    }

    /// Finds the chaincode and settles whether this call must, may or may not initialise it.
    fn check_invocation(
        &self,
        tx: &mut Tx,
        name: &str,
        input: &ChaincodeInput,
    ) -> Result<(LaunchRequest, InvokeKind), String> {
        let channel = tx.channel_id().to_owned();
        let found = self.runnable(tx, name).map_err(|e| {
            format!("[channel {channel}] failed to get chaincode container info for {name}: {e}")
        })?;
        let definition = &found.definition;
        let version = definition.version();
        let simulator = tx.simulator_mut().ok_or("no ledger context")?;
        let mut needs_init = false;
        if definition.init_required() {
            let value = simulator
                .get_state(name, INITIALIZED_KEY)
                .map_err(|e| format!("could not get 'initialized' key: {}", report(&e)))?;
            needs_init = value.as_deref().unwrap_or_default() != version.as_bytes();
        }
        let kind = match (input.is_init, needs_init) {
            (true, _) if !definition.init_required() => {
                return Err(format!(
                    "chaincode '{name}' does not require initialization but called as init"
                ));
            }
            (true, false) => {
                return Err(format!(
                    "chaincode '{name}' is already initialized but called as init"
                ));
            }
            (true, true) => {
                let version = Bytes::copy_from_slice(version.as_bytes());
                simulator
                    .set_state(name, INITIALIZED_KEY, version)
                    .map_err(|e| format!("could not set 'initialized' key: {}", report(&e)))?;
                InvokeKind::Init
            }
            (false, true) => {
                return Err(format!(
                    "chaincode '{name}' has not been initialized for this version, must call as \
                     init first"
                ));
            }
            (false, false) => InvokeKind::Transaction,
        };
        let target = LaunchRequest {
            package_id: found.package_id,
            name: name.to_owned(),
            version: version.to_owned(),
        };
        Ok((target, kind))
    }
}

/// A system chaincode's answer in the form every chaincode answers.
fn completed(tx: &Tx, response: &Response) -> ChaincodeMessage {
    ChaincodeMessage {
        r#type: Type::Completed as i32,
        payload: response.encode_to_vec().into(),
        txid: tx.proposed.tx_id.clone(),
        channel_id: tx.channel_id().to_owned(),
        ..Default::default()
    }
}

/// Where the packages lie below the peer's data, as in Fabric.
pub fn packages_folder(data: &Path) -> PathBuf {
    data.join("lifecycle").join("chaincodes")
}

impl PackageSource for PackageStore {
    fn package(&self, package_id: &str) -> Result<Option<Bytes>, String> {
        match self.load(package_id) {
            Ok(package) => Ok(Some(package)),
            Err(store::StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(report(&error)),
        }
    }
}
