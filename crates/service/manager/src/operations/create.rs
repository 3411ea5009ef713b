//! Creating an instance, step by step.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all, try_join_all};
use selvage_manager_api::validate::CreateSpec;

use super::{Plan, Step, StepLog, StepName};
use crate::chaincode::deploy_plan;
use crate::data_dir;
use crate::driver::{Driver, NodeSpec};
use crate::error::ManagerError;
use crate::fabric::{ChaincodePlan, Fabric, Site};
use crate::files;
use crate::network::{Folders, Network, genesis, keys, node_config, ports};
use crate::store::{InstanceState, Store};

const fn name(process: &'static str, substep: &'static str) -> StepName {
    StepName { process, substep }
}

/// Names and ports.
pub(super) const NAMES: StepName = name("Preparation", "Generate basic configurations");
/// Folders.
pub(super) const STORAGE: StepName =
    name("Create Other Dependent Resource", "Create network storage");
const CERTIFICATES: StepName = name("CreateBlockchainService", "Issue certificates");
const GENESIS: StepName = name("CreateBlockchainService", "Create genesis block");
/// Processes.
pub(super) const NODES: StepName = name("CreateBlockchainService", "Start nodes");
const ORDERERS: StepName = name("CreateChannel", "Join orderers to channel");
const PEERS: StepName = name("CreateChannel", "Join peers to channel");
const CHAINCODE: StepName = name("InstallChaincode", "Install and commit chaincode");
const VERIFY: StepName = name("Verification", "Verify the network");

/// How often the health of nodes is looked at while they start.
const LOOK: Duration = Duration::from_millis(25);
/// Lines of chaincode output kept per node when a creation fails.
const CHAINCODE_LINES: usize = 20;
/// A node that ended this often while it should start will not come up.
const ENDS: u32 = 3;

/// What the steps work with.
pub(crate) struct CreateParts {
    pub(crate) instance: String,
    pub(crate) spec: CreateSpec,
    pub(crate) folders: Folders,
    pub(crate) store: Store,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) fabric: Arc<dyn Fabric>,
    /// Where clients and nodes dial nodes.
    pub(crate) host: String,
    /// Where nodes listen.
    pub(crate) listen: IpAddr,
    /// The sample chaincode's package, when one is asked for.
    pub(crate) chaincode: Option<ChaincodePlan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Names,
    Storage,
    Certificates,
    Genesis,
    Nodes,
    Orderers,
    Peers,
    Chaincode,
    Verify,
}

struct CreateStep {
    what: What,
    parts: Arc<CreateParts>,
}

/// The plan of a creation.
pub(crate) fn creation(parts: CreateParts) -> Plan {
    let parts = Arc::new(parts);
    let step = |what| {
        Box::new(CreateStep {
            what,
            parts: Arc::clone(&parts),
        }) as Box<dyn Step>
    };
    let mut stages: Vec<Vec<Box<dyn Step>>> = vec![
        vec![step(What::Names)],
        vec![step(What::Storage)],
        vec![step(What::Certificates)],
        vec![step(What::Genesis)],
        vec![step(What::Nodes)],
        vec![step(What::Orderers), step(What::Peers)],
    ];
    if parts.chaincode.is_some() {
        stages.push(vec![step(What::Chaincode)]);
    }
    stages.push(vec![step(What::Verify)]);
    let (good, bad) = (Arc::clone(&parts), parts);
    Plan {
        stages,
        succeed: Box::new(move || {
            let parts = Arc::clone(&good);
            Box::pin(async move {
                parts
                    .store
                    .set_state(&parts.instance, InstanceState::Ready)
                    .await
            })
        }),
        fail: Box::new(move || {
            let parts = Arc::clone(&bad);
            Box::pin(async move { parts.store.remove_instance(&parts.instance).await })
        }),
    }
}

impl CreateParts {
    async fn network(&self) -> Result<Option<Network>, ManagerError> {
        Ok(self
            .store
            .instance(&self.instance)
            .await?
            .and_then(|i| i.network))
    }

