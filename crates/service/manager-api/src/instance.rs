//! Instances: creation, list, detail, status, nodes, sizes, quotas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of operation 7. Every field is optional here, because the SDK sends what was set:
/// [`crate::validate::create`] asks for the required ones and fills in the defaults.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CreateRequestBody {
    /// 4–24 of Chinese, letters, digits, hyphen; no hyphen first.
    pub name: Option<String>,
    /// Size of the edition: 4 the smallest, 2, 3 the largest.
    pub version_type: Option<i32>,
    /// `2.2`.
    pub fabric_version: Option<String>,
    /// `private` or `union`.
    pub blockchain_type: Option<String>,
    /// `solo`, `etcdraft`, `SFLIC`.
    pub consensus: Option<String>,
    /// `ECDSA` or `sm2`.
    pub sign_algorithm: Option<String>,
    /// Enterprise project.
    pub enterprise_project_id: Option<String>,
    /// `evs`, `nfs`, `efs`; the local driver keeps data in folders whatever is asked.
    pub volume_type: Option<String>,
    /// Required with `evs`.
    pub evs_disk_type: Option<String>,
    /// GB per organisation.
    pub org_disk_size: Option<i64>,
    /// `goleveldb` or `couchdb`.
    pub database_type: Option<String>,
    /// Password of the resources and of the block-chain management.
    pub resource_password: Option<String>,
    /// Ordering nodes: 1 with `solo`; 1, 3, 5 or 7 with `etcdraft`, 3 without a word; 4 to 10 with
    /// `SFLIC`, 4 without a word.
    pub orderer_node_number: Option<i32>,
    /// Whether nodes get an external address.
    pub use_eip: Option<bool>,
    /// Mbit/s of that address.
    pub bandwidth_size: Option<i32>,
    /// `CCE` or `ief`.
    pub cluster_type: Option<String>,
    /// Whether a host pool is to be made.
    pub create_new_cluster: Option<bool>,
    /// The host pool to use.
    pub cce_cluster_info: Option<CceClusterInfo>,
    /// The host pool to make.
    #[schema(value_type = Option<Object>)]
    pub cce_create_info: Option<serde_json::Value>,
    /// Edge placement.
    pub ief_deploy_mode: Option<i32>,
    /// Edge hosts.
    #[schema(value_type = Option<Object>)]
    pub ief_nodes_info: Option<serde_json::Value>,
    /// Peer organisations; default one, `organization`, with two peers.
    pub peer_orgs: Option<Vec<OrgPeer>>,
    /// Channels; default one, `channel`, that holds every organisation.
    pub channels: Option<Vec<ChannelInfoV2>>,
    /// Account of the rich-query database.
    #[schema(value_type = Option<Object>)]
    pub couchdb_info: Option<serde_json::Value>,
    /// Shared file system.
    #[schema(value_type = Option<Object>)]
    pub turbo_info: Option<serde_json::Value>,
    /// When a block is cut.
    pub block_info: Option<BlockInfo>,
    /// Kafka consensus of old versions.
    #[schema(value_type = Option<Object>)]
    pub kafka_create_info: Option<serde_json::Value>,
    /// Trusted computing platform.
    pub tc3_need: Option<bool>,
    /// REST plug-in.
    pub restful_api_support: Option<bool>,
    /// Whether the instance joins somebody else's consortium.
    pub is_invitee: Option<bool>,
    /// Whose.
    #[schema(value_type = Option<Object>)]
    pub invitor_infos: Option<serde_json::Value>,
    /// Our extension: install the sample chaincode of this language (`node`, `go`) as part of the
    /// creation, under the name `sample_chaincode_name`.
    pub sample_chaincode: Option<String>,
    /// Our extension: whether organisational units in certificates give roles (NodeOUs). BCS's
    /// instances have none, so without a word ours neither: any certificate of the organisation's
    /// authority is a member.
    pub node_ous: Option<bool>,
}

impl std::fmt::Debug for CreateRequestBody {
    /// Without passwords: only what identifies the request.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateRequestBody")
            .field("name", &self.name)
            .field("consensus", &self.consensus)
            .field("sign_algorithm", &self.sign_algorithm)
            .field("peer_orgs", &self.peer_orgs)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

/// `CCEClusterInfo`: a host pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CceClusterInfo {
    /// Its id.
    pub cluster_id: String,
    /// Its name.
    pub cluster_name: String,
    /// `VirtualMachine` (x86) or `ARM64`.
    pub cluster_platform_type: Option<String>,
}

