//! BCS's operations.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use selvage_manager_api::cert::{CertType, CfgRequestBody};
use selvage_manager_api::channel::{Channel, ListBlockchainChannelsResponse};
use selvage_manager_api::consensus::MAX_ORDERERS;
use selvage_manager_api::instance::{
    BasicInfo, BlockInfo, BlockchainInfo, ChannelInfo, CreateRequestBody, InstanceSpc,
    InstanceStatus, ListBlockchainsResponse, ListQuotasResponse, NodeGroupStatus, Org, PeerAddress,
    PeerInfo, ProcessStatus, Resource, SfsInfo, ShowBlockchainDetailResponse,
    ShowBlockchainFlavorsResponse, ShowBlockchainNodesResponse,
};
use selvage_manager_api::operation::{ListOpRecordResponse, OperationStarted, OperationType};
use selvage_manager_api::table::OPERATIONS;
use selvage_manager_api::validate::{MAX_PEERS_PER_ORG, ORDERER_ORG};
use selvage_manager_api::{ApiError, ErrorCode};

use super::{Call, Server, json, set};
use crate::archive::{self, Archive};
use crate::clock;
use crate::driver::Observation;
use crate::network::{self, Network};
use crate::operations::status_of_creation;
use crate::store::{InstanceRow, InstanceState, OperationFilter};

/// Version of the service: BCS's 4.x speaks Fabric 2.2's protocols.
const SERVICE_VERSION: &str = "4.0.0";
/// Tenants a consortium may have, in BCS.
const MAX_MEMBERS: i32 = 5;

type Seen<'a> = (&'a network::Org, &'a network::Node, Option<Observation>);

impl Server {
    pub(super) async fn bcs(&self, number: u8, call: &Call) -> Result<Response, ApiError> {
        match number {
            7 => self.create(call).await,
            8 => self.delete(call).await,
            11 => self.cert(call).await,
            12 => self.sdk_config(call).await,
            19 => self.channels(call).await,
            20 => self.list(call).await,
            25 => self.records(call).await,
            26 => self.quotas(call).await,
            27 => self.detail(call).await,
            28 => flavors(call),
            29 => self.nodes(call).await,
            30 => self.status(call).await,
            other => {
                let name = OPERATIONS
                    .iter()
                    .find(|o| o.number == other)
                    .map_or("", |o| o.name);
                Err(ApiError::not_built(&format!("the operation {name}")))
            }
        }
    }

    async fn named(&self, call: &Call) -> Result<InstanceRow, ApiError> {
        self.instance(call, call.param("blockchain_id")).await
    }

    async fn create(&self, call: &Call) -> Result<Response, ApiError> {
        let body: CreateRequestBody = call.json()?;
        let project = self.project(call).await?;
        Ok(json(&self.manager.create(&project, &body).await?))
    }

    async fn delete(&self, call: &Call) -> Result<Response, ApiError> {
        let with_storage = call.flag("is_delete_storage")?;
        for other in [
            "is_delete_obs",
            "is_delete_resource",
            "is_delete_ief",
            "is_delete_lightpeer",
        ] {
            call.flag(other)?;
        }
        let row = self.named(call).await?;
        let project = self.project(call).await?;
        let operation_id = self.manager.delete(&project, &row, with_storage).await?;
        Ok(json(&OperationStarted { operation_id }))
    }

    async fn list(&self, call: &Call) -> Result<Response, ApiError> {
        let project = &call.caller()?.project_id;
        let rows = self.manager.inner.store.instances(Some(project)).await?;
        let blockchains: Vec<BlockchainInfo> = rows
            .into_iter()
            .map(|r| BlockchainInfo {
                id: r.id,
                name: r.spec.name,
            })
            .collect();
        let count = i32::try_from(blockchains.len()).unwrap_or(i32::MAX);
        Ok(json(&ListBlockchainsResponse { blockchains, count }))
    }

