//! The channel participation API: which channels this node serves
//! (Fabric: `orderer/common/channelparticipation`).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use prost::Message;
use selvage_channel::ChannelConfig;
use selvage_channel::block::verify_config_block;
use selvage_channel::names::check_channel_id;
use selvage_net::http::{WholeRequest, empty, form_parts, json, json_error};
use selvage_ordering::filters::{Incoming, Kind};
use selvage_proto::common::{Block, BlockMetadata, Envelope, Status};
use serde::Serialize;

use crate::in_full;
use crate::registrar::{ChannelInfo, ManageError, Registrar};

const BASE: &str = "/participation/v1/";
const CHANNELS: &str = "/participation/v1/channels";
const BLOCK_PART: &str = "config-block";
const UPDATE_PART: &str = "config-update-envelope";

#[derive(Serialize)]
struct ChannelList {
    #[serde(rename = "systemChannel")]
    system_channel: Option<ShortInfo>,
    channels: Option<Vec<ShortInfo>>,
}

#[derive(Serialize)]
struct ShortInfo {
    name: String,
    url: String,
}

#[derive(Serialize)]
struct Info {
    name: String,
    url: String,
    #[serde(rename = "consensusRelation")]
    consensus_relation: &'static str,
    status: &'static str,
    height: u64,
}

fn url_of(channel: &str) -> String {
    format!("{CHANNELS}/{channel}")
}

impl From<ChannelInfo> for Info {
    fn from(channel: ChannelInfo) -> Self {
        Self {
            url: url_of(&channel.name),
            name: channel.name,
            consensus_relation: channel.standing.relation.as_str(),
            status: channel.standing.part.as_str(),
            height: channel.height,
        }
    }
}

/// Answers requests of administrators.
#[derive(Clone)]
pub(crate) struct Participation {
    registrar: Arc<Registrar>,
}

/// A refusal; boxed, because most requests succeed.
type Refused = Box<Response<Bytes>>;
type Answer = Result<Response<Bytes>, Refused>;

impl Participation {
    pub(crate) fn new(registrar: Arc<Registrar>) -> Self {
        Self { registrar }
    }

