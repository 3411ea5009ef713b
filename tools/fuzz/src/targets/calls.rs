//! Calls over the network: of a peer's services, of the orderer's filters, and of chaincode.

use bytes::Bytes;
use prost::Message;
use selvage_client::{Invocation, Proposal};
use selvage_net::deliver::{Signer, between, newest, oldest, only, specified};
use selvage_ordering::filters::{Author, Filters, Incoming, Kind};
use selvage_proto::Timestamp;
use selvage_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use selvage_proto::discovery::query::Query as Asked;
use selvage_proto::discovery::query_result::Result as Answer;
use selvage_proto::discovery::{
    AuthInfo, ChaincodeQuery, ConfigQuery, LocalPeerQuery, PeerMembershipQuery, Query, QueryResult,
    Request, Response as Discovered, SignedRequest,
};
use selvage_proto::gateway::{
    ChaincodeEventsRequest, CommitStatusRequest, EndorseRequest, EvaluateRequest,
    SignedChaincodeEventsRequest, SignedCommitStatusRequest, SubmitRequest,
};
use selvage_proto::lifecycle::{
    CheckCommitReadinessArgs, InstallChaincodeArgs, QueryApprovedChaincodeDefinitionArgs,
    QueryChaincodeDefinitionArgs, QueryInstalledChaincodeArgs,
};
use selvage_proto::orderer::SeekInfo;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{
    ChaincodeCall, ChaincodeId, ChaincodeInput, ChaincodeInterest, ChaincodeMessage, ChaincodeSpec,
    GetQueryResult, GetState, GetStateByRange, PutState, QueryMetadata, QueryStateNext,
    SignedProposal, WriteBatchState, WriteRecord,
};

use crate::golden;
use crate::peer::{CHAINCODE, COLLECTION, collections, frame, package, peer};
use crate::pick::{Pick, Put};
use crate::reach::reach;
use crate::world::{CHANNEL, NOW, world};

/// Bytes of a gRPC body as they are, and as the message of a whole frame.
pub(super) fn proposal(input: &[u8]) {
    let _ = peer().endorse(Bytes::copy_from_slice(input));
    let answers = peer().endorse(frame(input));
    assert!(answers.len() <= 1, "one proposal, one answer");
    // The same, signed by a client who may call, in somebody's name and in the client's own.
    let bytes = Bytes::copy_from_slice(input);
    for bytes in [bytes.clone(), own(bytes)] {
        let Some(answer) = peer().process(&signed(bytes)) else {
            continue;
        };
        let response = answer.response.unwrap_or_default();
        if answer.endorsement.is_some() {
            reach("endorsed");
            assert!((200..400).contains(&response.status));
        }
    }
}

/// A proposal with the client's signature.
fn signed(proposal_bytes: Bytes) -> SignedProposal {
    SignedProposal {
        signature: world().client.sign(&proposal_bytes).into(),
        proposal_bytes,
    }
}

/// A proposal in the client's own name, which is another in every run, with the id that follows
/// from it. What is no proposal stays what it is.
fn own(proposal: Bytes) -> Bytes {
    rename(proposal.clone()).unwrap_or(proposal)
}

fn rename(proposal: Bytes) -> Option<Bytes> {
    let mut proposal = selvage_proto::peer::Proposal::decode(proposal).ok()?;
    let mut header = Header::decode(proposal.header).ok()?;
    let signer = SignatureHeader {
        creator: world().client.creator(),
        nonce: Bytes::from_static(b"nonce"),
    };
    let mut channel = ChannelHeader::decode(header.channel_header).ok()?;
    let id = selvage_crypto::sha256_parts([&signer.nonce[..], &signer.creator[..]]);
    channel.tx_id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    header.channel_header = channel.encode_to_vec().into();
    header.signature_header = signer.encode_to_vec().into();
    proposal.header = header.encode_to_vec().into();
    Some(proposal.encode_to_vec().into())
}

pub(super) fn proposal_seeds() -> Vec<Vec<u8>> {
    let mut seeds = golden::files("corpus/txs", |name| name == "proposal.bin");
    seeds.push(frame(b"\x0a\x00").to_vec());
    // As many as the recorded ones, whose channels are not this peer's.
    let own = seeds.len().max(4);
    seeds.extend(std::iter::repeat_n(nameless_proposal(), own));
    seeds
}