    async fn records(&self, call: &Call) -> Result<Response, ApiError> {
        let asked = |name| call.asked(name).map(str::to_owned);
        let filter = OperationFilter {
            operation_id: asked("operation_id"),
            blockchain_id: asked("blockchain_id"),
            operation_status: asked("operation_status"),
            resource_type: asked("resource_type"),
            operation_type: asked("operation_type"),
        };
        let project = &call.caller()?.project_id;
        let (count, rows) = self
            .manager
            .inner
            .store
            .operations(project, &filter)
            .await?;
        Ok(json(&ListOpRecordResponse {
            count,
            operation_records: rows.into_iter().map(|r| r.record).collect(),
        }))
    }

    async fn quotas(&self, call: &Call) -> Result<Response, ApiError> {
        if let Some(kind) = call.asked("type").filter(|t| *t != "instance") {
            return Err(ApiError::new(
                ErrorCode::BadQuotaType,
                format!("Invalid Parameter quotasType : {kind}"),
            ));
        }
        let project = self.project(call).await?;
        let rows = self
            .manager
            .inner
            .store
            .instances(Some(&project.project_id))
            .await?;
        let used = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        let quota = i32::try_from(project.quota).unwrap_or(i32::MAX);
        Ok(json(&ListQuotasResponse {
            resources: vec![Resource {
                kind: "instance".to_owned(),
                unit: String::new(),
                min: 0,
                max: quota,
                quota,
                used,
                free: (quota - used).max(0),
            }],
        }))
    }

    /// Operation 30. A creation that failed left no instance, but its record still says why.
    async fn status(&self, call: &Call) -> Result<Response, ApiError> {
        let filter = OperationFilter {
            blockchain_id: Some(call.param("blockchain_id").to_owned()),
            operation_type: Some(OperationType::Create.wire().to_owned()),
            ..OperationFilter::default()
        };
        let project = &call.caller()?.project_id;
        let (_, rows) = self
            .manager
            .inner
            .store
            .operations(project, &filter)
            .await?;
        let newest = rows.first().ok_or_else(ApiError::no_such_instance)?;
        Ok(json(&status_of_creation(&newest.record)))
    }

    async fn channels(&self, call: &Call) -> Result<Response, ApiError> {
        let row = self.named(call).await?;
        let channels = row.network.as_ref().map_or(Vec::new(), |network| {
            let channel = |c: &network::ChannelPlan| Channel {
                name: c.name.clone(),
                description: c.description.clone(),
                create_time: clock::rfc3339(row.created_ns),
                consensus: row.spec.consensus.wire().to_owned(),
                peers: peers_by_org(network, c),
                consensus_nodes: BTreeMap::from([(
                    network.orderer.name.clone(),
                    network
                        .orderer
                        .nodes
                        .iter()
                        .map(|n| n.name.clone())
                        .collect(),
                )]),
            };
            network.channels.iter().map(channel).collect()
        });
        Ok(json(&ListBlockchainChannelsResponse { channels }))
    }

    async fn nodes(&self, call: &Call) -> Result<Response, ApiError> {
        let row = self.named(call).await?;
        let mut node_orgs = BTreeMap::new();
        if let Some(site) = self.manager.site(&row) {
            for org in &site.network.peers {
                let asked = org.nodes.iter().map(|node| async {
                    // A peer that does not answer has, as far as is known, no channels.
                    let joined = self
                        .manager
                        .inner
                        .fabric
                        .peer_channels(&site, org, node)
                        .await;
                    let node_info = selvage_manager_api::instance::Node {
                        ip_port: site.network.address(node),
                        channels: joined.unwrap_or_default(),
                    };
                    (node.name.clone(), node_info)
                });
                let peers = futures::future::join_all(asked).await.into_iter().collect();
                node_orgs.insert(
                    org.name.clone(),
                    Org {
                        org_msp_id: org.msp_id(),
                        org_domain: org.domain(),
                        peers,
                    },
                );
            }
        }
        Ok(json(&ShowBlockchainNodesResponse { node_orgs }))
    }

    async fn cert(&self, call: &Call) -> Result<Response, ApiError> {
        let org = call
            .asked("org_name")
            .ok_or_else(|| ApiError::missing("org_name"))?;
        let kind = call
            .asked("cert_type")
            .ok_or_else(|| ApiError::missing("cert_type"))?;
        let kind_word = kind.to_owned();
        let kind = CertType::from_wire(kind)?;
        let row = self.ready(call).await?;
        let site = self.manager.site(&row).ok_or_else(ApiError::busy)?;
        let archive = archive::certificates(&site, org, kind)?;
        download(
            &archive,
            &format!("{}-{org}-{kind_word}-cert.zip", row.spec.name),
        )
    }

