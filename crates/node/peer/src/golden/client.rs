//! A client of the recorded network: its identities, and what they sign.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use selvage_crypto::{PrivateKey, sha256};
use selvage_identity::SigningIdentity;
use selvage_proto::Timestamp;
use selvage_proto::common::{ChannelHeader, Header, HeaderType, SignatureHeader};
use selvage_proto::peer::{
    ChaincodeHeaderExtension, ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec,
    ChaincodeProposalPayload, ChaincodeSpec, Proposal, SignedProposal,
};

use super::peer::read;

/// A signing identity of the recorded network: `users/<name>@<domain>` or `peers/<name>.<domain>`.
pub(super) fn identity(corpus: &Path, org: &str, kind: &str, name: &str) -> SigningIdentity {
    let domain = format!("{org}.example.com");
    let separator = if kind == "users" { '@' } else { '.' };
    let folder = corpus.join(format!(
        "network/crypto/peerOrganizations/{domain}/{kind}/{name}{separator}{domain}/msp"
    ));
    let only = |sub: &str| {
        let mut entries = std::fs::read_dir(folder.join(sub)).unwrap();
        read(entries.next().unwrap().unwrap().path())
    };
    let msp_id = format!("{}MSP", org.replacen('o', "O", 1));
    let key = PrivateKey::from_pem(&only("keystore")).unwrap();
    SigningIdentity::new(&msp_id, &only("signcerts"), key).unwrap()
}

/// What a proposal asks for.
pub(super) struct Ask<'a> {
    pub(super) channel: &'a str,
    pub(super) chaincode: &'a str,
    pub(super) args: Vec<Bytes>,
    /// The clock of the client, in nanoseconds since 1970.
    pub(super) time: i64,
}

pub(super) fn args(args: &[&str]) -> Vec<Bytes> {
    args.iter()
        .map(|a| Bytes::copy_from_slice(a.as_bytes()))
        .collect()
}

/// The id of the transaction that `propose` makes of the same request.
pub(super) fn tx_id(signer: &SigningIdentity, ask: &Ask<'_>) -> String {
    crate::endorser::tx_id(&nonce(ask), &signer.serialized())
}

fn nonce(ask: &Ask<'_>) -> Bytes {
    let mut all = ask.args.concat();
    all.extend_from_slice(ask.chaincode.as_bytes());
    all.extend_from_slice(&ask.time.to_le_bytes());
    Bytes::copy_from_slice(&sha256(&all)[..24])
}

/// A signed proposal. Its nonce follows from the request, so tests are repeatable.
pub(super) fn propose(signer: &SigningIdentity, ask: &Ask<'_>) -> SignedProposal {
    propose_with(signer, ask, None)
}

/// The same, with a value in its transient map.
pub(super) fn propose_with(
    signer: &SigningIdentity,
    ask: &Ask<'_>,
    transient: Option<&'static str>,
) -> SignedProposal {
    let id = ChaincodeId {
        name: ask.chaincode.to_owned(),
        ..Default::default()
    };
    let extension = ChaincodeHeaderExtension {
        chaincode_id: Some(id.clone()),
    };
    let channel = ChannelHeader {
        r#type: HeaderType::EndorserTransaction as i32,
        timestamp: Some(Timestamp {
            seconds: ask.time.div_euclid(1_000_000_000),
            nanos: ask.time.rem_euclid(1_000_000_000) as i32,
        }),
        channel_id: ask.channel.to_owned(),
        tx_id: tx_id(signer, ask),
        extension: extension.encode_to_vec().into(),
        ..Default::default()
    };
    let signature = SignatureHeader {
        creator: signer.serialized(),
        nonce: nonce(ask),
    };
    let header = Header {
        channel_header: channel.encode_to_vec().into(),
        signature_header: signature.encode_to_vec().into(),
    };
    let invocation = ChaincodeInvocationSpec {
        chaincode_spec: Some(ChaincodeSpec {
            chaincode_id: Some(id),
            input: Some(ChaincodeInput {
                args: ask.args.clone(),
                ..Default::default()
            }),
            ..Default::default()
        }),
    };
    let payload = ChaincodeProposalPayload {
        input: invocation.encode_to_vec().into(),
        transient_map: transient
            .map(|v| ("value".to_owned(), v.into()))
            .into_iter()
            .collect(),
    };
    let proposal = Proposal {
        header: header.encode_to_vec().into(),
        payload: payload.encode_to_vec().into(),
        extension: Bytes::new(),
    };
    let bytes = Bytes::from(proposal.encode_to_vec());
    SignedProposal {
        signature: signer.sign(&bytes).into(),
        proposal_bytes: bytes,
    }
}