fn channel_header(kind: HeaderType) -> ChannelHeader {
    ChannelHeader {
        r#type: kind as i32,
        channel_id: CHANNEL.to_owned(),
        timestamp: Some(Timestamp {
            seconds: NOW,
            nanos: 0,
        }),
        ..Default::default()
    }
}

/// What an administrator may ask the peer's own chaincode for: chaincode, function, channel or none.
const FUNCTIONS: [(&str, &str, &str); 19] = [
    ("_lifecycle", "InstallChaincode", ""),
    ("_lifecycle", "QueryInstalledChaincode", ""),
    ("_lifecycle", "GetInstalledChaincodePackage", ""),
    ("_lifecycle", "QueryInstalledChaincodes", ""),
    ("_lifecycle", "ApproveChaincodeDefinitionForMyOrg", CHANNEL),
    ("_lifecycle", "QueryApprovedChaincodeDefinition", CHANNEL),
    ("_lifecycle", "QueryApprovedChaincodeDefinitions", CHANNEL),
    ("_lifecycle", "CheckCommitReadiness", CHANNEL),
    ("_lifecycle", "CommitChaincodeDefinition", CHANNEL),
    ("_lifecycle", "QueryChaincodeDefinition", CHANNEL),
    ("_lifecycle", "QueryChaincodeDefinitions", CHANNEL),
    ("cscc", "GetConfigBlock", ""),
    ("cscc", "GetChannelConfig", ""),
    ("cscc", "JoinChain", ""),
    ("qscc", "GetChainInfo", CHANNEL),
    ("qscc", "GetBlockByNumber", CHANNEL),
    ("qscc", "GetBlockByHash", CHANNEL),
    ("qscc", "GetTransactionByID", CHANNEL),
    ("qscc", "GetBlockByTxID", CHANNEL),
];

/// The first byte is the function; pieces are arguments before the last one, which is the rest.
pub(super) fn system_chaincode(input: &[u8]) {
    let mut pick = Pick::new(input);
    let (chaincode, function, channel) = pick.of(&FUNCTIONS);
    let mut call = Invocation::new(chaincode, function);
    if chaincode == "qscc" {
        call = call.arg(CHANNEL.as_bytes());
    }
    for _ in 0..pick.byte() % 3 {
        call = call.arg(pick.piece().to_vec());
    }
    call = call.arg(pick.rest().to_vec());
    let proposal = Proposal::new(&world().admin, channel, call);
    let answer = peer().process(&proposal.signed);
    let answer = answer.expect("what is in order but for its arguments gets an answer");
    let response = answer.response.expect("with a status");
    if response.status == 200 {
        reach(function);
    }
    assert!(response.status == 200 || !response.message.is_empty());
}

pub(super) fn system_chaincode_seeds() -> Vec<Vec<u8>> {
    let name = || CHAINCODE.to_owned();
    let readiness = CheckCommitReadinessArgs {
        sequence: 2,
        name: name(),
        version: "2".into(),
        validation_parameter: Bytes::from_static(b"\x12\x22/Channel/Application/Endorsement"),
        collections: Some(collections()),
        ..Default::default()
    }
    .encode_to_vec();
    let install = InstallChaincodeArgs {
        chaincode_install_package: package(),
    };
    let approved = QueryApprovedChaincodeDefinitionArgs {
        name: name(),
        sequence: 1,
    };
    let installed = QueryInstalledChaincodeArgs {
        package_id: "cc_1:00".into(),
    };
    let defined = QueryChaincodeDefinitionArgs { name: name() };
    let arguments = |function: &str| match function {
        "InstallChaincode" => install.encode_to_vec(),
        "QueryInstalledChaincode" | "GetInstalledChaincodePackage" => installed.encode_to_vec(),
        "QueryApprovedChaincodeDefinition" => approved.encode_to_vec(),
        "QueryChaincodeDefinition" => defined.encode_to_vec(),
        "CheckCommitReadiness"
        | "CommitChaincodeDefinition"
        | "ApproveChaincodeDefinitionForMyOrg" => readiness.clone(),
        "GetConfigBlock" | "GetChannelConfig" => CHANNEL.as_bytes().to_vec(),
        "GetBlockByNumber" => b"1".to_vec(),
        _ => Vec::new(),
    };
    FUNCTIONS
        .iter()
        .enumerate()
        .map(|(at, (_, function, _))| {
            let put = Put::default().byte(at as u8).byte(0);
            put.rest(arguments(function))
        })
        .collect()
}