    async fn sdk_config(&self, call: &Call) -> Result<Response, ApiError> {
        let body: CfgRequestBody = call.json()?;
        let row = self.ready(call).await?;
        let site = self.manager.site(&row).ok_or_else(ApiError::busy)?;
        let archive = archive::sdk_config(&site, &row.spec.name, &body)?;
        download(&archive, &format!("{}-sdk-config.zip", row.spec.name))
    }

    /// An instance that exists and is not being made or unmade.
    async fn ready(&self, call: &Call) -> Result<InstanceRow, ApiError> {
        let row = self.named(call).await?;
        row.require_ready()?;
        Ok(row)
    }

    async fn detail(&self, call: &Call) -> Result<Response, ApiError> {
        let row = self.named(call).await?;
        let portal = self.manager.inner.portal.lock().clone();
        // BCS gives the bare address here; its clients put the scheme in front.
        let portal = portal.rsplit('/').next().unwrap_or_default().to_owned();
        let root = self.manager.folders(&row.id).root().display().to_string();
        let seen = match &row.network {
            Some(network) => self.manager.observe(&row.id, network).await,
            None => Vec::new(),
        };
        let channels = row.network.as_ref().map_or(Vec::new(), channel_infos);
        let groups = row.network.as_ref().map_or(Vec::new(), |network| {
            network
                .peers
                .iter()
                .map(|o| group(&row, network, o, &seen))
                .collect()
        });
        let orderer = row.network.as_ref().map_or_else(
            || empty_group(ORDERER_ORG),
            |network| group(&row, network, &network.orderer, &seen),
        );
        Ok(json(&ShowBlockchainDetailResponse {
            basic_info: basic_info(&row, &seen, &portal),
            channels,
            peer_info: groups,
            orderer_info: orderer,
            sfs_info: SfsInfo {
                pvc_name: row.id.clone(),
                name: row.spec.name.clone(),
                addr: root,
                kind: "local".to_owned(),
            },
            agent_info: PeerInfo {
                name: "baas-agent".to_owned(),
                node_cnt: 1,
                status: NodeGroupStatus::Normal,
                status_detail: "1/1".to_owned(),
                pvc_name: String::new(),
                address: vec![PeerAddress {
                    domain_port: portal.clone(),
                    ip_port: portal,
                }],
            },
        }))
    }
}

fn flavors(call: &Call) -> Result<Response, ApiError> {
    if !(1..=1000).contains(&call.number("limit", 1000)?) {
        return Err(ApiError::bad("limit must be between 1 and 1000"));
    }
    call.number("offset", 0)?;
    Ok(json(&ShowBlockchainFlavorsResponse {
        enterprise_spec: InstanceSpc {
            org_peer_max_num: MAX_PEERS_PER_ORG,
            orderer_max_num: MAX_ORDERERS,
            member_max_num: MAX_MEMBERS,
        },
    }))
}

fn peers_by_org(
    network: &Network,
    channel: &network::ChannelPlan,
) -> BTreeMap<String, Vec<String>> {
    network
        .members(channel)
        .map(|o| {
            (
                o.name.clone(),
                o.nodes.iter().map(|n| n.name.clone()).collect(),
            )
        })
        .collect()
}

fn channel_infos(network: &Network) -> Vec<ChannelInfo> {
    let info = |c: &network::ChannelPlan| ChannelInfo {
        name: c.name.clone(),
        org_names: network.members(c).map(|o| o.name.clone()).collect(),
        org_name_hash: network.members(c).map(|o| o.hash.clone()).collect(),
        peers: peers_by_org(network, c),
    };
    network.channels.iter().map(info).collect()
}

fn empty_group(name: &str) -> PeerInfo {
    PeerInfo {
        name: name.to_owned(),
        node_cnt: 0,
        status: NodeGroupStatus::Unknown,
        status_detail: "0/0".to_owned(),
        pvc_name: String::new(),
        address: Vec::new(),
    }
}

