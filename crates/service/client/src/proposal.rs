//! Proposals, and the transactions made from their endorsements.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::DecodeError;
use selvage_net::deliver::Signer as _;
use selvage_proto::Message;
use selvage_proto::common::{Envelope, Header, HeaderType, Payload};
use selvage_proto::peer::{
    ChaincodeAction, ChaincodeActionPayload, ChaincodeEndorsedAction, ChaincodeHeaderExtension,
    ChaincodeId, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec,
    Endorsement, Proposal as ProposalMessage, ProposalResponse, ProposalResponsePayload, Response,
    SignedProposal, Transaction, TransactionAction, chaincode_spec,
};

use crate::error::ClientError;
use crate::user::{User, tx_id};

/// A call of a chaincode function.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// The chaincode's name.
    pub chaincode: String,
    /// Function name and arguments.
    pub args: Vec<Bytes>,
    /// Data for the chaincode that does not enter the ledger.
    pub transient: BTreeMap<String, Bytes>,
    /// Whether this is the call of the chaincode's initialisation.
    pub is_init: bool,
}

impl Invocation {
    /// A call of `function`.
    pub fn new(chaincode: &str, function: &str) -> Self {
        // Room for the few arguments that most calls have.
        let mut args = Vec::with_capacity(4);
        args.push(Bytes::copy_from_slice(function.as_bytes()));
        Self {
            chaincode: chaincode.to_owned(),
            args,
            ..Self::default()
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Bytes>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds text arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<str>>(mut self, args: I) -> Self {
        let bytes = |s: S| Bytes::copy_from_slice(s.as_ref().as_bytes());
        self.args.extend(args.into_iter().map(bytes));
        self
    }

    /// Adds transient data.
    #[must_use]
    pub fn transient(mut self, key: &str, value: impl Into<Bytes>) -> Self {
        self.transient.insert(key.to_owned(), value.into());
        self
    }
}

/// A signed proposal.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The transaction's id.
    pub tx_id: String,
    /// The channel; empty for calls that belong to a peer alone.
    pub channel_id: String,
    /// What peers are sent.
    pub signed: SignedProposal,
    header: Header,
    /// The payload as it enters the ledger: without transient data.
    stripped: Bytes,
}

impl Proposal {
    /// Makes and signs a proposal. An empty channel id addresses the peer itself.
    pub fn new(user: &User, channel_id: &str, invocation: Invocation) -> Self {
        let extension = ChaincodeHeaderExtension {
            chaincode_id: Some(ChaincodeId {
                name: invocation.chaincode,
                ..Default::default()
            }),
        };
        let signature_header = user.signature_header();
        let tx_id = tx_id(&signature_header);
        let mut channel_header = user.channel_header(HeaderType::EndorserTransaction, channel_id);
        channel_header.tx_id.clone_from(&tx_id);
        channel_header.extension = extension.encode_to_vec().into();
        let spec = ChaincodeInvocationSpec {
            chaincode_spec: Some(ChaincodeSpec {
                r#type: chaincode_spec::Type::Golang as i32,
                chaincode_id: extension.chaincode_id,
                input: Some(ChaincodeInput {
                    args: invocation.args,
                    decorations: BTreeMap::new(),
                    is_init: invocation.is_init,
                }),
                timeout: 0,
            }),
        };
        let mut payload = ChaincodeProposalPayload {
            input: spec.encode_to_vec().into(),
            transient_map: BTreeMap::new(),
        };
        let stripped: Bytes = payload.encode_to_vec().into();
        let sent = if invocation.transient.is_empty() {
            stripped.clone()
        } else {
            payload.transient_map = invocation.transient;
            payload.encode_to_vec().into()
        };
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        };
        let proposal = ProposalMessage {
            header: header.encode_to_vec().into(),
            payload: sent,
            extension: Bytes::new(),
        };
        let proposal_bytes: Bytes = proposal.encode_to_vec().into();
        Self {
            tx_id,
            channel_id: channel_id.to_owned(),
            signed: SignedProposal {
                signature: user.sign(&proposal_bytes).into(),
                proposal_bytes,
            },
            header,
            stripped,
        }
    }