/// What the chaincode says: the type of each message, then its payload.
pub(super) fn shim(input: &[u8]) {
    let mut pick = Pick::new(input);
    let mut script = Vec::new();
    while !pick.is_empty() && script.len() < 30 {
        let kind = i32::from(pick.byte());
        let payload = Bytes::copy_from_slice(pick.piece());
        script.push(ChaincodeMessage {
            r#type: kind,
            payload,
            ..Default::default()
        });
    }
    // An answer or a refusal: neither waits for ever, whatever the chaincode does.
    let _ = peer().play(script);
    let well_behaved = peer().play(Vec::new());
    let response = well_behaved.and_then(|answer| answer.response);
    let response = response.unwrap_or_default();
    assert_eq!(
        response.status, 200,
        "the next call fails: {}",
        response.message
    );
}

pub(super) fn shim_seeds() -> Vec<Vec<u8>> {
    let say = |put: Put, kind: Type, payload: Vec<u8>| put.byte(kind as i32 as u8).piece(payload);
    let message = |kind, payload: Vec<u8>| say(Put::default(), kind, payload).rest([]);
    let collection = || COLLECTION.to_owned();
    let get = |key: &str, collection: String| GetState {
        key: key.to_owned(),
        collection,
    };
    let put = PutState {
        key: "k".into(),
        value: Bytes::from_static(b"v"),
        collection: collection(),
    };
    let page = QueryMetadata {
        page_size: 2,
        bookmark: "k".into(),
    };
    let range = GetStateByRange {
        start_key: "a".into(),
        end_key: "z".into(),
        metadata: page.encode_to_vec().into(),
        ..Default::default()
    };
    let next = QueryStateNext { id: "1".into() };
    let query = GetQueryResult {
        query: "{}".into(),
        ..Default::default()
    };
    let batch = WriteBatchState {
        rec: vec![WriteRecord {
            key: "k".into(),
            value: Bytes::from_static(b"v"),
            ..Default::default()
        }],
    };
    let call = ChaincodeSpec {
        chaincode_id: Some(ChaincodeId {
            name: format!("{CHAINCODE}/{CHANNEL}"),
            ..Default::default()
        }),
        input: Some(ChaincodeInput {
            args: vec![Bytes::from_static(b"f")],
            ..Default::default()
        }),
        ..Default::default()
    };
    let system = ChaincodeSpec {
        chaincode_id: Some(ChaincodeId {
            name: "qscc".into(),
            ..Default::default()
        }),
        ..call.clone()
    };
    let both = say(
        Put::default(),
        Type::GetState,
        get("k", String::new()).encode_to_vec(),
    );
    let both = say(both, Type::PutState, put.encode_to_vec()).rest([]);
    vec![
        both,
        message(Type::GetState, get("k", collection()).encode_to_vec()),
        message(Type::DelState, get("k", collection()).encode_to_vec()),
        message(
            Type::PurgePrivateData,
            get("k", collection()).encode_to_vec(),
        ),
        message(
            Type::GetPrivateDataHash,
            get("k", collection()).encode_to_vec(),
        ),
        message(
            Type::GetStateMetadata,
            get("k", String::new()).encode_to_vec(),
        ),
        message(
            Type::GetHistoryForKey,
            get("k", String::new()).encode_to_vec(),
        ),
        message(Type::PutState, put.encode_to_vec()),
        message(Type::GetStateByRange, range.encode_to_vec()),
        message(Type::QueryStateNext, next.encode_to_vec()),
        message(Type::QueryStateClose, next.encode_to_vec()),
        message(Type::GetQueryResult, query.encode_to_vec()),
        message(Type::WriteBatchState, batch.encode_to_vec()),
        message(Type::InvokeChaincode, call.encode_to_vec()),
        message(Type::InvokeChaincode, system.encode_to_vec()),
        message(Type::Completed, b"\x08\xc8\x01".to_vec()),
        message(Type::Error, b"failed".to_vec()),
        message(Type::Register, Vec::new()),
    ]
}