fn group(row: &InstanceRow, network: &Network, org: &network::Org, seen: &[Seen<'_>]) -> PeerInfo {
    let ours: Vec<&Seen<'_>> = seen.iter().filter(|(o, _, _)| o.hash == org.hash).collect();
    let well = ours
        .iter()
        .filter(|(_, _, s)| s.as_ref().is_some_and(|s| s.healthy))
        .count();
    let unseen = ours.iter().any(|(_, _, s)| s.is_none());
    let status = match row.state {
        InstanceState::Creating => NodeGroupStatus::IsCreating,
        InstanceState::Deleting => NodeGroupStatus::Isdeleting,
        InstanceState::Ready if well == org.nodes.len() => NodeGroupStatus::Normal,
        InstanceState::Ready if unseen => NodeGroupStatus::Unknown,
        InstanceState::Ready => NodeGroupStatus::AbNormal,
    };
    PeerInfo {
        name: org.name.clone(),
        node_cnt: i32::try_from(org.nodes.len()).unwrap_or(i32::MAX),
        status,
        status_detail: format!("{well}/{}", org.nodes.len()),
        pvc_name: org.folder(),
        address: org
            .nodes
            .iter()
            .map(|n| PeerAddress {
                domain_port: format!("{}:{}", n.domain, n.port),
                ip_port: network.address(n),
            })
            .collect(),
    }
}

fn basic_info(row: &InstanceRow, seen: &[Seen<'_>], portal: &str) -> BasicInfo {
    let spec = &row.spec;
    let status = if seen.is_empty() || seen.iter().any(|(_, _, s)| s.is_none()) {
        InstanceStatus::Unknown
    } else if seen
        .iter()
        .all(|(_, _, s)| s.as_ref().is_some_and(|s| s.healthy))
    {
        InstanceStatus::Normal
    } else {
        InstanceStatus::Abnormal
    };
    let (process_status, deploy_status) = match row.state {
        InstanceState::Creating => (Some(ProcessStatus::IsCreating), 0),
        InstanceState::Deleting => (Some(ProcessStatus::IsDeleting), 1),
        InstanceState::Ready => (None, 1),
    };
    let wire = |n: u32| i32::try_from(n).ok();
    BasicInfo {
        id: row.id.clone(),
        name: spec.name.clone(),
        version: SERVICE_VERSION.to_owned(),
        service_type: spec.blockchain_type.clone(),
        purchase_type: "normal".to_owned(),
        sign_algorithm: "ECDSA".to_owned(),
        consensus: spec.consensus.wire().to_owned(),
        charging_mode: 1,
        version_type: spec.version_type,
        database_type: "goleveldb".to_owned(),
        cluster_id: spec.cluster_id.clone(),
        cluster_name: spec.cluster_name.clone(),
        cluster_type: "CCE".to_owned(),
        cluster_az: "no".to_owned(),
        created_time: clock::rfc3339(row.created_ns),
        deploy_type: "create".to_owned(),
        order_fade_enabled: false,
        is_cross_region: false,
        is_support_rollback: false,
        is_support_restful: false,
        is_support_tc3: false,
        is_old_service: false,
        old_service_version: String::new(),
        agent_portal_addrs: vec![portal.to_owned()],
        status,
        process_status,
        order_status: 0,
        order_fade_cache: 0,
        deploy_status,
        block_info: BlockInfo {
            batch_timeout: wire(spec.batch_timeout_s),
            max_message_count: wire(spec.max_message_count),
            preferred_maxbytes: wire(spec.preferred_max_mb),
        },
        cluster_platform_type: match std::env::consts::ARCH {
            "aarch64" => "ARM64".to_owned(),
            _ => "VirtualMachine".to_owned(),
        },
    }
}

/// A zip to be saved. The name may be Chinese, so it goes in the encoded form of RFC 6266.
fn download(archive: &Archive, name: &str) -> Result<Response, ApiError> {
    let mut response = Response::new(Body::from(archive.zip()?));
    set(
        &mut response,
        header::CONTENT_TYPE,
        "application/octet-stream",
    );
    set(&mut response, header::CACHE_CONTROL, "no-store");
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && c != '"' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
    let value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    if let Ok(value) = HeaderValue::from_str(&value) {
        response
            .headers_mut()
            .insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
