//! Bad input from clients, one network for all of it: each case gets an error that names cause and
//! remedy, nothing is lost, and the network goes on. Fabric's words come first in every answer; where
//! a protocol has room for nothing else, the node's log has the rest.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use selvage_client::{ClientError, From, Gateway, Invocation, Proposal, User};
use selvage_crypto::issue::{Authority, Subject, Validity};
use selvage_crypto::{KeyKind, PrivateKey};
use selvage_env::{Env, ManualClock};
use selvage_net::services::endorser_client::EndorserClient;
use selvage_net::tonic::client::Grpc;
use selvage_net::tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use selvage_net::tonic::codegen::http::uri::PathAndQuery;
use selvage_net::tonic::{Request, Status};
use selvage_net::{MAX_MESSAGE_BYTES, connect};
use selvage_network_tests::{Service, Told, cases, in_log, now, run_cases, says, told};
use selvage_proto::common::{BlockMetadataIndex, Envelope, HeaderType};
use selvage_proto::peer::{SignedProposal, TxValidationCode};

/// Room for what servers must refuse by themselves.
const NO_LIMIT: usize = 2 * MAX_MESSAGE_BYTES;

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_of_clients() {
    let service = Arc::new(Service::up(&[]));
    let cases = cases![service;
        a_certificate_of_another_authority,
        a_certificate_with_another_key,
        a_server_of_another_authority,
        an_expired_certificate,
        a_high_s_signature,
        a_clock_sixteen_minutes_off,
        an_unknown_channel,
        an_unknown_chaincode,
        a_wrong_function,
        a_wrong_number_of_arguments,
        a_message_above_the_transport_limit,
        a_message_above_the_channel_limit,
        bytes_that_are_no_protobuf,
        layers_that_are_no_protobuf,
        an_ordered_transaction_that_is_nonsense,
        an_administrators_call_by_a_user,
    ];
    run_cases(service, cases).await;
}

/// What a peer says to a proposal.
async fn proposed(service: &Service, user: &User) -> String {
    let gateway = Gateway::new(service.peer(), user.clone(), &service.said().channel);
    let call = service.call("Put", &["bad", "bad"]);
    gateway.endorse(&call, &[]).await.unwrap_err().text()
}

/// What an orderer says to a message of a user.
async fn ordered(service: &Service, user: &User) -> String {
    let data = Bytes::from_static(b"bad");
    let envelope = user.envelope(
        HeaderType::EndorserTransaction,
        &service.said().channel,
        data,
    );
    service
        .orderer()
        .await
        .broadcast(envelope)
        .await
        .unwrap_err()
        .text()
}

/// What peer and orderer say to somebody who wants to read blocks.
async fn read(service: &Service, user: &User) -> (String, String) {
    let channel = &service.said().channel;
    let peer = service
        .peer()
        .watch_commits(user, channel)
        .await
        .unwrap()
        .commits()
        .await;
    let orderer = service
        .orderer()
        .await
        .block(user, channel, From::Newest)
        .await;
    (peer.unwrap_err().text(), orderer.unwrap_err().text())
}

async fn a_certificate_of_another_authority(service: Arc<Service>) -> Told {
    let subject = service.authority().certificate().common_name().to_owned();
    let stranger = Authority::new_root(&Subject::named(subject), Validity::ten_years(now()));
    let user = service.certified_by(&stranger.unwrap(), Validity::ten_years(now()));
    let msp_id = service.said().gateway.msp_id.as_str();
    let cause = "certificate signed by unknown authority";
    let remedy = "use one that an authority of this organisation issued";
    let refused = proposed(&service, &user).await;
    says(&refused, &["access denied", msp_id]);
    let _ = told(&refused, cause, remedy);
    let refused = ordered(&service, &user).await;
    says(&refused, &["FORBIDDEN", "permission denied"]);
    let _ = told(&refused, cause, remedy);
    let (peer, orderer) = read(&service, &user).await;
    says(&peer, &["FORBIDDEN"]);
    says(&orderer, &["FORBIDDEN"]);
    let _ = in_log(
        &service,
        "client is not authorized: event/FilteredBlock",
        remedy,
    )
    .await;
    in_log(
        &service,
        "client is not authorized: /Channel/Readers",
        remedy,
    )
    .await
}