/// The first byte is the method, the rest its request; what is to be signed is signed here.
pub(super) fn gateway(input: &[u8]) {
    let mut pick = Pick::new(input);
    let method = pick.byte() % 6;
    let bytes = Bytes::copy_from_slice(pick.rest());
    let user = &world().client;
    let signature: Bytes = user.sign(&bytes).into();
    let signed_proposal = || Some(signed(own(bytes.clone())));
    let (method, request) = match method {
        0 => ("Endorse", bytes.to_vec()),
        1 => {
            let request = EndorseRequest {
                proposed_transaction: signed_proposal(),
                ..Default::default()
            };
            ("Endorse", request.encode_to_vec())
        }
        2 => {
            let request = EvaluateRequest {
                proposed_transaction: signed_proposal(),
                ..Default::default()
            };
            ("Evaluate", request.encode_to_vec())
        }
        3 => {
            let request = SubmitRequest {
                channel_id: CHANNEL.to_owned(),
                prepared_transaction: Some(Envelope {
                    payload: bytes,
                    signature,
                }),
                ..Default::default()
            };
            ("Submit", request.encode_to_vec())
        }
        4 => {
            let asked = CommitStatusRequest::decode(bytes).map(|request| CommitStatusRequest {
                identity: user.creator(),
                ..request
            });
            let request: Bytes = asked.unwrap_or_default().encode_to_vec().into();
            let signature = user.sign(&request).into();
            let signed = SignedCommitStatusRequest { request, signature };
            ("CommitStatus", signed.encode_to_vec())
        }
        _ => {
            let asked = ChaincodeEventsRequest::decode(bytes);
            let asked = asked.map(|request| ChaincodeEventsRequest {
                identity: user.creator(),
                ..request
            });
            let request: Bytes = asked.unwrap_or_default().encode_to_vec().into();
            let signature = user.sign(&request).into();
            let signed = SignedChaincodeEventsRequest { request, signature };
            ("ChaincodeEvents", signed.encode_to_vec())
        }
    };
    if !peer().gateway(method, frame(&request)).is_empty() {
        reach(method);
    }
}

/// A call of the chaincode without the identity, which is another in every run.
fn nameless_proposal() -> Vec<u8> {
    let call = Invocation::new(CHAINCODE, "f").args(["a"]);
    let proposal = Proposal::new(&world().client, CHANNEL, call).signed;
    let mut proposal =
        selvage_proto::peer::Proposal::decode(proposal.proposal_bytes).expect("a proposal");
    let mut header = Header::decode(proposal.header).expect("a header");
    header.signature_header = Bytes::new();
    let mut channel = ChannelHeader::decode(header.channel_header).expect("a header");
    channel.tx_id = "id".into();
    header.channel_header = channel.encode_to_vec().into();
    proposal.header = header.encode_to_vec().into();
    proposal.encode_to_vec()
}

pub(super) fn gateway_seeds() -> Vec<Vec<u8>> {
    let proposal = nameless_proposal();
    let status = CommitStatusRequest {
        transaction_id: "id".into(),
        channel_id: CHANNEL.into(),
        ..Default::default()
    };
    let events = ChaincodeEventsRequest {
        channel_id: CHANNEL.into(),
        chaincode_id: CHAINCODE.into(),
        start_position: Some(oldest()),
        ..Default::default()
    };
    let request = |method: u8, bytes: &[u8]| Put::default().byte(method).rest(bytes);
    let mut seeds = vec![
        request(1, &proposal),
        request(2, &proposal),
        request(3, b"\x0a\x00"),
        request(4, &status.encode_to_vec()),
        request(5, &events.encode_to_vec()),
    ];
    for file in golden::files("corpus/gateway", |name| name.ends_with("-request.bin")) {
        seeds.push(request(0, &file));
    }
    seeds
}

/// Queries, which a client puts into a request of its own and signs; and any request.
pub(super) fn discovery(input: &[u8]) {
    let _ = peer().discover(frame(input));
    let user = &world().client;
    let asked = Request::decode(input).unwrap_or_default();
    let count = asked.queries.len();
    let request = Request {
        authentication: Some(AuthInfo {
            client_identity: user.creator(),
            client_tls_cert_hash: Bytes::new(),
        }),
        ..asked
    };
    let payload: Bytes = request.encode_to_vec().into();
    let signed = SignedRequest {
        signature: user.sign(&payload).into(),
        payload,
    };
    let answers = peer().discover(frame(&signed.encode_to_vec()));
    for answer in answers {
        let answer = Discovered::decode(answer).expect("an answer");
        let whole = |result: &QueryResult| !matches!(result.result, None | Some(Answer::Error(_)));
        if count > 0 && answer.results.iter().all(whole) {
            reach("answered in full");
        }
        assert_eq!(answer.results.len(), count, "one result for each query");
    }
}

