//! What can go wrong between a client and a network.

use selvage_crypto::in_full;
use selvage_net::tonic;
use selvage_net::{NetError, advised, describe_status};
use selvage_proto::Message as _;
use selvage_proto::common::Status;
use selvage_proto::gateway::ErrorDetail;
use selvage_proto::peer::TxValidationCode;

/// Why something asked of a network did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address or TLS material cannot be used.
    #[error("{address} cannot be dialled")]
    Endpoint {
        /// The node.
        address: String,
        /// Why.
        source: NetError,
    },
    /// The node could not be reached, or answered with an error.
    #[error("{address}: {}", failure.message)]
    Grpc {
        /// The node.
        address: String,
        /// What it said.
        failure: Box<Failure>,
    },
    /// The chaincode or the peer refused the proposal.
    #[error("{address} answered {status}: {message}")]
    Endorsement {
        /// The peer.
        address: String,
        /// The response's status; 500 for most chaincode errors.
        status: i32,
        /// The response's message.
        message: String,
    },
    /// Peers came to different results.
    #[error(
        "ProposalResponsePayloads do not match: {first} and {second} came to different results; \
         the chaincode is not deterministic, or the peers' states differ"
    )]
    Mismatch {
        /// One peer.
        first: String,
        /// Another.
        second: String,
    },
    /// The orderer refused the message.
    #[error("{address} refused the message: {}: {info}", status.as_str_name())]
    Broadcast {
        /// The orderer.
        address: String,
        /// Its status.
        status: Status,
        /// Its text.
        info: String,
    },
    /// The orderer's stream ended before it answered. The message may or may not be ordered.
    #[error("{address} closed the stream before it acknowledged the message: {reason}")]
    Unconfirmed {
        /// The orderer.
        address: String,
        /// Why, as far as known.
        reason: String,
    },
    /// The transaction was ordered and then found invalid.
    #[error(
        "transaction {tx_id} failed to commit in block {block} with status code {} ({})",
        *code as i32, code.as_str_name()
    )]
    Invalidated {
        /// The transaction.
        tx_id: String,
        /// Its block.
        block: u64,
        /// The reason.
        code: TxValidationCode,
    },
    /// A block stream ended with a status.
    #[error("{address} ended the block stream: {}{}", status.as_str_name(), meaning(*status))]
    Deliver {
        /// The node.
        address: String,
        /// Its status.
        status: Status,
    },
    /// The wait was longer than allowed.
    #[error("{what} did not happen within {seconds} s")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The orderer's administration answered with an error.
    #[error("{address} answered {status}: {message}")]
    Http {
        /// The orderer's administration endpoint.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Its error text.
        message: String,
    },
    /// An answer does not decode, or lacks something.
    #[error("{address} sent an unusable {what}: {reason}")]
    Answer {
        /// The node.
        address: String,
        /// Which part.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
}

/// A gRPC error with what Fabric adds to it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The gRPC code.
    pub code: tonic::Code,
    /// The text.
    pub message: String,
    /// What single nodes said, as the gateway collects it.
    pub details: Vec<ErrorDetail>,
    /// Whether nobody answered: the node could not be reached, or the connection broke.
    pub unreached: bool,
}

impl Failure {
    /// Takes a gRPC status apart.
    pub fn new(status: &tonic::Status) -> Self {
        // What a node answers arrives as text; only what failed on this side has a cause.
        let unreached = std::error::Error::source(status).is_some();
        Self {
            code: status.code(),
            message: if unreached {
                describe_status(status)
            } else {
                advised(status.clone()).message().to_owned()
            },
            details: details(status.details()),
            unreached,
        }
    }
}

/// Streams of blocks end with a bare status, in which this may be hidden.
fn meaning(status: Status) -> &'static str {
    match status {
        Status::BadRequest => {
            " (the node cannot take the request: set this machine's clock if it is more than fifteen \
             minutes off; the node's log says what is wrong)"
        }
        Status::Forbidden => {
            " (signature, certificate or role do not allow to read: use an identity that satisfies \
             the channel's Readers policy; the node's log says what is wrong)"
        }
        Status::NotFound => {
            " (the node has no such channel or block: correct the name, or join the node to the \
             channel)"
        }
        Status::ServiceUnavailable => {
            " (the channel has stopped or cannot be read: see the node's log, and try again)"
        }
        _ => "",
    }
}

fn details(bytes: &[u8]) -> Vec<ErrorDetail> {
    const TYPE: &str = "type.googleapis.com/gateway.ErrorDetail";
    let Ok(status) = selvage_proto::google::rpc::Status::decode(bytes) else {
        return Vec::new();
    };
    let ours = status.details.into_iter().filter(|d| d.type_url == TYPE);
    ours.filter_map(|d| ErrorDetail::decode(d.value.as_slice()).ok())
        .collect()
}

impl ClientError {
    pub(crate) fn grpc(address: &str, status: &tonic::Status) -> Self {
        Self::Grpc {
            address: address.to_owned(),
            failure: Box::new(Failure::new(status)),
        }
    }

    pub(crate) fn answer(
        address: &str,
        what: &'static str,
        reason: impl std::fmt::Display,
    ) -> Self {
        Self::Answer {
            address: address.to_owned(),
            what,
            reason: reason.to_string(),
        }
    }

    /// The gRPC failure, when that is what it is.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Grpc { failure, .. } => Some(failure),
            _ => None,
        }
    }

    /// The error with everything known about it in one line: its causes, and what single nodes
    /// said.
    pub fn text(&self) -> String {
        let mut text = in_full(self);
        for detail in self.failure().iter().flat_map(|f| &f.details) {
            let ErrorDetail {
                address,
                msp_id,
                message,
            } = detail;
            text.push_str(&format!("; {address} ({msp_id}): {message}"));
        }
        text
    }
}