async fn a_certificate_with_another_key(service: Arc<Service>) -> Told {
    let user = service.user();
    let other = PrivateKey::generate(KeyKind::P256).unwrap();
    let cause = "the signature does not fit the certificate";
    let remedy = "sign with the private key that belongs to this certificate";
    with_signature(
        &service,
        &user,
        |message, _| other.sign(message).unwrap(),
        (cause, remedy),
    )
    .await
}

/// Exchanges the signatures of a proposal and of an envelope, and expects both to be refused with
/// cause and remedy.
async fn with_signature(
    service: &Service,
    user: &User,
    sign: impl Fn(&[u8], &[u8]) -> Vec<u8>,
    (cause, remedy): (&str, &str),
) -> Told {
    let channel = &service.said().channel;
    let call = service.call("Put", &["bad", "bad"]);
    let mut signed = Proposal::new(user, channel, call).signed;
    signed.signature = sign(&signed.proposal_bytes, &signed.signature).into();
    let refused = service.peer().process(signed).await.unwrap_err();
    // Fabric's words, and nothing else, are the message; what they mean is beside them.
    let failure = refused.failure().unwrap();
    let msp_id = &service.said().gateway.msp_id;
    assert_eq!(
        failure.message,
        format!(
            "error validating proposal: access denied: channel [{channel}] creator org [{msp_id}]"
        )
    );
    let _ = told(&refused.text(), cause, remedy);
    let data = Bytes::from_static(b"bad");
    let mut envelope = user.envelope(HeaderType::EndorserTransaction, channel, data);
    envelope.signature = sign(&envelope.payload, &envelope.signature).into();
    let orderer = service.orderer().await;
    let refused = orderer.broadcast(envelope).await.unwrap_err().text();
    says(&refused, &["FORBIDDEN", "permission denied; "]);
    told(&refused, cause, remedy)
}

async fn a_server_of_another_authority(service: Arc<Service>) -> Told {
    let other = Authority::new_root(&Subject::named("other"), Validity::ten_years(now()));
    let roots = other.unwrap().certificate().to_pem();
    let peer = selvage_client::Peer::new(&service.endpoint(roots.as_bytes())).unwrap();
    let gateway = Gateway::new(peer, service.user(), &service.said().channel);
    let refused = gateway
        .evaluate(&service.call("Get", &["x"]), &[])
        .await
        .unwrap_err();
    says(&refused.text(), &[&service.said().gateway.endpoint]);
    told(
        &refused.text(),
        "certificate was not issued by one of the given TLS roots",
        "use the roots of the server's organisation",
    )
}

async fn an_expired_certificate(service: Arc<Service>) -> Told {
    let past = Validity {
        not_before: now() - 7200,
        not_after: now() - 600,
    };
    let user = service.certified_by(&service.authority(), past);
    let (cause, remedy) = (
        "the certificate ended 10 minutes ago",
        "have it issued again",
    );
    let refused = proposed(&service, &user).await;
    says(&refused, &["proposal client identity expired"]);
    let _ = told(&refused, cause, remedy);
    let refused = ordered(&service, &user).await;
    says(
        &refused,
        &["BAD_REQUEST: broadcast client identity expired; "],
    );
    let _ = told(&refused, cause, remedy);
    let (peer, orderer) = read(&service, &user).await;
    says(&peer, &["FORBIDDEN"]);
    says(&orderer, &["FORBIDDEN"]);
    in_log(
        &service,
        "deliver client identity expired",
        "have the certificate issued again",
    )
    .await
}

async fn a_high_s_signature(service: Arc<Service>) -> Told {
    let cause = "the signature is not in low-S form";
    with_signature(
        &service,
        &service.user(),
        |_, signature| high_s(signature),
        (cause, "replace it by n - S"),
    )
    .await
}

