//! `Submit`: a signed transaction on its way to the orderers (Fabric: `submit.go`).

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use selvage_channel::CONSENSUS_BFT;
use selvage_net::services::atomic_broadcast_client::AtomicBroadcastClient;
use selvage_net::tonic::transport::Channel;
use selvage_net::tonic::{Code, Status};
use selvage_net::{MAX_MESSAGE_BYTES, connect, tokio_stream};
use selvage_proto::common::{Envelope, Status as OrdererStatus};
use selvage_proto::gateway::{ErrorDetail, SubmitRequest, SubmitResponse};
use selvage_proto::orderer::BroadcastResponse;

use super::advice::NOT_ORDERED;
use super::deadline::Deadline;
use super::errors::go_text;
use super::{Gateway, GatewayTimeouts, no_config};
use crate::channels::PeerChannel;
use crate::deliver::Orderers;
use crate::details::with_details;
use crate::report;

/// What an orderer of a BFT cluster says to a transaction that another one passed on already.
const EXISTS_ALREADY: &str = "failed to submit request: request already exists";

/// Fabric's words for an orderer that does not answer in time, where one suffices.
const TOO_LATE: &str = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";

/// The same where all are asked at once: Fabric calls off the calls that are left.
const CALLED_OFF: &str = "rpc error: code = Canceled desc = context canceled";

/// What an orderer says that has not joined the channel.
const NOT_JOINED: &str = "channel does not exist";

/// An orderer and the connection to it, which is opened with the first call.
#[derive(Clone)]
pub(super) struct OrdererNode {
    address: String,
    msp_id: String,
    client: AtomicBroadcastClient<Channel>,
}

impl OrdererNode {
    fn detail(&self, message: String) -> ErrorDetail {
        ErrorDetail {
            address: self.address.clone(),
            msp_id: self.msp_id.clone(),
            message,
        }
    }
}

/// The orderers under one sequence of a channel's configuration.
type Known = (u64, Arc<Vec<OrdererNode>>);

/// The orderers of each channel under the configuration in force.
pub(super) struct OrdererConnections {
    orderers: Arc<dyn Orderers>,
    timeouts: GatewayTimeouts,
    known: Mutex<HashMap<String, Known>>,
}

impl OrdererConnections {
    pub(super) fn new(orderers: Arc<dyn Orderers>, timeouts: GatewayTimeouts) -> Self {
        Self {
            orderers,
            timeouts,
            known: Mutex::default(),
        }
    }

    fn of(&self, channel: &PeerChannel) -> Arc<Vec<OrdererNode>> {
        let config = channel.config();
        let sequence = config.sequence();
        let mut known = self.known.lock();
        if let Some((under, nodes)) = known.get(channel.id())
            && *under == sequence
        {
            return nodes.clone();
        }
        let owner = |address: &str| {
            let orgs = config.orderer().into_iter().flat_map(|o| o.orgs().values());
            let mut orgs = orgs.filter(|org| org.endpoints.iter().any(|e| e == address));
            orgs.next()
                .map(|org| org.msp_id.clone())
                .unwrap_or_default()
        };
        let mut nodes = Vec::new();
        for mut endpoint in self.orderers.endpoints(channel) {
            endpoint.connect_timeout = endpoint.connect_timeout.min(self.timeouts.dial);
            match connect(&endpoint) {
                Ok(connection) => nodes.push(OrdererNode {
                    msp_id: owner(&endpoint.address),
                    address: endpoint.address,
                    client: AtomicBroadcastClient::new(connection)
                        .max_decoding_message_size(MAX_MESSAGE_BYTES)
                        .max_encoding_message_size(MAX_MESSAGE_BYTES),
                }),
                Err(error) => {
                    let address = &endpoint.address;
                    let error = report(&error);
                    tracing::warn!(orderer = %address, %error, "orderer cannot be used");
                }
            }
        }
        let nodes = Arc::new(nodes);
        known.insert(channel.id().to_owned(), (sequence, nodes.clone()));
        nodes
    }
}