    /// Makes the transaction from the peers' answers, each given with the peer's address.
    ///
    /// All answers have to be successful and to agree byte for byte; an endorser that answered
    /// twice counts once. Transient data is left out.
    pub fn assemble<A: AsRef<str>>(
        &self,
        user: &User,
        answers: &[(A, ProposalResponse)],
    ) -> Result<Envelope, ClientError> {
        let Some((first, model)) = answers.first() else {
            let reason = "at least one proposal response is required";
            return Err(ClientError::Request(reason.to_owned()));
        };
        let mut endorsements: Vec<Endorsement> = Vec::with_capacity(answers.len());
        for (address, answer) in answers {
            check_success(address.as_ref(), answer)?;
            if answer.payload != model.payload {
                return Err(ClientError::Mismatch {
                    first: first.as_ref().to_owned(),
                    second: address.as_ref().to_owned(),
                });
            }
            let Some(endorsement) = &answer.endorsement else {
                continue;
            };
            // Answers are as few as organisations: looking through them beats remembering.
            if endorsements
                .iter()
                .all(|e| e.endorser != endorsement.endorser)
            {
                endorsements.push(endorsement.clone());
            }
        }
        if endorsements.is_empty() {
            return Err(ClientError::Request("no endorsements".to_owned()));
        }
        let action = ChaincodeActionPayload {
            chaincode_proposal_payload: self.stripped.clone(),
            action: Some(ChaincodeEndorsedAction {
                proposal_response_payload: model.payload.clone(),
                endorsements,
            }),
        };
        let transaction = Transaction {
            actions: vec![TransactionAction {
                header: self.header.signature_header.clone(),
                payload: action.encode_to_vec().into(),
            }],
        };
        let payload = Payload {
            header: Some(self.header.clone()),
            data: transaction.encode_to_vec().into(),
        };
        Ok(user.signed(payload.encode_to_vec().into()))
    }
}

/// The response of an answer, or the refusal it stands for.
pub(crate) fn check_success<'a>(
    address: &str,
    answer: &'a ProposalResponse,
) -> Result<&'a Response, ClientError> {
    let response = answer.response.as_ref();
    let response =
        response.ok_or_else(|| ClientError::answer(address, "proposal response", "no response"))?;
    if (200..400).contains(&response.status) {
        return Ok(response);
    }
    Err(ClientError::Endorsement {
        address: address.to_owned(),
        status: response.status,
        message: response.message.clone(),
    })
}

