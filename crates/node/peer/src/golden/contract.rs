//! A double of the contract behind the recorded proposals: it asks the peer for the same things,
//! in the way Go's shim asks.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256_parts;
use selvage_proto::common::signature_policy::{NOutOf, Type as Rule};
use selvage_proto::common::{
    ChannelHeader, Header, MspPrincipal, MspRole, SignatureHeader, SignaturePolicy,
    SignaturePolicyEnvelope,
};
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{
    ChaincodeEvent, ChaincodeId, ChaincodeInput, ChaincodeMessage, ChaincodeProposalPayload,
    ChaincodeSpec, DelState, GetHistoryForKey, GetState, GetStateByRange, GetStateMetadata,
    GetStateMultiple, GetStateMultipleResult, Proposal, PutState, PutStateMetadata, QueryMetadata,
    QueryResponse, QueryResponseMetadata, QueryStateClose, QueryStateNext, Response, StateMetadata,
    StateMetadataResult,
};
use selvage_proto::queryresult::{KeyModification, Kv};
use tokio::sync::mpsc;

const PARAMETER: &str = "VALIDATION_PARAMETER";
const MAX_RUNE: char = '\u{10ffff}';

type Outcome = Result<Response, String>;

/// Registers under a package id and answers transactions until the peer hangs up.
pub(super) async fn serve(
    package_id: String,
    to_peer: mpsc::Sender<ChaincodeMessage>,
    from_peer: mpsc::Receiver<ChaincodeMessage>,
) {
    let id = ChaincodeId {
        name: package_id,
        ..Default::default()
    };
    let register = ChaincodeMessage {
        r#type: Type::Register as i32,
        payload: id.encode_to_vec().into(),
        ..Default::default()
    };
    let _ = to_peer.send(register).await;
    let mut shim = Shim { to_peer, from_peer };
    while let Some(message) = shim.from_peer.recv().await {
        let kind = Type::try_from(message.r#type);
        if matches!(kind, Ok(Type::Transaction | Type::Init)) {
            shim.run(message).await;
        }
    }
}

struct Shim {
    to_peer: mpsc::Sender<ChaincodeMessage>,
    from_peer: mpsc::Receiver<ChaincodeMessage>,
}

impl Shim {
    async fn run(&mut self, message: ChaincodeMessage) {
        let input = ChaincodeInput::decode(message.payload.clone()).unwrap();
        let mut stub = Stub {
            shim: self,
            message: message.clone(),
            event: None,
        };
        let outcome = stub.invoke(&input.args).await;
        let event = stub.event.take();
        let response = outcome.unwrap_or_else(|message| Response {
            status: 500,
            message,
            payload: Bytes::new(),
        });
        let completed = ChaincodeMessage {
            r#type: Type::Completed as i32,
            payload: response.encode_to_vec().into(),
            chaincode_event: event,
            proposal: None,
            ..message
        };
        let _ = self.to_peer.send(completed).await;
    }
}

struct Stub<'a> {
    shim: &'a mut Shim,
    message: ChaincodeMessage,
    event: Option<ChaincodeEvent>,
}

fn text(bytes: &Bytes) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| {
        "bad call: failed to marshal message: string field contains invalid UTF-8".to_owned()
    })
}

fn ok(payload: impl Into<Bytes>) -> Outcome {
    Ok(Response {
        status: 200,
        message: String::new(),
        payload: payload.into(),
    })
}