    pub(crate) async fn answer(&self, request: WholeRequest) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let answer = if path == BASE {
            redirect(&request)
        } else if path == CHANNELS {
            self.channels(request).await
        } else {
            let below = path
                .strip_prefix(CHANNELS)
                .and_then(|p| p.strip_prefix('/'));
            let parts: Vec<_> = below.unwrap_or("").split('/').collect();
            match parts.as_slice() {
                [id] if !id.is_empty() => self.channel(&request, id).await,
                [id, "blocks", which] if !id.is_empty() && !which.is_empty() => {
                    self.block(&request, id, which)
                }
                _ => Err(not_found()),
            }
        };
        answer.unwrap_or_else(|refused| *refused)
    }

    async fn channels(&self, request: WholeRequest) -> Answer {
        match *request.method() {
            Method::GET => {
                accepts_json(&request)?;
                Ok(self.list())
            }
            Method::POST => {
                check_form(&request)?;
                accepts_json(&request)?;
                self.join(request).await
            }
            Method::PUT => {
                check_form(&request)?;
                accepts_json(&request)?;
                self.update(request).await
            }
            _ => Err(not_allowed(&method_error(&request), "GET, POST, PUT")),
        }
    }

    fn list(&self) -> Response<Bytes> {
        let names = self.registrar.names();
        let channels: Vec<_> = names
            .into_iter()
            .map(|name| ShortInfo {
                url: url_of(&name),
                name,
            })
            .collect();
        let list = ChannelList {
            system_channel: None,
            channels: (!channels.is_empty()).then_some(channels),
        };
        uncached(json(StatusCode::OK, &list))
    }

    async fn channel(&self, request: &WholeRequest, id: &str) -> Answer {
        match *request.method() {
            Method::GET => {
                accepts_json(request)?;
                check_id(id)?;
                let channel = self.registrar.info(id);
                let channel = channel.ok_or_else(|| {
                    refused(StatusCode::NOT_FOUND, &ManageError::Unknown.to_string())
                })?;
                Ok(uncached(json(StatusCode::OK, &Info::from(channel))))
            }
            Method::DELETE => {
                accepts_json(request)?;
                check_id(id)?;
                match self.registrar.remove(id).await {
                    Ok(()) => Ok(empty(StatusCode::NO_CONTENT)),
                    Err(error) => Err(manage_error("cannot remove", &error)),
                }
            }
            _ => Err(not_allowed(&method_error(request), "GET, DELETE")),
        }
    }

    fn block(&self, request: &WholeRequest, id: &str, which: &str) -> Answer {
        if request.method() != Method::GET {
            return Err(not_allowed(&method_error(request), "GET"));
        }
        accepts_json(request)?;
        check_id(id)?;
        let named = matches!(which, "newest" | "oldest" | "config");
        if !named && which.parse::<i64>().is_err() {
            return Err(refused(
                StatusCode::BAD_REQUEST,
                &format!("invalid block ID: '{which}' not equal <newest|oldest|config|(number)>"),
            ));
        }
        let block = self
            .registrar
            .fetch(id, which)
            .map_err(|error| refused(StatusCode::NOT_FOUND, &error.to_string()))?;
        let mut response = Response::new(Bytes::from(block.encode_to_vec()));
        let octets = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, octets);
        Ok(uncached(response))
    }

    async fn join(&self, request: WholeRequest) -> Answer {
        let content = only_part(request, BLOCK_PART).await?;
        let block = Block::decode(content).map_err(|error| {
            bad_request(&format!(
                "cannot unmarshal file part {BLOCK_PART} into a block: {error}"
            ))
        })?;
        let config = check_join_block(&block)
            .map_err(|reason| bad_request(&format!("invalid join block: {reason}")))?;
        match self.registrar.join(block, config).await {
            Ok(channel) => Ok(created(channel)),
            Err(error) => Err(manage_error("cannot join", &error)),
        }
    }

    async fn update(&self, request: WholeRequest) -> Answer {
        let content = only_part(request, UPDATE_PART).await?;
        let envelope = Envelope::decode(content).map_err(|error| {
            bad_request(&format!(
                "cannot unmarshal file part {UPDATE_PART} into an envelope: {error}"
            ))
        })?;
        let invalid =
            |reason: &str| bad_request(&format!("invalid config update envelope: {reason}"));
        let incoming = Incoming::open(envelope).map_err(|e| invalid(&e.to_string()))?;
        if !matches!(incoming.kind(), Ok(Kind::ConfigUpdate)) {
            return Err(invalid("bad type"));
        }
        let id = incoming.channel.channel_id.clone();
        if id.is_empty() {
            return Err(invalid("empty channel id"));
        }
        let chain = self
            .registrar
            .to_update(&id)
            .map_err(|e| update_error(&e))?;
        let failed = |reason: &str| {
            bad_request(&format!(
                "cannot update: failed update config of channel {id}: {reason}"
            ))
        };
        let answer = chain.submit(incoming).await;
        let answer = answer.map_err(|(_, reason)| failed(&reason))?;
        match answer.await {
            Ok((Status::Success, _)) => Ok(created(ChannelInfo::of(&chain))),
            Ok((_, reason)) => Err(failed(&reason)),
            Err(_) => Err(failed("chain is stopped")),
        }
    }
}

/// What Fabric checks of a block before it looks for the channel.
fn check_join_block(block: &Block) -> Result<ChannelConfig, String> {
    if !selvage_channel::block::is_config_block(block) {
        return Err("block is not a config block".to_owned());
    }
    let slots = block
        .metadata
        .as_ref()
        .map(|BlockMetadata { metadata }| metadata.len());
    if slots.unwrap_or(0) == 0 {
        return Err("invalid block: does not have metadata".to_owned());
    }
    let data = block.data.as_ref().map(selvage_channel::block::data_hash);
    let header = block.header.as_ref().map(|h| h.data_hash.as_ref());
    if data.as_ref().map(<[u8; 32]>::as_slice) != header {
        return Err("invalid block: Header.DataHash is different from Hash(block.Data)".to_owned());
    }
    let config = verify_config_block(block).map_err(|error| in_full(&error))?;
    if config.application().is_none() {
        return Err("invalid config: must contain application config".to_owned());
    }
    Ok(config)
}