impl Gateway {
    pub(super) async fn submit(
        &self,
        request: SubmitRequest,
        deadline: Deadline,
    ) -> Result<SubmitResponse, Status> {
        let transaction = request
            .prepared_transaction
            .ok_or_else(|| Status::invalid_argument("a prepared transaction is required"))?;
        if transaction.signature.is_empty() {
            return Err(Status::invalid_argument(
                "prepared transaction must be signed",
            ));
        }
        let id = &request.channel_id;
        let channel = self
            .channel(id)
            .ok_or_else(|| self.not_joined(Code::FailedPrecondition, &no_config(id), id))?;
        let nodes = self.inner.orderers.of(&channel);
        if nodes.is_empty() {
            return Err(Status::unavailable("no orderer nodes available"));
        }
        let config = channel.config();
        let orderer = config.orderer().ok_or_else(|| {
            Status::not_found(format!(
                "failed to create block deliverer for channel `{id}`, missing OrdererConfig"
            ))
        })?;
        let passed = "submit timeout expired while broadcasting to ordering service";
        if orderer.consensus_type() == CONSENSUS_BFT {
            let size = config.orderer_endpoints().len();
            let submitting = self.submit_to_all(&nodes, size, transaction);
            deadline.hold(passed, submitting).await?
        } else {
            let submitting = self.submit_to_one(&nodes, &request.transaction_id, transaction);
            deadline.hold(passed, submitting).await?
        }
    }

    /// One orderer suffices; they are tried from a place that differs from one transaction to the
    /// next.
    async fn submit_to_one(
        &self,
        nodes: &[OrdererNode],
        transaction_id: &str,
        transaction: Envelope,
    ) -> Result<SubmitResponse, Status> {
        let start = transaction_id
            .bytes()
            .fold(0usize, |sum, b| sum.wrapping_add(b.into()));
        let mut details = Vec::new();
        for i in 0..nodes.len() {
            let node = &nodes[(start + i) % nodes.len()];
            let answer = self.broadcast(node, transaction.clone(), TOO_LATE).await;
            let response = match answer {
                Ok(response) => response,
                Err(text) => {
                    details.push(node.detail(text));
                    continue;
                }
            };
            if response.status == OrdererStatus::Success as i32 {
                return Ok(SubmitResponse {});
            }
            let text = unsuccessful(&response);
            tracing::warn!(orderer = %node.address, "{text}");
            // Fabric's gateway gives up here when the orderer is to join yet, or lost its data.
            if (400..500).contains(&response.status) && response.info != NOT_JOINED {
                return Err(Status::aborted(text));
            }
            // Fabric leaves its client guess here; a full disk, say, is worth a word.
            details.push(node.detail(text));
        }
        details.push(self.own_detail(NOT_ORDERED));
        let text = "no orderers could successfully process transaction";
        Err(with_details(Code::Unavailable, text, &details))
    }

    /// A BFT cluster needs a quorum that has seen the transaction.
    async fn submit_to_all(
        &self,
        nodes: &[OrdererNode],
        size: usize,
        transaction: Envelope,
    ) -> Result<SubmitResponse, Status> {
        let faulty = size.saturating_sub(1) / 3;
        let quorum = (size + faulty + 1).div_ceil(2);
        let mut answers: FuturesUnordered<_> = nodes
            .iter()
            .map(|node| async {
                let answer = self.broadcast(node, transaction.clone(), CALLED_OFF).await;
                let response = answer.map_err(|text| node.detail(text))?;
                let known = response.status == OrdererStatus::ServiceUnavailable as i32
                    && response.info == EXISTS_ALREADY;
                if known || response.status == OrdererStatus::Success as i32 {
                    return Ok(());
                }
                Err(node.detail(unsuccessful(&response)))
            })
            .collect();
        let mut details = Vec::new();
        let mut accepted = 0;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(()) => accepted += 1,
                Err(detail) => details.push(detail),
            }
            if accepted >= quorum {
                return Ok(SubmitResponse {});
            }
            if details.len() + quorum > nodes.len() {
                break;
            }
        }
        details.push(self.own_detail(NOT_ORDERED));
        let text = "insufficient number of orderers could successfully process transaction to \
                    satisfy quorum requirement";
        Err(with_details(Code::Unavailable, text, &details))
    }

    async fn broadcast(
        &self,
        node: &OrdererNode,
        transaction: Envelope,
        too_late: &str,
    ) -> Result<BroadcastResponse, String> {
        let mut client = node.client.clone();
        let exchange = async {
            let outgoing = tokio_stream::once(transaction);
            let mut answers = client.broadcast(outgoing).await?.into_inner();
            answers.message().await
        };
        match tokio::time::timeout(self.inner.timeouts.broadcast, exchange).await {
            Ok(Ok(Some(response))) => Ok(response),
            Ok(Ok(None)) => Err("EOF".to_owned()),
            Ok(Err(status)) => Err(go_text(&status)),
            Err(_) => Err(too_late.to_owned()),
        }
    }
}

fn unsuccessful(response: &BroadcastResponse) -> String {
    let status = OrdererStatus::try_from(response.status);
    let status = status.map_or_else(|_| String::new(), |s| s.as_str_name().to_owned());
    let info = &response.info;
    format!("received unsuccessful response from orderer: status={status}, info={info}")
}