pub(super) fn discovery_seeds() -> Vec<Vec<u8>> {
    let call = ChaincodeCall {
        name: CHAINCODE.into(),
        collection_names: vec![COLLECTION.into()],
        ..Default::default()
    };
    let interest = ChaincodeInterest {
        chaincodes: vec![call],
    };
    let query = |channel: &str, query: Asked| Query {
        channel: channel.to_owned(),
        query: Some(query),
    };
    let chaincodes = ChaincodeQuery {
        interests: vec![interest],
    };
    let peers = PeerMembershipQuery {
        filter: chaincodes.interests.first().cloned(),
    };
    let request = Request {
        authentication: None,
        queries: vec![
            query(CHANNEL, Asked::ConfigQuery(ConfigQuery {})),
            query(CHANNEL, Asked::CcQuery(chaincodes)),
            query(CHANNEL, Asked::PeerQuery(peers)),
            query("", Asked::LocalPeers(LocalPeerQuery {})),
        ],
    };
    vec![request.encode_to_vec()]
}

/// What is sought, from a client who may read; and any request.
pub(super) fn seek(input: &[u8]) {
    let mut pick = Pick::new(input);
    let method = pick.of(&["Deliver", "DeliverFiltered", "DeliverWithPrivateData"]);
    let data = pick.rest();
    let _ = peer().deliver(method, frame(data));
    let user = &world().client;
    let data = Bytes::copy_from_slice(data);
    let envelope = user.envelope(HeaderType::DeliverSeekInfo, CHANNEL, data);
    let answers = peer().deliver(method, frame(&envelope.encode_to_vec()));
    if answers.len() > 1 {
        reach(method);
    }
    assert!(answers.len() <= 4, "the channel has three blocks");
}

pub(super) fn seek_seeds() -> Vec<Vec<u8>> {
    let sought: [SeekInfo; 4] = [
        between(oldest(), newest()),
        only(specified(1)),
        between(specified(0), specified(u64::MAX)),
        SeekInfo {
            behavior: 1,
            error_response: 1,
            content_type: 1,
            ..between(newest(), specified(9))
        },
    ];
    let methods = 0..3u8;
    methods
        .flat_map(|method| {
            let seed =
                move |info: &SeekInfo| Put::default().byte(method).rest(info.encode_to_vec());
            sought.iter().map(seed).collect::<Vec<_>>()
        })
        .collect()
}

/// A payload, signed by a client who may write.
pub(super) fn broadcast(input: &[u8]) {
    let world = world();
    let payload = Payload::decode(input).unwrap_or_default();
    let header = payload.header.unwrap_or_default();
    let header = Header {
        signature_header: SignatureHeader {
            creator: world.client.creator(),
            nonce: Bytes::from_static(b"nonce"),
        }
        .encode_to_vec()
        .into(),
        ..header
    };
    let payload = Payload {
        header: Some(header),
        data: payload.data,
    };
    let envelope = world.client.signed(payload.encode_to_vec().into());
    let Ok(incoming) = Incoming::open(envelope) else {
        return;
    };
    let filters = Filters::default();
    let author = Author {
        signer: &world.orderer,
        nonce: [1; 24],
        unix_seconds: NOW,
    };
    match incoming.kind() {
        Ok(Kind::Normal) => {
            reach("let in");
            let passed = filters.check_normal(&world.config, &incoming, NOW);
            assert!(passed.is_ok(), "a member may write anything: {passed:?}");
        }
        Ok(Kind::ConfigUpdate) => {
            reach("an update");
            let made = filters.process_update(&world.config, &incoming, author);
            assert!(made.is_err(), "a client administers nothing");
        }
        Err(refused) => assert_ne!(refused.status() as i32, 200),
    }
}

pub(super) fn broadcast_seeds() -> Vec<Vec<u8>> {
    let kinds = [
        HeaderType::EndorserTransaction,
        HeaderType::ConfigUpdate,
        HeaderType::Config,
        HeaderType::Message,
    ];
    let payload = |kind| Payload {
        header: Some(Header {
            channel_header: channel_header(kind).encode_to_vec().into(),
            signature_header: Bytes::new(),
        }),
        data: Bytes::from_static(b"\x0a\x06\x0a\x04fuzz"),
    };
    kinds.map(|kind| payload(kind).encode_to_vec()).to_vec()
}

#[cfg(test)]
mod tests {
    use selvage_proto::common::Status;
    use selvage_proto::gateway::{CommitStatusResponse, EndorseResponse, EvaluateResponse};
    use selvage_proto::peer::DeliverResponse;
    use selvage_proto::peer::deliver_response::Type as Delivered;

    use super::*;