/// `OrgPeer`: an organisation and how many peers it gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OrgPeer {
    /// Display name; may be Chinese.
    pub name: String,
    /// Peers.
    pub node_count: i32,
}

/// `ChannelInfoV2`: a channel to make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ChannelInfoV2 {
    /// 4–24 of `[a-z0-9]`, a letter first.
    pub name: String,
    /// Members; empty means every organisation.
    pub org_names: Vec<String>,
    /// Free text.
    pub description: Option<String>,
}

/// `CreateRequestBodyBlockInfo`: when a block is cut, whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct BlockInfo {
    /// Seconds, default 2.
    pub batch_timeout: Option<i32>,
    /// Transactions, default 500.
    pub max_message_count: Option<i32>,
    /// Megabytes, default 2.
    pub preferred_maxbytes: Option<i32>,
}

/// Answer of operation 7.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreateNewBlockchainResponse {
    /// Id, a UUID.
    pub blockchain_id: String,
    /// The name asked for.
    pub blockchain_name: String,
    /// Record to follow with operation 25.
    pub operation_id: String,
}

/// `BlockchainInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockchainInfo {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
}

/// Answer of operation 20.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListBlockchainsResponse {
    /// Instances of the project.
    pub blockchains: Vec<BlockchainInfo>,
    /// How many.
    pub count: i32,
}

/// `basic_info.status`. Anything else on the wire means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum InstanceStatus {
    /// 正常: everything that should run answers.
    Normal,
    /// 异常: something does not.
    Abnormal,
    /// 未知: it could not be observed.
    Unknown,
}

/// `basic_info.process_status`; absent when nothing is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum ProcessStatus {
    /// 创建中.
    IsCreating,
    /// 升级中.
    IsUpgrading,
    /// 扩缩容中.
    IsScaling,
    /// 删除中.
    IsDeleting,
    /// 添加中.
    IsAdding,
}

/// `PeerInfo.status`, whose spelling differs from [`InstanceStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum NodeGroupStatus {
    /// 创建中.
    IsCreating,
    /// 删除中.
    Isdeleting,
    /// 正常.
    Normal,
    /// 异常.
    AbNormal,
    /// 未知.
    Unknown,
}

/// `BasicInfo` of operation 27.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(clippy::struct_excessive_bools)] // The wire has these flags.
pub struct BasicInfo {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Version of the service and the Fabric kernel it speaks, such as `4.0.0`.
    pub version: String,
    /// `union` or `private`.
    pub service_type: String,
    /// `normal`.
    pub purchase_type: String,
    /// `ECDSA`.
    pub sign_algorithm: String,
    /// `solo`, `etcdraft` or `sflic`, lower case here.
    pub consensus: String,
    /// 1, on demand.
    pub charging_mode: i32,
    /// Edition.
    pub version_type: i32,
    /// `goleveldb`.
    pub database_type: String,
    /// Host pool.
    pub cluster_id: String,
    /// Its name.
    pub cluster_name: String,
    /// `CCE`.
    pub cluster_type: String,
    /// `no`.
    pub cluster_az: String,
    /// RFC 3339.
    pub created_time: String,
    /// `create`.
    pub deploy_type: String,
    /// Always false: no Kafka.
    pub order_fade_enabled: bool,
    /// Always false.
    pub is_cross_region: bool,
    /// Whether a failed upgrade can be taken back.
    pub is_support_rollback: bool,
    /// REST plug-in.
    pub is_support_restful: bool,
    /// Trusted computing platform.
    pub is_support_tc3: bool,
    /// Always false.
    pub is_old_service: bool,
    /// Empty.
    pub old_service_version: String,
    /// Where the block browser's API answers, `host:port`.
    pub agent_portal_addrs: Vec<String>,
    /// Observed state.
    pub status: InstanceStatus,
    /// What is going on, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_status: Option<ProcessStatus>,
    /// 0, not bought by period.
    pub order_status: i32,
    /// 0.
    pub order_fade_cache: i32,
    /// 0 running, 1 success, 2 failed, 3 ended.
    pub deploy_status: i32,
    /// When a block is cut.
    pub block_info: BlockInfo,
    /// `VirtualMachine` or `ARM64`.
    pub cluster_platform_type: String,
}

