//! The block browser's API. The instance is named by the query parameter `blockchain_id`, which may
//! be left out while the project has only one.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use selvage_manager_api::agent::{AgentPeer, AgentPeers, ChannelSummary, SummaryPeer};
use selvage_manager_api::{ApiError, ErrorCode};
use tokio::sync::broadcast::error::RecvError;

use super::{Call, Server, json};
use crate::browser::Place;
use crate::chaincode::definitions;
use crate::network::OrgKind;
use crate::store::InstanceRow;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

impl Server {
    pub(super) async fn chosen(&self, call: &Call) -> Result<InstanceRow, ApiError> {
        let only = call.caller()?.instance.as_deref();
        if let Some(id) = call.asked("blockchain_id").or(only) {
            // Who came in with one instance's password sees no other.
            if only.is_some_and(|only| only != id) {
                return Err(ApiError::no_such_instance());
            }
            return self.instance(call, id).await;
        }
        let project = call.caller()?.project_id.clone();
        let mut all = self.manager.inner.store.instances(Some(&project)).await?;
        match all.pop() {
            Some(only) if all.is_empty() => Ok(only),
            Some(_) => Err(ApiError::missing("blockchain_id")),
            None => Err(ApiError::no_such_instance()),
        }
    }

    async fn place(&self, call: &Call) -> Result<Place, ApiError> {
        let row = self.chosen(call).await?;
        let channel = call.param("channel_id").to_owned();
        let site = self.manager.site(&row).ok_or_else(ApiError::busy)?;
        if site.network.channel(&channel).is_none() {
            return Err(ApiError::new(
                ErrorCode::BadChannelName,
                "Invalid channel name.",
            ));
        }
        Ok(Place {
            instance: row.id,
            channel,
            site,
        })
    }

    /// `offset` and `limit`, the latter 1–50 and 10 by default.
    pub(super) fn page(call: &Call) -> Result<(u64, u32), ApiError> {
        let limit = call.number("limit", 10)?;
        if !(1..=50).contains(&limit) {
            return Err(ApiError::bad("limit must be between 1 and 50"));
        }
        let offset = call.number("offset", 0)?;
        Ok((offset, u32::try_from(limit).unwrap_or(10)))
    }

    /// `GET /peers`.
    pub(super) async fn peers(&self, call: &Call) -> Result<Response, ApiError> {
        let row = self.chosen(call).await?;
        let site = self.manager.site(&row).ok_or_else(ApiError::busy)?;
        let mut answer = AgentPeers {
            peers: Default::default(),
        };
        for (org, node, seen) in self.manager.observe(&row.id, &site.network).await {
            if org.kind != OrgKind::Peer {
                continue;
            }
            let healthy = seen.is_some_and(|o| o.healthy);
            let channels = match healthy {
                true => {
                    self.manager
                        .inner
                        .fabric
                        .peer_channels(&site, org, node)
                        .await
                }
                false => Ok(Vec::new()),
            };
            answer.peers.insert(
                node.domain.clone(),
                AgentPeer {
                    org_name: org.name.clone(),
                    org_id: org.hash.clone(),
                    peer_name: node.name.clone(),
                    peer_id: node.name.clone(),
                    status: word(healthy).to_owned(),
                    channels: channels.unwrap_or_default(),
                    url: site.network.address(node),
                    peer: node.domain.clone(),
                },
            );
        }
        Ok(json(&answer))
    }