    fn envelope(info: &SeekInfo) -> Bytes {
        let data = info.encode_to_vec().into();
        let user = &world().client;
        let envelope = user.envelope(HeaderType::DeliverSeekInfo, CHANNEL, data);
        frame(&envelope.encode_to_vec())
    }

    /// If these calls failed, the targets would only ever see refusals.
    #[test]
    fn the_peer_under_test_works() {
        let user = &world().client;
        let call = || Invocation::new(CHAINCODE, "f").transient("t", &b"hidden"[..]);
        let proposal = Proposal::new(user, CHANNEL, call());
        let proposed_transaction = Some(proposal.signed);
        let request = EvaluateRequest {
            proposed_transaction: proposed_transaction.clone(),
            ..Default::default()
        };
        let answers = peer().gateway("Evaluate", frame(&request.encode_to_vec()));
        let answer = EvaluateResponse::decode(answers[0].clone()).expect("an answer");
        assert_eq!(answer.result.map(|r| r.status), Some(200));
        let request = EndorseRequest {
            proposed_transaction,
            ..Default::default()
        };
        let answers = peer().gateway("Endorse", frame(&request.encode_to_vec()));
        let answer = EndorseResponse::decode(answers[0].clone()).expect("an answer");
        assert!(answer.prepared_transaction.is_some());

        let answers = peer().deliver("Deliver", envelope(&between(oldest(), newest())));
        let kinds: Vec<_> = answers
            .into_iter()
            .filter_map(|a| DeliverResponse::decode(a).ok()?.r#type)
            .collect();
        assert_eq!(kinds.len(), 4, "three blocks and a status");
        assert_eq!(kinds[3], Delivered::Status(Status::Success as i32));
    }

    #[test]
    fn discovery_answers_its_seed_in_full() {
        let seed = discovery_seeds().remove(0);
        let user = &world().client;
        let request = Request {
            authentication: Some(AuthInfo {
                client_identity: user.creator(),
                client_tls_cert_hash: Bytes::new(),
            }),
            ..Request::decode(seed.as_slice()).expect("a request")
        };
        let payload: Bytes = request.encode_to_vec().into();
        let signed = SignedRequest {
            signature: user.sign(&payload).into(),
            payload,
        };
        let answers = peer().discover(frame(&signed.encode_to_vec()));
        let answer = Discovered::decode(answers[0].clone()).expect("an answer");
        for result in answer.results {
            assert!(
                !matches!(result.result, None | Some(Answer::Error(_))),
                "{result:?}"
            );
        }
    }

    #[test]
    fn status_and_chaincode_calls_reach_their_ends() {
        let script = vec![ChaincodeMessage {
            r#type: Type::GetState as i32,
            payload: GetState {
                key: "k".into(),
                collection: COLLECTION.into(),
            }
            .encode_to_vec()
            .into(),
            ..Default::default()
        }];
        let answer = peer().play(script).expect("an answer");
        assert_eq!(answer.response.map(|r| r.status), Some(200));
        let results = answer.payload;
        let text = String::from_utf8_lossy(&results);
        assert!(
            text.contains(COLLECTION),
            "the chaincode's read is in the results"
        );
        // No transaction of that id ever comes: the call is left, and nothing hangs.
        let status = CommitStatusRequest {
            transaction_id: "none".into(),
            channel_id: CHANNEL.into(),
            identity: world().client.creator(),
        };
        let request: Bytes = status.encode_to_vec().into();
        let signature = world().client.sign(&request).into();
        let signed = SignedCommitStatusRequest { request, signature };
        let answers = peer().gateway("CommitStatus", frame(&signed.encode_to_vec()));
        let answers: Vec<_> = answers
            .into_iter()
            .map(CommitStatusResponse::decode)
            .collect();
        assert!(answers.is_empty(), "{answers:?}");
    }

    #[test]
    fn every_function_of_the_table_is_known_to_its_chaincode() {
        for (chaincode, function, channel) in FUNCTIONS {
            let call = Invocation::new(chaincode, function).arg(CHANNEL.as_bytes().to_vec());
            let proposal = Proposal::new(&world().admin, channel, call.arg(vec![0xff]));
            let answer = peer().process(&proposal.signed).expect("an answer");
            let message = answer.response.unwrap_or_default().message;
            let unknown = ["unknown", "not found", "Requested function"];
            let strange = unknown
                .iter()
                .any(|word| message.contains(word) && message.contains(function));
            assert!(!strange, "{chaincode} {function}: {message}");
        }
    }
}