    async fn site(&self) -> Result<Site, ManagerError> {
        let network = self.network().await?.ok_or_else(|| ManagerError::Corrupt {
            what: "instance network",
            reason: "names and ports are missing".to_owned(),
        })?;
        Ok(Site {
            network: Arc::new(network),
            folders: self.folders.clone(),
        })
    }

    async fn names(&self) -> Result<(), ManagerError> {
        let mut network = Network::name(&self.instance, &self.spec, &self.host);
        let held = self.store.ports().await?;
        let seed = selvage_crypto::sha256(self.folders.root().as_os_str().as_encoded_bytes());
        let seed = u64::from(u32::from_be_bytes([seed[0], seed[1], seed[2], seed[3]]));
        let listen = self.listen.to_string();
        let found = ports::find(&listen, network.ports_needed(), &held, seed)?;
        network.give_ports(&found);
        self.store.set_network(&self.instance, &network).await
    }

    fn storage(&self) -> Result<(), ManagerError> {
        files::make_dir(self.folders.root())?;
        data_dir::check_space(self.folders.root())
    }

    fn specs(&self, site: &Site) -> Result<Vec<NodeSpec>, ManagerError> {
        site.network
            .nodes()
            .map(|(org, node)| {
                let (network, folders) = (&site.network, &self.folders);
                node_config::prepare(&self.instance, network, folders, org, node, self.listen)
            })
            .collect()
    }

    async fn start(&self, log: &StepLog) -> Result<(), ManagerError> {
        let site = self.site().await?;
        for spec in self.specs(&site)? {
            log.say(format!("starting {}", spec.name));
            self.driver.apply(spec).await?;
        }
        let ids: Vec<String> = site
            .network
            .nodes()
            .map(|(_, node)| node_config::node_id(&self.instance, node))
            .collect();
        try_join_all(ids.iter().map(|id| wait_healthy(self.driver.as_ref(), id))).await?;
        Ok(())
    }