/// What the chaincode returned, out of a transaction's envelope.
pub fn transaction_result(envelope: &Envelope) -> Result<Response, DecodeError> {
    let payload = Payload::decode(envelope.payload.clone())?;
    let transaction = Transaction::decode(payload.data)?;
    let action = transaction.actions.into_iter().next().unwrap_or_default();
    let action = ChaincodeActionPayload::decode(action.payload)?;
    let endorsed = action.action.unwrap_or_default();
    let response = ProposalResponsePayload::decode(endorsed.proposal_response_payload)?;
    let action = ChaincodeAction::decode(response.extension)?;
    Ok(action.response.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
    use selvage_crypto::{KeyKind, PrivateKey, sha256_parts};
    use selvage_env::Env;
    use selvage_identity::SigningIdentity;
    use selvage_proto::common::{ChannelHeader, SignatureHeader};

    use super::*;

    fn user() -> User {
        let validity = Validity::ten_years(1_735_689_600);
        let ca = Authority::new_root(&Subject::named("ca"), validity).expect("an authority");
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let profile = LeafProfile::identity("user", NodeRole::Client, validity);
        let certificate = ca.issue(&profile, key.public_key()).expect("a certificate");
        let pem = certificate.to_pem();
        let identity = SigningIdentity::new("Org1MSP", pem.as_bytes(), key).expect("an identity");
        User::new(Arc::new(identity), &Env::test(1))
    }

    #[test]
    fn proposals_carry_what_peers_check() {
        let user = user();
        let call = Invocation::new("cc", "put")
            .args(["key"])
            .arg(vec![0, 255])
            .transient("secret", &b"hidden"[..]);
        let proposal = Proposal::new(&user, "ch", call.clone());
        let message = ProposalMessage::decode(proposal.signed.proposal_bytes.clone());
        let message = message.expect("a proposal");
        let header = Header::decode(message.header).expect("a header");
        let channel = ChannelHeader::decode(header.channel_header).expect("a channel header");
        let signer = SignatureHeader::decode(header.signature_header).expect("a signer");
        let expected = hex::encode(sha256_parts([
            signer.nonce.as_ref(),
            signer.creator.as_ref(),
        ]));
        assert_eq!(channel.tx_id, expected);
        assert_eq!(channel.tx_id, proposal.tx_id);
        assert_eq!(channel.r#type, HeaderType::EndorserTransaction as i32);
        assert_eq!((channel.channel_id.as_str(), channel.epoch), ("ch", 0));
        assert_eq!(signer.nonce.len(), 24);
        assert_eq!(signer.creator, user.identity().serialized());
        let extension = ChaincodeHeaderExtension::decode(channel.extension).expect("an extension");
        assert_eq!(extension.chaincode_id.expect("a chaincode").name, "cc");
        let payload = ChaincodeProposalPayload::decode(message.payload).expect("a payload");
        assert_eq!(payload.transient_map["secret"], "hidden");
        let key = user.identity().certificate().public_key();
        key.verify(&proposal.signed.proposal_bytes, &proposal.signed.signature)
            .expect("signed by the user");
        assert_ne!(Proposal::new(&user, "ch", call).tx_id, proposal.tx_id);
    }

    /// What a peer of this name answers.
    fn answer(peer: &str) -> (&str, ProposalResponse) {
        let response = Response {
            status: 200,
            ..Default::default()
        };
        let endorsement = Endorsement {
            endorser: Bytes::copy_from_slice(peer.as_bytes()),
            ..Default::default()
        };
        let answer = ProposalResponse {
            response: Some(response),
            endorsement: Some(endorsement),
            ..Default::default()
        };
        (peer, answer)
    }

    #[test]
    fn transactions_hold_each_endorser_once_and_no_transient_data() {
        let user = user();
        let call = Invocation::new("cc", "put").transient("secret", &b"hidden"[..]);
        let proposal = Proposal::new(&user, "ch", call);
        let answers = [answer("a"), answer("b"), answer("a")];
        let envelope = proposal.assemble(&user, &answers).expect("a transaction");
        let payload = Payload::decode(envelope.payload).expect("a payload");
        let transaction = Transaction::decode(payload.data).expect("a transaction");
        let action = ChaincodeActionPayload::decode(transaction.actions[0].payload.clone());
        let action = action.expect("an action");
        let called = ChaincodeProposalPayload::decode(action.chaincode_proposal_payload);
        let called = called.expect("a call");
        assert!(called.transient_map.is_empty());
        let spec = ChaincodeInvocationSpec::decode(called.input).expect("an invocation");
        let input = spec.chaincode_spec.and_then(|s| s.input).expect("an input");
        assert_eq!(input.args, ["put"]);
        let endorsed = action.action.expect("an endorsed action");
        let endorsers: Vec<Bytes> = endorsed
            .endorsements
            .into_iter()
            .map(|e| e.endorser)
            .collect();
        assert_eq!(endorsers, ["a", "b"]);
    }

    /// A recorded proposal, as if it had been made here.
    fn recorded(signed: SignedProposal) -> Proposal {
        let message = ProposalMessage::decode(signed.proposal_bytes.clone()).expect("a proposal");
        let header = Header::decode(message.header).expect("a header");
        let channel = ChannelHeader::decode(header.channel_header.clone()).expect("a header");
        let payload = ChaincodeProposalPayload::decode(message.payload).expect("a payload");
        let stripped = ChaincodeProposalPayload {
            transient_map: BTreeMap::new(),
            ..payload
        };
        Proposal {
            tx_id: channel.tx_id,
            channel_id: channel.channel_id,
            signed,
            header,
            stripped: stripped.encode_to_vec().into(),
        }
    }

    #[test]
    fn transactions_are_assembled_as_fabrics_clients_do() {
        let Some(golden) = selvage_testing::golden_dir("client: assembled transactions") else {
            return;
        };
        let (user, mut compared) = (user(), 0);
        for step in std::fs::read_dir(golden.join("corpus/txs")).expect("the steps") {
            let step = step.expect("a step").path();
            let read = |name: &str| std::fs::read(step.join(name)).map(Bytes::from).ok();
            let (Some(proposal), Some(envelope)) = (read("proposal.bin"), read("envelope.bin"))
            else {
                continue;
            };
            let signed = SignedProposal::decode(proposal).expect("a proposal");
            let answers: Vec<(String, ProposalResponse)> = ["Org1MSP", "Org2MSP", "Org3MSP"]
                .iter()
                .filter_map(|msp| Some((msp, read(&format!("response-{msp}.bin"))?)))
                .map(|(msp, bytes)| ((*msp).to_owned(), bytes))
                .filter_map(|(msp, bytes)| Some((msp, ProposalResponse::decode(bytes).ok()?)))
                .collect();
            let Ok(theirs) = Envelope::decode(envelope) else {
                continue;
            };
            let theirs_payload = theirs.payload.clone();
            // Many steps were damaged on purpose after assembling; those that were not have to
            // match.
            let Ok(ours) = recorded(signed).assemble(&user, &answers) else {
                continue;
            };
            if ours.payload == theirs_payload {
                compared += 1;
            }
        }
        assert!(compared > 120, "only {compared} transactions are equal");
    }
}