    /// `GET /channel/{channel}/summary`.
    pub(super) async fn summary(&self, call: &Call) -> Result<Response, ApiError> {
        let place = self.place(call).await?;
        let browser = &self.manager.inner.browser;
        let (block_num, indexed_num, transaction_num) = browser.counters(&place).await?;
        let (bph, tph) = browser.rates(&place, HOUR_MS, 24 * HOUR_MS).await?;
        let (bpm, tpm) = browser.rates(&place, MINUTE_MS, 60 * MINUTE_MS).await?;
        let network = &place.site.network;
        let channel = network
            .channel(&place.channel)
            .ok_or_else(ApiError::no_such_instance)?;
        let fabric = self.manager.inner.fabric.as_ref();
        let committed = definitions(fabric, &place.site, channel).await?;
        let seen = self.manager.observe(&place.instance, network).await;
        let peers_list: Vec<SummaryPeer> = seen
            .into_iter()
            .filter(|(org, _, _)| org.kind == OrgKind::Peer && channel.orgs.contains(&org.name))
            .map(|(org, node, seen)| SummaryPeer {
                org_name: org.name.clone(),
                org_id: org.hash.clone(),
                peer: node.domain.clone(),
                url: network.address(node),
                status: word(seen.is_some_and(|o| o.healthy)).to_owned(),
            })
            .collect();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(json(&ChannelSummary {
            peer_num: count(peers_list.len()),
            chaincodes: count(committed.len()),
            block_num,
            transaction_num,
            bph,
            bpm,
            tph,
            tpm,
            orgs_map: browser.by_org(&place).await?,
            peers_list,
            indexed_num,
        }))
    }

    /// `GET /channel/{channel}/blocks`.
    pub(super) async fn blocks(&self, call: &Call) -> Result<Response, ApiError> {
        let (offset, limit) = Self::page(call)?;
        let place = self.place(call).await?;
        Ok(json(
            &self
                .manager
                .inner
                .browser
                .blocks(&place, offset, limit)
                .await?,
        ))
    }

    /// `GET /channel/{channel}/transactions`.
    pub(super) async fn transactions(&self, call: &Call) -> Result<Response, ApiError> {
        let (offset, limit) = Self::page(call)?;
        let place = self.place(call).await?;
        Ok(json(
            &self
                .manager
                .inner
                .browser
                .transactions(&place, offset, limit)
                .await?,
        ))
    }

    /// `GET /channel/{channel}/transactions/count`.
    pub(super) async fn transaction_count(&self, call: &Call) -> Result<Response, ApiError> {
        let place = self.place(call).await?;
        Ok(json(&self.manager.inner.browser.total(&place).await?))
    }

    /// `GET /channel/{channel}/blocks/{n}/transactions`.
    pub(super) async fn block_transactions(&self, call: &Call) -> Result<Response, ApiError> {
        let number = call
            .param("block_number")
            .parse()
            .map_err(|_| ApiError::bad("block_number must be a whole number"))?;
        let place = self.place(call).await?;
        Ok(json(
            &self
                .manager
                .inner
                .browser
                .block_transactions(&place, number)
                .await?,
        ))
    }

    /// `GET /channel/{channel}/transactions/{txid}/detail`.
    pub(super) async fn transaction_detail(&self, call: &Call) -> Result<Response, ApiError> {
        let place = self.place(call).await?;
        let id = call.param("transaction_id");
        Ok(json(
            &self.manager.inner.browser.transaction(&place, id).await?,
        ))
    }

    /// `GET /channel/{channel}/search?q=`.
    pub(super) async fn search(&self, call: &Call) -> Result<Response, ApiError> {
        let q = call.asked("q").ok_or_else(|| ApiError::missing("q"))?;
        let place = self.place(call).await?;
        Ok(json(&self.manager.inner.browser.search(&place, q).await?))
    }

    /// `GET /channel/{channel}/live`: server-sent events named `block`. A viewer that falls behind
    /// gets an event `skipped` with the number of blocks it missed.
    pub(super) async fn live(&self, call: &Call) -> Result<Response, ApiError> {
        let place = self.place(call).await?;
        let blocks = self.manager.inner.browser.live(&place).await?;
        let events = futures::stream::unfold(blocks, |mut blocks| async move {
            let event = match blocks.recv().await {
                Ok(block) => Event::default()
                    .event("block")
                    .id(block.block.block_number.to_string())
                    .json_data(block.as_ref())
                    .unwrap_or_default(),
                Err(RecvError::Lagged(missed)) => {
                    Event::default().event("skipped").data(missed.to_string())
                }
                Err(RecvError::Closed) => return None,
            };
            Some((Ok::<_, Infallible>(event), blocks))
        });
        let alive = KeepAlive::new().interval(Duration::from_secs(15));
        Ok(Sse::new(events).keep_alive(alive).into_response())
    }
}

fn word(healthy: bool) -> &'static str {
    if healthy { "running" } else { "abnormal" }
}
