//! One command, one network: the instance that `selvage up` makes or finds again, and what it
//! prints about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use selvage_manager_api::cert::{CertType, CfgRequestBody};
use selvage_manager_api::consensus::Consensus;
use selvage_manager_api::instance::{
    BlockInfo, CceClusterInfo, ChannelInfoV2, CreateRequestBody, OrgPeer,
};
use selvage_manager_api::operation::{OperationStatus, OperationType};
use serde::{Deserialize, Serialize};

use crate::archive;
use crate::error::ManagerError;
use crate::fabric::Site;
use crate::files::{read_limited, write_private};
use crate::network::keys::{self, USER};
use crate::random;
use crate::sample::SAMPLE_NAME;
use crate::service::Manager;
use crate::shell;
use crate::store::{InstanceRow, InstanceState, OperationFilter, OperationRow};

/// Name of the instance.
const NAME: &str = "first-light";
/// Its channel.
const CHANNEL: &str = "channel";
/// File in the data folder that holds the report, for `selvage invoke`.
const REPORT_FILE: &str = "up.json";
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long nodes of an instance that is there may take to answer.
const HEALTHY: Duration = Duration::from_secs(120);

/// What `selvage up` is asked for. Where it is asked for nothing, a new network is the usual one, and
/// one that is there is as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpRequest {
    /// Peer organisations, one peer each; two without a word.
    pub orgs: Option<u32>,
    /// `solo`, `etcdraft` or `SFLIC`; the first without a word.
    pub consensus: Option<String>,
    /// Ordering nodes; as many as the consensus usually has without a word.
    pub orderers: Option<u32>,
    /// `ECDSA`; the other is refused by the API.
    pub sign_algorithm: Option<String>,
    /// `node`, `go`, or [`NO_CHAINCODE`]; the first without a word.
    pub chaincode: Option<String>,
    /// Whether organisational units in certificates give roles, as in Fabric's samples; they do
    /// without a word.
    pub node_ous: Option<bool>,
}

/// In the place of a sample chaincode: none.
pub const NO_CHAINCODE: &str = "NONE";

impl UpRequest {
    /// Whether such a network can be made.
    pub fn check(&self) -> Result<(), ManagerError> {
        selvage_manager_api::validate::create(&body(self))
            .map(drop)
            .map_err(|e| refused(&e))
    }
}

/// A gateway and an identity to use it with; paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// `host:port`.
    pub endpoint: String,
    /// The authority of its TLS certificate.
    pub tls_ca: PathBuf,
    /// The name in its TLS certificate.
    pub hostname: String,
    /// The user's organisation.
    pub msp_id: String,
    /// The user's certificate.
    pub cert: PathBuf,
    /// The user's key.
    pub key: PathBuf,
}

/// What there is: the object `selvage up --detach --json` prints.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpReport {
    /// Address of the console.
    pub console: String,
    /// Address of the API.
    pub api: String,
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
    /// Project.
    pub project_id: String,
    /// Instance.
    pub blockchain_id: String,
    /// Channel.
    pub channel: String,
    /// Chaincode, null with `--chaincode NONE`.
    pub chaincode: Option<String>,
    /// How to reach the network.
    pub gateway: GatewayReport,
}

impl std::fmt::Debug for UpReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpReport")
            .field("console", &self.console)
            .field("blockchain_id", &self.blockchain_id)
            .finish_non_exhaustive()
    }
}

impl UpReport {
    /// The report of the network in a data folder.
    pub fn load(data: &Path) -> Result<Self, ManagerError> {
        let path = data.join(REPORT_FILE);
        if !path.exists() {
            return Err(ManagerError::Option(format!(
                "there is no network in {}; make one with: {} up --detach --data {}",
                data.display(),
                shell::program(),
                shell::quoted(data)
            )));
        }
        serde_json::from_slice(&read_limited(&path, 64 * 1024)?).map_err(|e| {
            ManagerError::Corrupt {
                what: "up.json",
                reason: e.to_string(),
            }
        })
    }
}