impl Stub<'_> {
    async fn request(&mut self, kind: Type, body: impl Message) -> Result<Bytes, String> {
        let request = ChaincodeMessage {
            r#type: kind as i32,
            payload: body.encode_to_vec().into(),
            txid: self.message.txid.clone(),
            channel_id: self.message.channel_id.clone(),
            ..Default::default()
        };
        self.shim
            .to_peer
            .send(request)
            .await
            .map_err(|e| e.to_string())?;
        let answer = self.shim.from_peer.recv().await.ok_or("the stream ended")?;
        if answer.r#type == Type::Response as i32 {
            return Ok(answer.payload);
        }
        Err(String::from_utf8_lossy(&answer.payload).into_owned())
    }

    async fn invoke(&mut self, args: &[Bytes]) -> Outcome {
        let (function, args) = match args.split_first() {
            Some((function, args)) => (text(function)?, args),
            None => ("", args),
        };
        match function {
            "init" => {
                self.put_pairs(args).await?;
                ok("initialised")
            }
            "put" => {
                self.put_pairs(args).await?;
                ok("")
            }
            "get" | "getKeyPolicy" | "del" | "putget" | "getput" | "putdel" | "delput"
            | "setKeyPolicy" | "putWithPolicy" | "fill" => self.on_keys(function, args).await,
            "range" | "rangePut" | "rangePaged" | "rangePrivate" | "putC" | "rangeC"
            | "history" | "manyReads" | "multiGet" => self.on_ranges(function, args).await,
            "cc2cc" => self.call(args).await,
            "cc2ccPut" => {
                self.put_pairs(&args[2..4]).await?;
                let rest: Vec<Bytes> = args[..2].iter().chain(&args[4..]).cloned().collect();
                self.call(&rest).await
            }
            "event" => {
                let name = text(&args[0])?.to_owned();
                if name.is_empty() {
                    return Err("event name can not be empty string".to_owned());
                }
                self.put_pairs(&args[2..]).await?;
                self.event = Some(ChaincodeEvent {
                    event_name: name,
                    payload: args[1].clone(),
                    ..Default::default()
                });
                ok("ok")
            }
            "fail" => {
                self.put_pairs(&args[2..]).await?;
                let status: i32 = text(&args[0])?.parse().unwrap();
                Ok(Response {
                    status,
                    message: text(&args[1])?.to_owned(),
                    payload: format!("payload of {status}").into(),
                })
            }
            "info" => ok(self.info()),
            "hang" => std::future::pending().await,
            name if name.contains("rivate") || name == "hashPut" => {
                self.on_private(name, args).await
            }
            name => Err(format!("unknown function {name}")),
        }
    }

    async fn on_keys(&mut self, function: &str, args: &[Bytes]) -> Outcome {
        match function {
            "get" => ok(self.get("", &args[0]).await?),
            "getKeyPolicy" => ok(self.get_policy("", &args[0]).await?),
            "del" => {
                for key in args {
                    self.delete(Type::DelState, "", key).await?;
                }
                ok("")
            }
            "putget" => {
                self.put("", &args[0], args[1].clone()).await?;
                ok(self.get("", &args[0]).await?)
            }
            "getput" => {
                let old = self.get("", &args[0]).await?;
                self.put("", &args[0], args[1].clone()).await?;
                ok(old)
            }
            "putdel" => {
                self.put("", &args[0], args[1].clone()).await?;
                self.delete(Type::DelState, "", &args[0]).await?;
                ok("")
            }
            "delput" => {
                self.delete(Type::DelState, "", &args[0]).await?;
                self.put("", &args[0], args[1].clone()).await?;
                ok("")
            }
            "setKeyPolicy" => {
                self.set_policy("", &args[0], &args[1..]).await?;
                ok("")
            }
            "putWithPolicy" => {
                self.put("", &args[0], args[1].clone()).await?;
                self.set_policy("", &args[0], &args[2..]).await?;
                ok("")
            }
            _ => {
                let (prefix, value) = (text(&args[0])?, text(&args[3])?);
                let from: usize = text(&args[1])?.parse().unwrap();
                let count: usize = text(&args[2])?.parse().unwrap();
                for i in from..from + count {
                    let key = Bytes::from(format!("{prefix}{i:03}"));
                    self.put("", &key, format!("{value}{i}").into()).await?;
                }
                ok("")
            }
        }
    }

    async fn on_ranges(&mut self, function: &str, args: &[Bytes]) -> Outcome {
        match function {
            "range" => {
                let limit = args.get(2).map(|n| text(n).unwrap().parse().unwrap());
                let rows = self.simple_range(&args[0], &args[1], limit).await?;
                ok(rows_json(&rows))
            }
            "rangePut" => {
                let rows = self.simple_range(&args[0], &args[1], None).await?;
                let count = Bytes::from(rows.len().to_string());
                self.put("", &args[2], count.clone()).await?;
                ok(count)
            }
            "rangePaged" => self.range_paged(args).await,
            "rangePrivate" => {
                let collection = text(&args[0])?;
                let first = self
                    .open_range(&args[1], &args[2], collection, None)
                    .await?;
                let rows = kvs(&self.drain(first, None).await?);
                ok(rows_json(&rows))
            }
            "putC" => {
                let (value, parts) = args.split_last().unwrap();
                let key = Bytes::from(composite(parts));
                self.put("", &key, value.clone()).await?;
                ok(key)
            }
            "rangeC" => {
                let start = composite(args);
                let end = format!("{start}{MAX_RUNE}");
                let first = self
                    .open_range(&start.into(), &end.into(), "", None)
                    .await?;
                let rows = kvs(&self.drain(first, None).await?);
                ok(rows_json(&rows))
            }
            "history" => self.history(&args[0]).await,
            "manyReads" => {
                let rows = self.simple_range(&args[0], &args[1], None).await?;
                for key in &args[3..] {
                    self.get("", key).await?;
                }
                let count = Bytes::from(rows.len().to_string());
                self.put("", &args[2], count.clone()).await?;
                ok(count)
            }
            _ => {
                let keys: Result<Vec<_>, _> =
                    args.iter().map(|k| text(k).map(str::to_owned)).collect();
                let get = GetStateMultiple {
                    keys: keys?,
                    collection: String::new(),
                };
                let values = self.request(Type::GetStateMultiple, get).await?;
                let values = GetStateMultipleResult::decode(values).unwrap().values;
                let mut out = String::from("[");
                for (i, value) in values.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    put_json(&mut out, value);
                }
                out.push(']');
                ok(out)
            }
        }
    }

    async fn history(&mut self, key: &Bytes) -> Outcome {
        let get = GetHistoryForKey {
            key: text(key)?.to_owned(),
        };
        let first = self.request(Type::GetHistoryForKey, get).await?;
        let first = QueryResponse::decode(first).unwrap();
        ok(history_json(&self.drain(first, None).await?))
    }

    async fn range_paged(&mut self, args: &[Bytes]) -> Outcome {
        let size: i32 = text(&args[2])?.parse().unwrap();
        let metadata = QueryMetadata {
            page_size: size,
            bookmark: text(&args[3])?.to_owned(),
        };
        let first = self
            .open_range(&args[0], &args[1], "", Some(metadata))
            .await?;
        let page = QueryResponseMetadata::decode(first.metadata.clone()).unwrap();
        let rows = kvs(&self.drain(first, None).await?);
        let mut out = String::from("{\"bookmark\":");
        put_json(&mut out, page.bookmark.as_bytes());
        let count = page.fetched_records_count;
        write!(out, ",\"count\":{count},\"rows\":{}}}", rows_json(&rows)).unwrap();
        ok(out)
    }

    async fn on_private(&mut self, function: &str, args: &[Bytes]) -> Outcome {
        if function == "putPrivateMany" {
            for place in args {
                let (collection, key) = text(place)?.split_once('/').unwrap();
                let value = [&self.transient()[..], b"@", key.as_bytes()].concat();
                let key = Bytes::copy_from_slice(key.as_bytes());
                self.put(collection, &key, value.into()).await?;
            }
            return ok("");
        }
        let collection = text(&args[0])?;
        let key = &args[1];
        match function {
            "putPrivate" => self.put(collection, key, self.transient()).await?,
            "putPrivatePublic" => {
                self.put(collection, key, self.transient()).await?;
                self.put_pairs(&args[2..]).await?;
            }
            "getPrivate" => return ok(self.get(collection, key).await?),
            "getPutPrivate" => {
                self.get(collection, key).await?;
                self.put(collection, key, self.transient()).await?;
            }
            "putDelPrivate" | "putdelPrivate" => {
                self.put(collection, key, self.transient()).await?;
                self.delete(Type::DelState, collection, key).await?;
            }
            "delPrivate" => self.delete(Type::DelState, collection, key).await?,
            "purgePrivate" => self.delete(Type::PurgePrivateData, collection, key).await?,
            "setPrivateKeyPolicy" => self.set_policy(collection, key, &args[2..]).await?,
            "getPrivateKeyPolicy" => return ok(self.get_policy(collection, key).await?),
            "getPrivateHash" => return ok(self.get_hash(collection, key).await?),
            "hashPut" => {
                let hash = self.get_hash(collection, key).await?;
                self.put("", &args[2], hex::encode(&hash).into()).await?;
                return ok(hash);
            }
            name => return Err(format!("unknown function {name}")),
        }
        ok("")
    }

    async fn call(&mut self, args: &[Bytes]) -> Outcome {
        let (name, channel) = (text(&args[0])?, text(&args[1])?);
        let name = match channel {
            "" => name.to_owned(),
            channel => format!("{name}/{channel}"),
        };
        let spec = ChaincodeSpec {
            chaincode_id: Some(ChaincodeId {
                name,
                ..Default::default()
            }),
            input: Some(ChaincodeInput {
                args: args[2..].to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let failed = |payload: String| Response {
            status: 500,
            message: String::new(),
            payload: payload.into(),
        };
        match self.request(Type::InvokeChaincode, spec).await {
            Err(error) => Ok(failed(error)),
            Ok(answer) => {
                let answer = ChaincodeMessage::decode(answer).unwrap();
                Ok(Response::decode(answer.payload).unwrap())
            }
        }
    }

    async fn put_pairs(&mut self, pairs: &[Bytes]) -> Result<(), String> {
        for pair in pairs.chunks(2) {
            self.put("", &pair[0], pair[1].clone()).await?;
        }
        Ok(())
    }

    async fn get(&mut self, collection: &str, key: &Bytes) -> Result<Bytes, String> {
        let get = GetState {
            key: text(key)?.to_owned(),
            collection: collection.to_owned(),
        };
        self.request(Type::GetState, get).await
    }

    async fn get_hash(&mut self, collection: &str, key: &Bytes) -> Result<Bytes, String> {
        let get = GetState {
            key: text(key)?.to_owned(),
            collection: collection.to_owned(),
        };
        self.request(Type::GetPrivateDataHash, get).await
    }

    async fn put(&mut self, collection: &str, key: &Bytes, value: Bytes) -> Result<(), String> {
        if key.is_empty() {
            return Err("key must not be an empty string".to_owned());
        }
        let put = PutState {
            key: text(key)?.to_owned(),
            value,
            collection: collection.to_owned(),
        };
        self.request(Type::PutState, put).await.map(drop)
    }

    async fn delete(&mut self, kind: Type, collection: &str, key: &Bytes) -> Result<(), String> {
        let delete = DelState {
            key: text(key)?.to_owned(),
            collection: collection.to_owned(),
        };
        self.request(kind, delete).await.map(drop)
    }

    async fn get_policy(&mut self, collection: &str, key: &Bytes) -> Result<Bytes, String> {
        let get = GetStateMetadata {
            key: text(key)?.to_owned(),
            collection: collection.to_owned(),
        };
        let found = self.request(Type::GetStateMetadata, get).await?;
        let found = StateMetadataResult::decode(found).unwrap().entries;
        let found = found.into_iter().find(|e| e.metakey == PARAMETER);
        Ok(found.map(|e| e.value).unwrap_or_default())
    }

    async fn set_policy(
        &mut self,
        collection: &str,
        key: &Bytes,
        orgs: &[Bytes],
    ) -> Result<(), String> {
        let value = match orgs {
            [] => Bytes::new(),
            orgs => key_policy(orgs).encode_to_vec().into(),
        };
        let put = PutStateMetadata {
            key: text(key)?.to_owned(),
            collection: collection.to_owned(),
            metadata: Some(StateMetadata {
                metakey: PARAMETER.to_owned(),
                value,
            }),
        };
        self.request(Type::PutStateMetadata, put).await.map(drop)
    }

    async fn simple_range(
        &mut self,
        start: &Bytes,
        end: &Bytes,
        limit: Option<usize>,
    ) -> Result<Vec<Kv>, String> {
        for bound in [start, end] {
            if bound.first() == Some(&0) {
                let bound = text(bound)?;
                return Err(format!(
                    "first character of the key [{bound}] contains a null character which is not \
                     allowed"
                ));
            }
        }
        let first = self.open_range(start, end, "", None).await?;
        Ok(kvs(&self.drain(first, limit).await?))
    }

    async fn open_range(
        &mut self,
        start: &Bytes,
        end: &Bytes,
        collection: &str,
        metadata: Option<QueryMetadata>,
    ) -> Result<QueryResponse, String> {
        // Go's shim begins after the keys that only composite keys use.
        let start_key = match text(start)? {
            "" => "\u{1}",
            start => start,
        };
        let get = GetStateByRange {
            start_key: start_key.to_owned(),
            end_key: text(end)?.to_owned(),
            collection: collection.to_owned(),
            metadata: metadata
                .map(|m| m.encode_to_vec().into())
                .unwrap_or_default(),
        };
        let first = self.request(Type::GetStateByRange, get).await?;
        Ok(QueryResponse::decode(first).unwrap())
    }

    /// Reads an iterator to its end or limit, and closes it.
    async fn drain(
        &mut self,
        first: QueryResponse,
        limit: Option<usize>,
    ) -> Result<Vec<Bytes>, String> {
        let limit = limit.unwrap_or(usize::MAX);
        let id = first.id.clone();
        let (mut batch, mut out) = (first, Vec::new());
        'all: loop {
            for result in &batch.results {
                if out.len() >= limit {
                    break 'all;
                }
                out.push(result.result_bytes.clone());
            }
            if !batch.has_more || out.len() >= limit {
                break;
            }
            let next = self
                .request(Type::QueryStateNext, QueryStateNext { id: id.clone() })
                .await?;
            batch = QueryResponse::decode(next).unwrap();
        }
        self.request(Type::QueryStateClose, QueryStateClose { id })
            .await?;
        Ok(out)
    }

    fn proposal(&self) -> Proposal {
        let signed = self.message.proposal.clone().unwrap();
        Proposal::decode(signed.proposal_bytes).unwrap()
    }

    fn transient(&self) -> Bytes {
        let payload = ChaincodeProposalPayload::decode(self.proposal().payload).unwrap();
        payload
            .transient_map
            .get("value")
            .cloned()
            .unwrap_or_default()
    }

    fn info(&self) -> String {
        let header = Header::decode(self.proposal().header).unwrap();
        let channel = ChannelHeader::decode(header.channel_header).unwrap();
        let signature = SignatureHeader::decode(header.signature_header).unwrap();
        let epoch = channel.epoch.to_le_bytes();
        let binding = sha256_parts([&signature.nonce[..], &signature.creator[..], &epoch[..]]);
        let time = channel.timestamp.unwrap_or_default();
        format!(
            "{{\"binding\":\"{}\",\"channel\":\"{}\",\"creator\":\"{}\",\"decorations\":0,\
             \"nanos\":{},\"sec\":{},\"txid\":\"{}\"}}",
            hex::encode(binding),
            self.message.channel_id,
            hex::encode(&signature.creator),
            time.nanos,
            time.seconds,
            self.message.txid
        )
    }
}

/// Every organisation's peer must sign.
fn key_policy(orgs: &[Bytes]) -> SignaturePolicyEnvelope {
    let orgs: BTreeMap<&str, ()> = orgs.iter().map(|o| (text(o).unwrap(), ())).collect();
    let signed_by = |i| SignaturePolicy {
        r#type: Some(Rule::SignedBy(i)),
    };
    let principal = |org: &&str| MspPrincipal {
        principal_classification: 0,
        principal: MspRole {
            msp_identifier: (*org).to_owned(),
            role: 3,
        }
        .encode_to_vec()
        .into(),
    };
    let count = orgs.len() as i32;
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(SignaturePolicy {
            r#type: Some(Rule::NOutOf(NOutOf {
                n: count,
                rules: (0..count).map(signed_by).collect(),
            })),
        }),
        identities: orgs.keys().map(principal).collect(),
    }
}

