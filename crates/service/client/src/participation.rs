//! Which channels an orderer takes part in (Fabric's channel participation API).

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use selvage_env::{Rng, random_array};
use selvage_net::tonic::body::Body;
use selvage_net::tonic::codegen::Service as _;
use selvage_net::tonic::codegen::http::{Method, Request, header};
use selvage_net::tonic::transport::Channel;
use selvage_net::{Endpoint, connect};
use selvage_proto::Message as _;
use selvage_proto::common::Block;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::ClientError;

/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// An orderer's administration endpoint. It takes mutual TLS and HTTP/2.
#[derive(Debug, Clone)]
pub struct Participation {
    address: String,
    channel: Channel,
    scheme: &'static str,
}

/// A channel in the list of channels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedChannel {
    /// Its id.
    pub name: String,
    /// Where more about it is found.
    pub url: String,
}

#[derive(Deserialize)]
struct ChannelList {
    channels: Option<Vec<ListedChannel>>,
}

/// An orderer's part in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// The channel's id.
    pub name: String,
    /// Where it was found.
    pub url: String,
    /// `consenter`, `follower`, `config-tracker` or `other`.
    pub consensus_relation: String,
    /// `active`, `onboarding`, `inactive` or `failed`.
    pub status: String,
    /// Blocks it has.
    pub height: u64,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

impl Participation {
    /// The administration of the orderer at this endpoint.
    pub fn new(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let address = endpoint.address.clone();
        let channel = connect(endpoint).map_err(|source| ClientError::Endpoint {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            address,
            channel,
            scheme: if endpoint.tls.is_some() {
                "https"
            } else {
                "http"
            },
        })
    }

    /// The channels the orderer takes part in.
    pub async fn list(&self) -> Result<Vec<ListedChannel>, ClientError> {
        let answer = self
            .call(Method::GET, "channels", None, Bytes::new())
            .await?;
        let list: ChannelList = self.read(&answer)?;
        Ok(list.channels.unwrap_or_default())
    }

    /// The orderer's part in one channel.
    pub async fn channel(&self, channel_id: &str) -> Result<ChannelState, ClientError> {
        let path = format!("channels/{channel_id}");
        let answer = self.call(Method::GET, &path, None, Bytes::new()).await?;
        self.read(&answer)
    }

    /// Lets the orderer join a channel, given its genesis block or newest configuration block.
    pub async fn join(&self, block: &Block, rng: &dyn Rng) -> Result<ChannelState, ClientError> {
        let boundary = format!("selvage-{}", hex::encode(random_array::<16>(rng)));
        let mut body = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"config-block\"; \
             filename=\"config.block\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(&block.encode_to_vec());
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={boundary}");
        let answer = self.call(Method::POST, "channels", Some(&kind), body.into());
        self.read(&answer.await?)
    }

    /// Lets the orderer leave a channel and forget its blocks.
    pub async fn remove(&self, channel_id: &str) -> Result<(), ClientError> {
        let path = format!("channels/{channel_id}");
        let answer = self.call(Method::DELETE, &path, None, Bytes::new()).await;
        answer.map(drop)
    }

    fn read<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(answer)
            .map_err(|e| ClientError::answer(&self.address, "JSON answer", e))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Bytes, ClientError> {
        let uri = format!("{}://{}/participation/v1/{path}", self.scheme, self.address);
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_LENGTH, body.len());
        if let Some(kind) = content_type {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let request = request
            .body(Body::new(Full::new(body)))
            .map_err(|e| ClientError::Request(format!("{path} is no path: {e}")))?;
        let failed = |error: &dyn std::fmt::Display| ClientError::Http {
            address: self.address.clone(),
            status: 503,
            message: format!("the endpoint cannot be reached: {error}"),
        };
        let mut channel = self.channel.clone();
        std::future::poll_fn(|cx| channel.poll_ready(cx))
            .await
            .map_err(|e| failed(&e))?;
        let answer = channel.call(request).await.map_err(|e| failed(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await;
        let body = body.map_err(|e| failed(&e))?.to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let message = match serde_json::from_slice::<ErrorAnswer>(&body) {
            Ok(answer) => answer.error,
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(ClientError::Http {
            address: self.address.clone(),
            status: status.as_u16(),
            message,
        })
    }
}