/// The report with what only a person needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpAnswer {
    /// What scripts get.
    pub report: UpReport,
    /// Console user.
    pub user: String,
    /// Its first password.
    pub password: String,
    /// Folder with the SDK configuration and the certificates it names.
    pub sdk: PathBuf,
    /// Whether the network was there before.
    pub resumed: bool,
}

impl std::fmt::Debug for UpAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpAnswer")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

fn body(request: &UpRequest) -> CreateRequestBody {
    let orgs = 1..=request.orgs.unwrap_or(2);
    let orgs: Vec<String> = orgs.map(|n| format!("org{n}")).collect();
    let or = |asked: &Option<String>, usual: &str| asked.clone().unwrap_or(usual.to_owned());
    let chaincode = or(&request.chaincode, "node");
    CreateRequestBody {
        name: Some(NAME.to_owned()),
        version_type: Some(4),
        fabric_version: Some("2.2".to_owned()),
        consensus: Some(or(&request.consensus, "solo")),
        orderer_node_number: request
            .orderers
            .map(|n| i32::try_from(n).unwrap_or(i32::MAX)),
        sign_algorithm: Some(or(&request.sign_algorithm, "ECDSA")),
        enterprise_project_id: Some("0".to_owned()),
        resource_password: Some(random::password()),
        cluster_type: Some("CCE".to_owned()),
        create_new_cluster: Some(false),
        cce_cluster_info: Some(CceClusterInfo {
            cluster_id: "local".to_owned(),
            cluster_name: "local".to_owned(),
            cluster_platform_type: None,
        }),
        peer_orgs: Some(
            orgs.iter()
                .map(|o| OrgPeer {
                    name: o.clone(),
                    node_count: 1,
                })
                .collect(),
        ),
        channels: Some(vec![ChannelInfoV2 {
            name: CHANNEL.to_owned(),
            org_names: orgs,
            description: None,
        }]),
        block_info: Some(BlockInfo {
            batch_timeout: Some(1),
            max_message_count: Some(500),
            preferred_maxbytes: Some(2),
        }),
        sample_chaincode: (chaincode != NO_CHAINCODE).then_some(chaincode),
        node_ous: Some(request.node_ous.unwrap_or(true)),
        ..CreateRequestBody::default()
    }
}

/// A line for a person when the network that is there is not the one asked for.
fn differs(row: &InstanceRow, request: &UpRequest) -> Option<String> {
    let spec = &row.spec;
    let consensus = spec.consensus.wire();
    let chaincode = spec.sample_chaincode.as_deref().unwrap_or(NO_CHAINCODE);
    let asked = |asked: &Option<String>, is: &str| {
        let asked = asked.as_deref();
        asked.is_none_or(|asked| asked.eq_ignore_ascii_case(is))
    };
    let same = request.orgs.is_none_or(|n| n as usize == spec.orgs.len())
        && asked(&request.consensus, consensus)
        && request.orderers.is_none_or(|n| n == spec.orderers)
        && asked(&request.chaincode, chaincode)
        && request.node_ous.is_none_or(|ous| ous == spec.node_ous);
    (!same).then(|| {
        format!(
            "the network in this folder stays as it was made: --consensus {} --orderers {} \
             --orgs {} --chaincode {chaincode} --node-ous {}; choose another folder with --data \
             for another network",
            word(spec.consensus),
            spec.orderers,
            spec.orgs.len(),
            spec.node_ous
        )
    })
}

/// A consensus as the command line calls it.
fn word(consensus: Consensus) -> &'static str {
    match consensus {
        Consensus::Solo => "solo",
        Consensus::Raft => "raft",
        Consensus::Bft => "bft",
    }
}

fn refused(error: &selvage_manager_api::ApiError) -> ManagerError {
    ManagerError::Option(error.message.clone())
}