/// The same signature with its other `s`, which mathematics accepts and Fabric does not.
fn high_s(signature: &[u8]) -> Vec<u8> {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let length_of_r = usize::from(signature[3]);
    let r = &signature[2..4 + length_of_r];
    let s = &signature[6 + length_of_r..];
    let mut other: Vec<u8> = (0..32)
        .map(|i| u8::from_str_radix(&ORDER[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let mut borrow = 0;
    for (i, digit) in other.iter_mut().rev().enumerate() {
        let taken = s.iter().rev().nth(i).copied().unwrap_or(0);
        let left = i16::from(*digit) - i16::from(taken) - borrow;
        borrow = i16::from(left < 0);
        *digit = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    // High, so its first bit is set and the encoding needs a zero in front.
    assert!(other[0] >= 0x80, "the signature was not low");
    let mut sequence = r.to_vec();
    sequence.extend([2, 33, 0]);
    sequence.extend(other);
    let mut der = vec![0x30, u8::try_from(sequence.len()).unwrap()];
    der.extend(sequence);
    der
}

async fn a_clock_sixteen_minutes_off(service: Arc<Service>) -> Told {
    for (minutes, direction) in [(-16, "behind"), (16, "ahead of")] {
        let shifted = Env::real().clock.unix_nanos() + minutes * 60 * 1_000_000_000;
        let env = Env {
            clock: Arc::new(ManualClock::new(shifted)),
            ..Env::real()
        };
        let user = User::new(service.identity(), &env);
        let words = [
            "incorrect timestamp",
            "peer time",
            "peer.authentication.timewindow 15m",
        ];
        let refused = proposed(&service, &user).await;
        says(&refused, &words);
        let cause = format!("s {direction} this peer's");
        let _ = told(&refused, &cause, "set the client's clock");
        let (peer, orderer) = read(&service, &user).await;
        says(&peer, &["BAD_REQUEST"]);
        says(&orderer, &["BAD_REQUEST"]);
        let _ = told(&peer, "fifteen minutes off", "set this machine's clock");
    }
    // Readers of blocks get only a status, as in Fabric; operators find the words in the log.
    in_log(
        &service,
        "apart from the server's time",
        "set the client's clock",
    )
    .await
}

async fn an_unknown_channel(service: Arc<Service>) -> Told {
    let gateway = Gateway::new(service.peer(), service.user(), "nowhere");
    let call = service.call("Get", &["x"]);
    let cause = "has not joined a channel 'nowhere'";
    let remedy = "correct the channel's name";
    for refused in [
        gateway.evaluate(&call, &[]).await.unwrap_err(),
        gateway.endorse(&call, &[]).await.unwrap_err(),
        gateway.commit_status("x").await.unwrap_err(),
    ] {
        let _ = told(&refused.text(), cause, remedy);
    }
    let signed = Proposal::new(&service.user(), "nowhere", call).signed;
    let answer = service.peer().process(signed).await.unwrap();
    let answer = answer.response.unwrap_or_default();
    assert_eq!(answer.status, 500);
    assert_eq!(answer.message, "channel 'nowhere' not found");
    let _ = in_log(&service, "channel 'nowhere' not found", remedy).await;

    let data = Bytes::from_static(b"bad");
    let envelope = service
        .user()
        .envelope(HeaderType::EndorserTransaction, "nowhere", data);
    let orderer = service.orderer().await;
    let refused = orderer.broadcast(envelope).await.unwrap_err().text();
    // The whole text is what programs compare.
    assert!(refused.ends_with("BAD_REQUEST: channel does not exist"));
    let cause = "for channel \"nowhere\", which this node has not joined";
    let _ = in_log(&service, cause, "join this node to it").await;
    let refused = orderer
        .block(&service.user(), "nowhere", From::Newest)
        .await
        .unwrap_err();
    let mut watch = service
        .peer()
        .watch_commits(&service.user(), "nowhere")
        .await
        .unwrap();
    let not_found = "NOT_FOUND (the node has no such channel or block";
    let _ = told(&refused.text(), not_found, "correct the name");
    let refused = watch.commits().await.unwrap_err();
    told(&refused.text(), not_found, "join the node to the channel")
}

async fn an_unknown_chaincode(service: Arc<Service>) -> Told {
    let gateway = service.gateway();
    let call = Invocation::new("nothing", "Get").args(["x"]);
    let cause = "runs a chaincode 'nothing'";
    let remedy = "install the chaincode and commit its definition";
    for refused in [
        gateway.evaluate(&call, &[]).await.unwrap_err(),
        gateway.endorse(&call, &[]).await.unwrap_err(),
    ] {
        let _ = told(&refused.text(), cause, remedy);
    }
    let channel = &service.said().channel;
    let refused = service
        .peer()
        .query(&service.user(), channel, &call)
        .await
        .unwrap_err();
    says(&refused.text(), &["nothing", channel]);
    told(
        &refused.text(),
        "chaincode nothing not found",
        "make sure the chaincode nothing has been successfully defined on channel",
    )
}

async fn a_wrong_function(service: Arc<Service>) -> Told {
    let gateway = service.gateway();
    let call = service.call("Nonesuch", &[]);
    let refused = gateway.evaluate(&call, &[]).await.unwrap_err();
    let peer = &service.said().gateway.endpoint;
    says(&refused.text(), &["chaincode response 500", peer]);
    let cause = "invoke a function that does not exist: Nonesuch";
    let remedy = "evaluate org.hyperledger.fabric:GetMetadata";
    let _ = told(&refused.text(), cause, remedy);
    // The remedy works.
    let metadata = service.call("org.hyperledger.fabric:GetMetadata", &[]);
    let metadata = gateway.evaluate(&metadata, &[]).await.unwrap();
    says(&String::from_utf8_lossy(&metadata), &["Put", "Get"]);
    let refused = gateway.endorse(&call, &[]).await.unwrap_err();
    told(&refused.text(), cause, remedy)
}

async fn a_wrong_number_of_arguments(service: Arc<Service>) -> Told {
    let call = service.call("Put", &["only a key"]);
    let refused = service.gateway().endorse(&call, &[]).await.unwrap_err();
    says(&refused.text(), &["chaincode response 500"]);
    told(
        &refused.text(),
        "Expected 2 parameters, but 1 have been supplied",
        "evaluate org.hyperledger.fabric:GetMetadata",
    )
}

async fn a_message_above_the_transport_limit(service: Arc<Service>) -> Told {
    let large = service
        .call("Put", &["bad"])
        .arg(vec![b'x'; MAX_MESSAGE_BYTES + 1]);
    let remedy = "send less in one message";
    // Our own client does not even send it.
    let refused = service.gateway().evaluate(&large, &[]).await.unwrap_err();
    let cause = format!("nodes take at most {MAX_MESSAGE_BYTES}");
    let _ = told(&refused.text(), &cause, remedy);

    let signed = Proposal::new(&service.user(), &service.said().channel, large).signed;
    let roots = std::fs::read(&service.said().gateway.tls_ca).unwrap();
    let mut stub = EndorserClient::new(connect(&service.endpoint(&roots)).unwrap())
        .max_encoding_message_size(NO_LIMIT);
    let refused = stub.process_proposal(signed).await.unwrap_err();
    says(refused.message(), &["too large"]);
    let cause = format!("the limit is: {MAX_MESSAGE_BYTES} bytes");
    told(refused.message(), &cause, remedy)
}

async fn a_message_above_the_channel_limit(service: Arc<Service>) -> Told {
    let data = Bytes::from(vec![0; 99 << 20]);
    let channel = &service.said().channel;
    let large = service
        .user()
        .envelope(HeaderType::EndorserTransaction, channel, data);
    let refused = service.orderer().await.broadcast(large).await.unwrap_err();
    says(&refused.text(), &["BAD_REQUEST: message payload is"]);
    told(
        &refused.text(),
        &format!("exceeds maximum allowed {} bytes", 99 << 20),
        "raise AbsoluteMaxBytes of Orderer/BatchSize",
    )
}

/// A call of the peer's endorser whose request is any bytes at all.
async fn call_with(service: &Service, path: &'static str, request: &'static [u8]) -> Status {
    let roots = std::fs::read(&service.said().gateway.tls_ca).unwrap();
    let mut grpc = Grpc::new(connect(&service.endpoint(&roots)).unwrap());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    grpc.unary(Request::new(Bytes::from_static(request)), path, Raw)
        .await
        .unwrap_err()
}

/// Messages as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

async fn bytes_that_are_no_protobuf(service: Arc<Service>) -> Told {
    let cause = "failed to decode Protobuf message";
    let remedy = "make it with one of Fabric's SDKs";
    let mut last = None;
    // A field of a forbidden wire type, a length beyond the end, and an endless number.
    for garbage in [
        &b"\x0f"[..],
        b"\x0a\x7f",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        for path in [
            "/protos.Endorser/ProcessProposal",
            "/gateway.Gateway/Endorse",
            "/gateway.Gateway/CommitStatus",
            "/protos.Deliver/DeliverFiltered",
        ] {
            let refused = call_with(&service, path, garbage).await;
            last = Some(told(refused.message(), cause, remedy));
        }
    }
    let refused = call_with(&service, "/protos.Endorser/Nonesuch", b"").await;
    println!("    {refused}");
    assert_eq!(refused.code(), selvage_net::tonic::Code::Unimplemented);
    last.unwrap()
}

async fn layers_that_are_no_protobuf(service: Arc<Service>) -> Told {
    let remedy = "make it with one of Fabric's SDKs";
    let garbage = SignedProposal {
        proposal_bytes: Bytes::from_static(b"\xff\xff"),
        signature: Bytes::from_static(b"signature"),
    };
    let refused = service.peer().process(garbage).await.unwrap_err().text();
    let _ = told(&refused, "error unmarshalling Proposal: proto", remedy);
    let empty = service
        .peer()
        .process(SignedProposal::default())
        .await
        .unwrap_err()
        .text();
    let cause = "ChaincodeHeaderExtension.ChaincodeId is nil";
    let _ = told(&empty, cause, remedy);
    let orderer = service.orderer().await;
    let garbage = Envelope {
        payload: Bytes::from_static(b"\xff\xff"),
        signature: Bytes::from_static(b"signature"),
    };
    let refused = orderer.broadcast(garbage).await.unwrap_err().text();
    says(&refused, &["BAD_REQUEST"]);
    let _ = told(&refused, "error unmarshalling Payload", remedy);
    let refused = orderer
        .broadcast(Envelope::default())
        .await
        .unwrap_err()
        .text();
    says(&refused, &["BAD_REQUEST"]);
    told(&refused, "could not determine channel ID", remedy)
}

/// An orderer takes what a member signed; the peers find out what it is worth, all the same way.
async fn an_ordered_transaction_that_is_nonsense(service: Arc<Service>) -> Told {
    let channel = &service.said().channel;
    let user = service.user();
    let nonsense = user.envelope(
        HeaderType::EndorserTransaction,
        channel,
        Bytes::from_static(b"\xff\xff"),
    );
    let peers = service.peers().await;
    let height = |peer: selvage_client::PeerAdmin| async move {
        peer.channel_info(channel).await.unwrap().height
    };
    let number = height(peers[0].clone()).await;
    let mut watch = service.peer().watch_commits(&user, channel).await.unwrap();
    service.orderer().await.broadcast(nonsense).await.unwrap();
    let mut verdicts = Vec::new();
    for peer in peers {
        while height(peer.clone()).await <= number {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let block = peer.block(channel, number).await.unwrap();
        verdicts.push(
            block
                .metadata_slot(BlockMetadataIndex::TransactionsFilter)
                .to_vec(),
        );
    }
    println!("    {verdicts:?}");
    let code = [TxValidationCode::BadProposalTxid as u8];
    assert!(verdicts.iter().all(|v| *v == code), "{verdicts:?}");
    // Who watches for commits sees what comes behind it, though peers cannot filter that block.
    let good = service.put("behind", "nonsense").await.unwrap();
    let status = watch.commit(&good.tx_id).await.unwrap();
    assert_eq!(
        (status.block, status.code),
        (good.block, TxValidationCode::Valid)
    );
    in_log(
        &service,
        "marked as invalid by committer. Reason code [BAD_PROPOSAL_TXID]",
        "make it with one of Fabric's SDKs",
    )
    .await
}

async fn an_administrators_call_by_a_user(service: Arc<Service>) -> Told {
    let admin = selvage_client::PeerAdmin::new(service.peer(), service.user());
    let refused: ClientError = admin.install(Bytes::from_static(b"x")).await.unwrap_err();
    let msp_id = &service.said().gateway.msp_id;
    says(&refused.text(), &["is not an admin", msp_id]);
    in_log(
        &service,
        "The identity is not an admin under this MSP",
        &format!("use an identity of {msp_id} that has OU=admin"),
    )
    .await
}