fn composite(parts: &[Bytes]) -> String {
    let mut key = String::from("\0");
    for part in parts {
        key.push_str(text(part).unwrap());
        key.push('\0');
    }
    key
}

fn kvs(results: &[Bytes]) -> Vec<Kv> {
    results
        .iter()
        .map(|r| Kv::decode(r.clone()).unwrap())
        .collect()
}

fn rows_json(rows: &[Kv]) -> String {
    let mut out = String::from("[");
    for (i, row) in rows.iter().enumerate() {
        out.push_str(if i == 0 { "{\"K\":" } else { ",{\"K\":" });
        put_json(&mut out, row.key.as_bytes());
        out.push_str(",\"V\":");
        put_json(&mut out, &row.value);
        out.push('}');
    }
    out.push(']');
    out
}

fn history_json(results: &[Bytes]) -> String {
    let mut out = String::from("[");
    for (i, result) in results.iter().enumerate() {
        let change = KeyModification::decode(result.clone()).unwrap();
        let time = change.timestamp.unwrap_or_default();
        out.push_str(if i == 0 { "{\"TxId\":" } else { ",{\"TxId\":" });
        put_json(&mut out, change.tx_id.as_bytes());
        out.push_str(",\"Value\":");
        put_json(&mut out, &change.value);
        let (delete, seconds, nanos) = (change.is_delete, time.seconds, time.nanos);
        write!(
            out,
            ",\"Delete\":{delete},\"Sec\":{seconds},\"Nanos\":{nanos}}}"
        )
        .unwrap();
    }
    out.push(']');
    out
}

/// A JSON string as Go writes it.
fn put_json(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                write!(out, "\\u{:04x}", c as u32).unwrap();
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