impl Manager {
    /// Makes the network, or finds it again and waits until it answers. `say` gets a line per step.
    pub async fn up(
        &self,
        request: &UpRequest,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<UpAnswer, ManagerError> {
        // The request is checked even when the network exists, so a wish that cannot be met is
        // refused rather than passed over.
        request.check()?;
        let found = self.first_light().await?;
        let resumed = found
            .as_ref()
            .is_some_and(|r| r.state == InstanceState::Ready);
        if let Some(row) = found {
            if let Some(line) = differs(&row, request) {
                say(line);
            }
            self.settle(&row, say).await?;
        }
        if self.first_light().await?.is_none() {
            self.make(request, say).await?;
        }
        let row = self.first_light().await?.ok_or_else(|| {
            ManagerError::Driver("the network was deleted while it was started".to_owned())
        })?;
        self.wait_healthy(&row, say).await?;
        self.report(&row, resumed)
    }

    /// The instance that `selvage up` makes.
    pub(crate) async fn first_light(&self) -> Result<Option<InstanceRow>, ManagerError> {
        let rows = self
            .inner
            .store
            .instances(Some(&self.inner.access.project_id))
            .await?;
        Ok(rows.into_iter().find(|r| r.spec.name == NAME))
    }

    /// Waits for an operation that an earlier start began.
    async fn settle(
        &self,
        row: &InstanceRow,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ManagerError> {
        if row.state == InstanceState::Ready {
            return Ok(());
        }
        let filter = OperationFilter {
            blockchain_id: Some(row.id.clone()),
            ..OperationFilter::default()
        };
        let (_, records) = self
            .inner
            .store
            .operations(&row.project_id, &filter)
            .await?;
        match records.first() {
            Some(newest) => self.wait(&newest.record.operation_id.clone(), say).await,
            None => Ok(()),
        }
    }

    async fn make(
        &self,
        request: &UpRequest,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ManagerError> {
        let id = &self.inner.access.project_id;
        let project = self
            .inner
            .store
            .project(id)
            .await?
            .ok_or_else(|| ManagerError::Corrupt {
                what: "project",
                reason: "it is missing".to_owned(),
            })?;
        let made = self
            .create(&project, &body(request))
            .await
            .map_err(|e| refused(&e))?;
        self.wait(&made.operation_id, say).await
    }

    /// Waits for an operation and tells its steps.
    async fn wait(
        &self,
        operation_id: &str,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ManagerError> {
        let mut told = std::collections::BTreeSet::new();
        loop {
            let row = self
                .inner
                .store
                .operation(operation_id)
                .await?
                .ok_or_else(|| ManagerError::Corrupt {
                    what: "operation",
                    reason: "it is missing".to_owned(),
                })?;
            for line in lines(&row) {
                if told.insert(line.clone()) {
                    say(line);
                }
            }
            match row.record.operation_status {
                OperationStatus::Finished => return Ok(()),
                OperationStatus::Failed | OperationStatus::Stop => {
                    if row.record.operation_type == OperationType::Delete.wire() {
                        return Ok(());
                    }
                    return Err(ManagerError::Driver(format!(
                        "the network could not be made, and what was begun was taken back: {}",
                        row.record.desc
                    )));
                }
                OperationStatus::Waiting | OperationStatus::Processing => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn wait_healthy(
        &self,
        row: &InstanceRow,
        say: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), ManagerError> {
        let site = self
            .site(row)
            .ok_or_else(|| ManagerError::Driver("the network has no names yet".to_owned()))?;
        let began = tokio::time::Instant::now();
        let mut told = false;
        loop {
            let seen = self.observe(&row.id, &site.network).await;
            let ill = seen
                .iter()
                .find(|(_, _, s)| !s.as_ref().is_some_and(|s| s.healthy));
            let Some((_, node, state)) = ill else {
                return Ok(());
            };
            if began.elapsed() > HEALTHY {
                let why = state
                    .as_ref()
                    .map_or("it was not started", |s| s.detail.as_str());
                return Err(ManagerError::Driver(format!(
                    "{} does not answer within {} seconds: {why}",
                    node.name,
                    HEALTHY.as_secs()
                )));
            }
            if !told {
                say("waiting for the nodes".to_owned());
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes the SDK configuration, the certificates and the report, and answers them.
    fn report(&self, row: &InstanceRow, resumed: bool) -> Result<UpAnswer, ManagerError> {
        let site = self
            .site(row)
            .ok_or_else(|| ManagerError::Driver("the network has no names yet".to_owned()))?;
        let sdk = self.data().join("sdk");
        let has_chaincode = row.spec.sample_chaincode.is_some();
        write_sdk(&site, &sdk, &row.spec.name, has_chaincode)?;
        let portal = self.inner.portal.lock().clone();
        let access = &self.inner.access;
        let first = site
            .network
            .peers
            .first()
            .and_then(|org| Some((org, org.nodes.first()?)));
        let (org, node) =
            first.ok_or_else(|| ManagerError::Driver("the network has no peers".to_owned()))?;
        let msp = site.folders.user(org, USER).join("msp");
        let report = UpReport {
            console: format!("{portal}/"),
            api: portal,
            ak: access.ak.clone(),
            sk: access.sk.clone(),
            project_id: access.project_id.clone(),
            blockchain_id: row.id.clone(),
            channel: site
                .network
                .channels
                .first()
                .map_or(String::new(), |c| c.name.clone()),
            chaincode: has_chaincode.then(|| SAMPLE_NAME.to_owned()),
            gateway: GatewayReport {
                endpoint: site.network.address(node),
                tls_ca: site.folders.node(node).join("tls/ca.crt"),
                hostname: node.domain.clone(),
                msp_id: org.msp_id(),
                cert: keys::only_file(&msp.join("signcerts"))?,
                key: keys::only_file(&msp.join("keystore"))?,
            },
        };
        let text = serde_json::to_vec_pretty(&report).map_err(|e| ManagerError::Corrupt {
            what: "up.json",
            reason: e.to_string(),
        })?;
        write_private(&self.data().join(REPORT_FILE), &text)?;
        Ok(UpAnswer {
            report,
            user: access.user.clone(),
            password: access.password.clone(),
            sdk,
            resumed,
        })
    }
}

/// Puts the SDK configuration and the certificates it names into a folder.
fn write_sdk(
    site: &Site,
    sdk: &Path,
    instance: &str,
    has_chaincode: bool,
) -> Result<(), ManagerError> {
    let channel = site.network.channels.first().map(|c| c.name.clone());
    let body = CfgRequestBody {
        chaincode_name: Some(SAMPLE_NAME.to_owned()),
        cert_path: Some(sdk.display().to_string()),
        channel_name: channel.clone(),
        peer_orgs: Some(
            site.network
                .peers
                .iter()
                .map(|o| {
                    (
                        o.name.clone(),
                        (0..o.nodes.len()).map(|n| n.to_string()).collect(),
                    )
                })
                .collect(),
        ),
        is_multi_chan: Some(!has_chaincode),
        channel_chaincode: channel.map(|c| [(c, Vec::new())].into()),
        ..CfgRequestBody::default()
    };
    let mut archives = vec![archive::sdk_config(site, instance, &body).map_err(|e| refused(&e))?];
    for org in &site.network.peers {
        let user = archive::certificates(site, &org.name, CertType::User);
        archives.push(user.map_err(|e| refused(&e))?);
    }
    let orderer = &site.network.orderer.name;
    let admin = archive::certificates(site, orderer, CertType::Admin);
    archives.push(admin.map_err(|e| refused(&e))?);
    for archive in archives {
        for (name, content) in archive.files() {
            let path = sdk.join(name);
            // Writing is synced; what is there already need not be written again.
            if std::fs::read(&path).ok().as_deref() != Some(content) {
                write_private(&path, content)?;
            }
        }
    }
    Ok(())
}

/// One line per sub-step that is done, and what a failed one left behind.
fn lines(row: &OperationRow) -> Vec<String> {
    let processes = row.record.operation_process.values();
    let mut steps: Vec<_> = processes.flat_map(|p| p.sub_steps.values()).collect();
    steps.sort_by_key(|s| s.serial_num);
    let mut lines = Vec::new();
    for step in steps {
        match step.status {
            OperationStatus::Finished => {
                let milliseconds = (step.end_time - step.start_time) / 1_000_000;
                lines.push(format!("{} ({milliseconds} ms)", step.substep_name));
            }
            OperationStatus::Failed => lines.extend(step.message.iter().flatten().cloned()),
            _ => {}
        }
    }
    lines
}
