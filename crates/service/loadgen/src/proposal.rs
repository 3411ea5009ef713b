//! Proposals and envelopes, built as Fabric's SDKs build them.

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_env::{Clock, Rng, System};
use selvage_identity::SigningIdentity;
use selvage_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use selvage_proto::peer::{
    ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension, ChaincodeId,
    ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec, Proposal,
    ProposalResponse, SignedProposal, Transaction, TransactionAction,
};
use selvage_proto::{Message, Timestamp};

const NONCE_BYTES: usize = 24;

/// Builds what one identity sends to one channel.
pub(crate) struct Author<'a> {
    pub(crate) identity: &'a SigningIdentity,
    pub(crate) rng: &'a dyn Rng,
    pub(crate) channel: &'a str,
}

/// A proposal with what is needed to make its envelope later.
pub(crate) struct Prepared {
    pub(crate) tx_id: String,
    pub(crate) signed: SignedProposal,
    header: Header,
    payload: Bytes,
}

impl Author<'_> {
    /// A signed call of `arguments` (function first) at `chaincode`.
    pub(crate) fn propose(&self, chaincode: &str, arguments: &[Bytes]) -> Prepared {
        let chaincode_id = ChaincodeId {
            name: chaincode.into(),
            ..Default::default()
        };
        let extension = ChaincodeHeaderExtension {
            chaincode_id: Some(chaincode_id.clone()),
        };
        let (header, tx_id) = self.header(
            HeaderType::EndorserTransaction,
            extension.encode_to_vec().into(),
        );
        let input = ChaincodeInput {
            args: arguments.to_vec(),
            ..Default::default()
        };
        let spec = ChaincodeSpec {
            chaincode_id: Some(chaincode_id),
            input: Some(input),
            ..Default::default()
        };
        let invocation = ChaincodeInvocationSpec {
            chaincode_spec: Some(spec),
        };
        let payload: Bytes = ChaincodeProposalPayload {
            input: invocation.encode_to_vec().into(),
            ..Default::default()
        }
        .encode_to_vec()
        .into();
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.clone(),
            ..Default::default()
        };
        let proposal_bytes: Bytes = proposal.encode_to_vec().into();
        let signature = self.sign(&proposal_bytes);
        let signed = SignedProposal {
            proposal_bytes,
            signature,
        };
        Prepared {
            tx_id,
            signed,
            header,
            payload,
        }
    }

    /// Puts the endorsed answers into an envelope that the orderer takes.
    pub(crate) fn assemble(
        &self,
        prepared: &Prepared,
        responses: Vec<ProposalResponse>,
    ) -> Result<Envelope, String> {
        let first = responses.first().ok_or("nobody endorsed")?;
        let proposal_response_payload = first.payload.clone();
        if responses
            .iter()
            .any(|r| r.payload != proposal_response_payload)
        {
            return Err("ProposalResponsePayloads do not match".into());
        }
        let action = ChaincodeEndorsedAction {
            proposal_response_payload,
            endorsements: responses
                .into_iter()
                .filter_map(|r| r.endorsement)
                .collect(),
        };
        let action_payload = ChaincodeActionPayload {
            chaincode_proposal_payload: prepared.payload.clone(),
            action: Some(action),
        };
        let transaction = Transaction {
            actions: vec![TransactionAction {
                header: prepared.header.signature_header.clone(),
                payload: action_payload.encode_to_vec().into(),
            }],
        };
        let data = transaction.encode_to_vec().into();
        Ok(self.envelope(Payload {
            header: Some(prepared.header.clone()),
            data,
        }))
    }

    /// A signed request of another kind, such as a seek.
    pub(crate) fn request(&self, kind: HeaderType, data: Bytes) -> Envelope {
        let (header, _) = self.header(kind, Bytes::new());
        self.envelope(Payload {
            header: Some(header),
            data,
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Bytes {
        self.identity.sign(message).into()
    }

    fn envelope(&self, payload: Payload) -> Envelope {
        let payload: Bytes = payload.encode_to_vec().into();
        let signature = self.sign(&payload);
        Envelope { payload, signature }
    }

    fn header(&self, kind: HeaderType, extension: Bytes) -> (Header, String) {
        let mut nonce = [0; NONCE_BYTES];
        self.rng.fill(&mut nonce);
        let creator = self.identity.serialized();
        let tx_id = hex::encode(sha256_parts([&nonce[..], &creator[..]]));
        let now = System.unix_nanos();
        let channel_header = ChannelHeader {
            r#type: kind as i32,
            timestamp: Some(Timestamp {
                seconds: now.div_euclid(1_000_000_000),
                nanos: now.rem_euclid(1_000_000_000) as i32,
            }),
            channel_id: self.channel.into(),
            tx_id: tx_id.clone(),
            extension,
            ..Default::default()
        };
        let signature_header = SignatureHeader {
            creator,
            nonce: Bytes::copy_from_slice(&nonce),
        };
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        (header, tx_id)
    }
}