/// `ChannelInfo` of operation 27.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChannelInfo {
    /// Name.
    pub name: String,
    /// Members.
    pub org_names: Vec<String>,
    /// Their hashes.
    pub org_name_hash: Vec<String>,
    /// Organisation to peers.
    pub peers: BTreeMap<String, Vec<String>>,
}

/// `PeerAddress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerAddress {
    /// Domain and port: the name in the node's TLS certificate.
    pub domain_port: String,
    /// Address and port to dial.
    pub ip_port: String,
}

/// `PeerInfo`: the nodes of one organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerInfo {
    /// Organisation.
    pub name: String,
    /// Nodes.
    pub node_cnt: i32,
    /// Observed state.
    pub status: NodeGroupStatus,
    /// `ok/total`.
    pub status_detail: String,
    /// Name of the volume; for the local driver the folder's name.
    pub pvc_name: String,
    /// Where the nodes answer.
    pub address: Vec<PeerAddress>,
}

/// `SfsInfo`: where data lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SfsInfo {
    /// Volume.
    pub pvc_name: String,
    /// Its name.
    pub name: String,
    /// Its address; for the local driver the folder.
    pub addr: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Answer of operation 27. Fields of parts an instance does not have are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShowBlockchainDetailResponse {
    /// The instance.
    pub basic_info: BasicInfo,
    /// Channels.
    pub channels: Vec<ChannelInfo>,
    /// Peer organisations.
    pub peer_info: Vec<PeerInfo>,
    /// The ordering organisation.
    pub orderer_info: PeerInfo,
    /// Where data lies.
    pub sfs_info: SfsInfo,
    /// The manager itself, which does what BCS's agent does.
    pub agent_info: PeerInfo,
}

/// `Detail` of operation 30.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// RFC 3339, empty before the start.
    pub start_time: String,
    /// RFC 3339, empty before the end.
    pub end_time: String,
    /// `waiting`, `deploying`, `finished`, `failed`.
    pub status: String,
    /// The literal reason of a failure.
    pub detail: String,
}

/// `ComCCE`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ComCce {
    /// Hosts.
    pub cluster: Detail,
    /// Ports.
    pub network: Detail,
    /// Nothing to do locally.
    pub security_group: Detail,
}

/// Answer of operation 30.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ShowBlockchainStatusResponse {
    /// The network itself.
    pub bcs: Detail,
    /// External address.
    pub eip: Detail,
    /// Storage.
    pub sfs: Detail,
    /// Object storage: nothing to do locally.
    pub obs: Detail,
    /// Nothing to do.
    pub kafka: Detail,
    /// Hosts.
    pub cce: ComCce,
}

/// `Node` of operation 29.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Address to dial.
    pub ip_port: String,
    /// Channels the node has joined.
    pub channels: Vec<String>,
}

/// `Org` of operation 29.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Org {
    /// `<hash>MSP`.
    pub org_msp_id: String,
    /// Domain under which the nodes are named.
    pub org_domain: String,
    /// Nodes by name.
    pub peers: BTreeMap<String, Node>,
}

/// Answer of operation 29.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShowBlockchainNodesResponse {
    /// Organisations by name.
    pub node_orgs: BTreeMap<String, Org>,
}

/// `InstanceSpc`: limits of an edition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceSpc {
    /// Peers per organisation.
    pub org_peer_max_num: i32,
    /// Ordering nodes.
    pub orderer_max_num: i32,
    /// Tenants in a consortium.
    pub member_max_num: i32,
}

/// Answer of operation 28.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShowBlockchainFlavorsResponse {
    /// Limits.
    pub enterprise_spec: InstanceSpc,
}

/// `Resource` of operation 26.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resource {
    /// `instance`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Empty for counts.
    pub unit: String,
    /// Least.
    pub min: i32,
    /// Most.
    pub max: i32,
    /// Granted.
    pub quota: i32,
    /// Used.
    pub used: i32,
    /// Left.
    pub free: i32,
}

/// Answer of operation 26.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListQuotasResponse {
    /// Quotas.
    pub resources: Vec<Resource>,
}