fn created(channel: ChannelInfo) -> Response<Bytes> {
    let info = Info::from(channel);
    let location = HeaderValue::from_str(&info.url);
    let mut response = json(StatusCode::CREATED, &info);
    if let Ok(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn manage_error(what: &str, error: &ManageError) -> Refused {
    let message = format!("{what}: {error}");
    match error {
        ManageError::Exists => not_allowed(&message, "GET, DELETE"),
        ManageError::Unknown | ManageError::NotFound(_) => refused(StatusCode::NOT_FOUND, &message),
        ManageError::PendingRemoval => refused(StatusCode::CONFLICT, &message),
        ManageError::RemovalFailed => refused(StatusCode::INTERNAL_SERVER_ERROR, &message),
        _ => bad_request(&message),
    }
}

fn update_error(error: &ManageError) -> Refused {
    let message = format!("cannot update: {error}");
    match error {
        ManageError::Unknown => refused(StatusCode::METHOD_NOT_ALLOWED, &message),
        ManageError::NotReady => refused(StatusCode::FORBIDDEN, &message),
        _ => manage_error("cannot update", error),
    }
}

/// The content of the one part that a form may have, which must be a file.
async fn only_part(request: WholeRequest, key: &str) -> Result<Bytes, Refused> {
    let parts = form_parts(request)
        .await
        .map_err(|reason| bad_request(&format!("cannot read form from request body: {reason}")))?;
    let files = || parts.iter().filter(|part| part.is_file);
    let Some(part) = files().find(|part| part.name == key) else {
        return Err(bad_request(&format!(
            "form does not contains part key: {key}"
        )));
    };
    if parts
        .iter()
        .any(|other| !other.is_file || other.name != key)
    {
        return Err(bad_request("form contains too many parts"));
    }
    Ok(part.content.clone())
}

fn redirect(request: &WholeRequest) -> Answer {
    if request.method() != Method::GET {
        return Err(Box::new(empty(StatusCode::METHOD_NOT_ALLOWED)));
    }
    let mut response = empty(StatusCode::FOUND);
    let location = HeaderValue::from_static(CHANNELS);
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn accepts_json(request: &WholeRequest) -> Result<(), Refused> {
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.map_or("", |value| value.to_str().unwrap_or("?"));
    let fits = |option: &str| {
        ["application/json", "application/*", "*/*"]
            .iter()
            .any(|known| option.contains(known))
    };
    if accept.is_empty() || accept.split(',').any(fits) {
        return Ok(());
    }
    Err(refused(
        StatusCode::NOT_ACCEPTABLE,
        "response Content-Type is application/json only",
    ))
}

fn check_form(request: &WholeRequest) -> Result<(), Refused> {
    let given = request.headers().get(header::CONTENT_TYPE);
    let given = given.map_or("", |value| value.to_str().unwrap_or("?"));
    if given.contains("multipart/form-data") {
        return Ok(());
    }
    let shown = if given.is_empty() {
        "[]".to_owned()
    } else {
        format!("[{given}]")
    };
    Err(bad_request(&format!("unsupported Content-Type: {shown}")))
}

fn check_id(id: &str) -> Result<(), Refused> {
    check_channel_id(id)
        .map_err(|error| bad_request(&format!("invalid channel ID: {}", in_full(&error))))
}

fn method_error(request: &WholeRequest) -> String {
    format!("invalid request method: {}", request.method())
}

fn refused(status: StatusCode, message: &str) -> Refused {
    Box::new(json_error(status, message))
}

fn bad_request(message: &str) -> Refused {
    refused(StatusCode::BAD_REQUEST, message)
}

fn not_allowed(message: &str, allow: &'static str) -> Refused {
    let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, message);
    let allow = HeaderValue::from_static(allow);
    response.headers_mut().insert(header::ALLOW, allow);
    response
}

fn not_found() -> Refused {
    let mut response = Response::new(Bytes::from_static(b"404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    Box::new(response)
}

fn uncached(mut response: Response<Bytes>) -> Response<Bytes> {
    let no_store = HeaderValue::from_static("no-store");
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, no_store);
    response
}