    async fn healthy(&self) -> Result<bool, ManagerError> {
        let Some(network) = self.network().await? else {
            return Ok(false);
        };
        for (_, node) in network.nodes() {
            let id = node_config::node_id(&self.instance, node);
            if !self.driver.observe(&id).await.is_some_and(|o| o.healthy) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn stop(&self) -> Result<(), ManagerError> {
        let Some(network) = self.network().await? else {
            return Ok(());
        };
        stop_nodes(
            &self.instance,
            &network,
            &self.folders,
            self.driver.as_ref(),
            self.listen,
        )
        .await
    }

    async fn join_orderers(&self) -> Result<(), ManagerError> {
        let site = self.site().await?;
        for channel in &site.network.channels {
            let nodes = &site.network.orderer.nodes;
            try_join_all(
                nodes
                    .iter()
                    .map(|n| self.fabric.join_orderer(&site, n, channel)),
            )
            .await?;
        }
        Ok(())
    }

    async fn join_peers(&self) -> Result<(), ManagerError> {
        let site = self.site().await?;
        for channel in &site.network.channels {
            let peers = site
                .network
                .members(channel)
                .flat_map(|org| org.nodes.iter().map(move |node| (org, node)));
            try_join_all(peers.map(|(org, node)| self.fabric.join_peer(&site, org, node, channel)))
                .await?;
        }
        Ok(())
    }

    async fn chaincode(&self) -> Result<(), ManagerError> {
        let (Some(plan), site) = (&self.chaincode, self.site().await?) else {
            return Ok(());
        };
        for channel in &site.network.channels {
            deploy_plan(self.fabric.as_ref(), &site, channel, plan).await?;
        }
        Ok(())
    }

    /// Adds what chaincode printed to a failure: the logs go when the creation is taken back.
    async fn explain(
        &self,
        done: Result<(), ManagerError>,
        log: &StepLog,
    ) -> Result<(), ManagerError> {
        if done.is_err()
            && let Some(network) = self.network().await?
        {
            for (org, node) in network.nodes() {
                let spec = node_config::spec(&self.instance, &self.folders, org, node, self.listen);
                let lines = files::tail(&spec.log(), 32 * 1024);
                let said: Vec<&String> = lines
                    .iter()
                    .filter(|l| l.contains("[peer.chaincode."))
                    .collect();
                for line in &said[said.len().saturating_sub(CHAINCODE_LINES)..] {
                    log.say(line.as_str());
                }
            }
        }
        done
    }

    async fn verify(&self) -> Result<(), ManagerError> {
        let site = self.site().await?;
        let chaincode = self.chaincode.as_ref();
        let channels = site.network.channels.iter();
        try_join_all(channels.map(|c| self.fabric.smoke(&site, c, chaincode))).await?;
        Ok(())
    }
}

/// Waits until a node answers that it is well; gives up when it keeps ending.
async fn wait_healthy(driver: &dyn Driver, id: &str) -> Result<(), ManagerError> {
    loop {
        let seen = driver.observe(id).await.ok_or_else(|| {
            ManagerError::Driver(format!("the node {id} was removed while it started"))
        })?;
        if seen.healthy {
            return Ok(());
        }
        if seen.restarts >= ENDS {
            return Err(ManagerError::Driver(seen.detail));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs work that waits for the disk away from the threads that answer requests.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ManagerError> + Send + 'static,
) -> Result<T, ManagerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(ManagerError::Driver(format!("a step broke off: {e}"))))
}

impl Step for CreateStep {
    fn name(&self) -> StepName {
        match self.what {
            What::Names => NAMES,
            What::Storage => STORAGE,
            What::Certificates => CERTIFICATES,
            What::Genesis => GENESIS,
            What::Nodes => NODES,
            What::Orderers => ORDERERS,
            What::Peers => PEERS,
            What::Chaincode => CHAINCODE,
            What::Verify => VERIFY,
        }
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(match self.what {
            // A first build fetches packages and compiles.
            What::Chaincode => 900,
            What::Nodes | What::Orderers | What::Peers | What::Verify => 120,
            _ => 60,
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<bool, ManagerError>> {
        Box::pin(async move {
            match self.what {
                What::Names => Ok(self.parts.network().await?.is_some()),
                What::Nodes => self.parts.healthy().await,
                // The others find out themselves what is left to do.
                _ => Ok(false),
            }
        })
    }

    fn act<'a>(&'a self, log: &'a StepLog) -> BoxFuture<'a, Result<(), ManagerError>> {
        Box::pin(async move {
            let parts = Arc::clone(&self.parts);
            match self.what {
                What::Names => parts.names().await,
                What::Storage => blocking(move || parts.storage()).await,
                What::Certificates => {
                    let site = parts.site().await?;
                    blocking(move || keys::make(&site.network, &site.folders)).await
                }
                What::Genesis => {
                    let site = parts.site().await?;
                    let spec = parts.spec.clone();
                    blocking(move || genesis::make(&site.network, &spec, &site.folders)).await
                }
                What::Nodes => parts.start(log).await,
                What::Orderers => parts.join_orderers().await,
                What::Peers => parts.join_peers().await,
                What::Chaincode => {
                    let done = parts.chaincode().await;
                    parts.explain(done, log).await
                }
                What::Verify => {
                    let done = parts.verify().await;
                    parts.explain(done, log).await
                }
            }
        })
    }

    fn undo(&self) -> BoxFuture<'_, Result<(), ManagerError>> {
        Box::pin(async move {
            let parts = Arc::clone(&self.parts);
            match self.what {
                What::Names => parts.store.clear_network(&parts.instance).await,
                What::Storage => blocking(move || files::remove_dir(parts.folders.root())).await,
                What::Nodes => parts.stop().await,
                // These changed nothing outside the folders and processes that go anyway.
                What::Certificates
                | What::Genesis
                | What::Orderers
                | What::Peers
                | What::Chaincode
                | What::Verify => Ok(()),
            }
        })
    }
}

/// Stops every node of an instance, all at once.
pub(super) async fn stop_nodes(
    instance: &str,
    network: &Network,
    folders: &Folders,
    driver: &dyn Driver,
    listen: IpAddr,
) -> Result<(), ManagerError> {
    let specs: Vec<NodeSpec> = network
        .nodes()
        .map(|(org, node)| node_config::spec(instance, folders, org, node, listen))
        .collect();
    join_all(specs.iter().map(|spec| driver.remove(spec)))
        .await
        .into_iter()
        .collect()
}
