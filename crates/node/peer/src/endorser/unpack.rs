//! Proposals taken apart, and the checks that need no channel (Fabric: `msgvalidation.go`).

use bytes::Bytes;
use prost::Message;
use selvage_crypto::sha256_parts;
use selvage_proto::common::{ChannelHeader, Header, HeaderType, SignatureHeader};
use selvage_proto::peer::{
    ChaincodeHeaderExtension, ChaincodeInput, ChaincodeInvocationSpec, ChaincodeProposalPayload,
    Proposal, SignedProposal,
};

/// A proposal whose layers are decoded, with the bytes as they were received.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    /// What the client sent.
    pub(crate) signed: SignedProposal,
    /// The header, still encoded in its two halves.
    pub(crate) header: Header,
    pub(crate) channel_header: ChannelHeader,
    pub(crate) signature_header: SignatureHeader,
    /// The chaincode named in the header extension: the one that is called and billed.
    pub(crate) chaincode: String,
    pub(crate) input: ChaincodeInput,
    /// The payload's input, as it goes into the transaction.
    pub(crate) payload_input: Bytes,
}

impl Unpacked {
    /// Decodes a proposal as the endorser does; the error text is Fabric's up to the decoder's own.
    pub(crate) fn open(signed: SignedProposal) -> Result<Self, String> {
        let proposal: Proposal = decode(&signed.proposal_bytes, "Proposal")?;
        let header: Header = decode(&proposal.header, "Header")?;
        let channel_header: ChannelHeader = decode(&header.channel_header, "ChannelHeader")?;
        let signature_header = decode(&header.signature_header, "SignatureHeader")?;
        let extension: ChaincodeHeaderExtension =
            decode(&channel_header.extension, "ChaincodeHeaderExtension")?;
        let id = extension
            .chaincode_id
            .ok_or("ChaincodeHeaderExtension.ChaincodeId is nil")?;
        if id.name.is_empty() {
            return Err("ChaincodeHeaderExtension.ChaincodeId.Name is empty".to_owned());
        }
        let payload: ChaincodeProposalPayload =
            decode(&proposal.payload, "ChaincodeProposalPayload")?;
        let invocation: ChaincodeInvocationSpec =
            decode(&payload.input, "ChaincodeInvocationSpec")?;
        let spec = invocation
            .chaincode_spec
            .ok_or("chaincode invocation spec did not contain chaincode spec")?;
        let input = spec
            .input
            .ok_or("chaincode input did not contain any input")?;
        Ok(Self {
            signed,
            header,
            channel_header,
            signature_header,
            chaincode: id.name,
            input,
            payload_input: payload.input,
        })
    }

    /// The channel; empty for calls that concern only the peer.
    pub(crate) fn channel_id(&self) -> &str {
        &self.channel_header.channel_id
    }

    pub(crate) fn tx_id(&self) -> &str {
        &self.channel_header.tx_id
    }

    /// What the transaction carries of the proposal: its payload without the transient map.
    pub(crate) fn payload_without_transient(&self) -> Vec<u8> {
        let payload = ChaincodeProposalPayload {
            input: self.payload_input.clone(),
            transient_map: Default::default(),
        };
        payload.encode_to_vec()
    }

    /// The hash by which a response names its proposal.
    pub(crate) fn hash(&self) -> [u8; 32] {
        sha256_parts([
            &self.header.channel_header[..],
            &self.header.signature_header[..],
            &self.payload_without_transient()[..],
        ])
    }

    /// Checks the headers by themselves, in Fabric's order.
    pub(crate) fn check_headers(&self) -> Result<(), String> {
        let kind = self.channel_header.r#type;
        match HeaderType::try_from(kind) {
            Ok(HeaderType::EndorserTransaction | HeaderType::Config) => {}
            Ok(other) => return Err(format!("invalid header type {}", other.as_str_name())),
            Err(_) => return Err(format!("invalid header type {kind}")),
        }
        if self.channel_header.epoch != 0 {
            return Err("epoch is non-zero".to_owned());
        }
        let SignatureHeader { nonce, creator } = &self.signature_header;
        if nonce.is_empty() {
            return Err("nonce is empty".to_owned());
        }
        if creator.is_empty() {
            return Err("creator is empty".to_owned());
        }
        let expected = tx_id(nonce, creator);
        if self.tx_id() != expected {
            let claimed = self.tx_id();
            return Err(format!(
                "incorrectly computed txid '{claimed}' -- expected '{expected}'"
            ));
        }
        if self.signed.signature.is_empty() {
            return Err("empty signature bytes".to_owned());
        }
        Ok(())
    }
}

/// The transaction id of a nonce and a creator.
pub(crate) fn tx_id(nonce: &[u8], creator: &[u8]) -> String {
    hex::encode(sha256_parts([nonce, creator]))
}

/// Decodes one layer; the error names it as Fabric does.
pub(crate) fn decode<M: Message + Default>(bytes: &Bytes, what: &str) -> Result<M, String> {
    M::decode(bytes.clone()).map_err(|e| format!("error unmarshalling {what}: proto: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selvage_proto::peer::{ChaincodeId, ChaincodeSpec};

    fn proposal(edit: impl FnOnce(&mut ChannelHeader, &mut SignatureHeader)) -> SignedProposal {
        let extension = ChaincodeHeaderExtension {
            chaincode_id: Some(ChaincodeId {
                name: "basic".into(),
                ..Default::default()
            }),
        };
        let mut signature = SignatureHeader {
            creator: Bytes::from_static(b"creator"),
            nonce: Bytes::from_static(b"nonce"),
        };
        let mut channel = ChannelHeader {
            r#type: HeaderType::EndorserTransaction as i32,
            channel_id: "ch".into(),
            tx_id: tx_id(b"nonce", b"creator"),
            extension: extension.encode_to_vec().into(),
            ..Default::default()
        };
        edit(&mut channel, &mut signature);
        let header = Header {
            channel_header: channel.encode_to_vec().into(),
            signature_header: signature.encode_to_vec().into(),
        };
        let spec = ChaincodeInvocationSpec {
            chaincode_spec: Some(ChaincodeSpec {
                input: Some(ChaincodeInput::default()),
                ..Default::default()
            }),
        };
        let payload = ChaincodeProposalPayload {
            input: spec.encode_to_vec().into(),
            transient_map: [("k".to_owned(), Bytes::from_static(b"v"))].into(),
        };
        let proposal = Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            extension: Bytes::new(),
        };
        SignedProposal {
            proposal_bytes: proposal.encode_to_vec().into(),
            signature: Bytes::from_static(b"s"),
        }
    }

    #[test]
    fn headers_are_checked_in_fabrics_order() {
        let check = |edit: fn(&mut ChannelHeader, &mut SignatureHeader), expected: &str| {
            let unpacked = Unpacked::open(proposal(edit)).unwrap();
            let found = unpacked.check_headers().err().unwrap_or_default();
            assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty());
        };
        check(|_, _| {}, "");
        check(|c, _| c.r#type = 1, "");
        check(|c, _| c.r#type = 2, "invalid header type CONFIG_UPDATE");
        check(|c, _| c.r#type = 99, "invalid header type 99");
        check(|c, _| c.epoch = 1, "epoch is non-zero");
        check(|_, s| s.nonce = Bytes::new(), "nonce is empty");
        check(|_, s| s.creator = Bytes::new(), "creator is empty");
        check(
            |c, _| c.tx_id = "x".into(),
            "incorrectly computed txid 'x' -- expected '",
        );
    }

    #[test]
    fn transient_data_is_no_part_of_the_hash() {
        let unpacked = Unpacked::open(proposal(|_, _| {})).unwrap();
        let bytes = unpacked.payload_without_transient();
        let payload = ChaincodeProposalPayload::decode(bytes.as_slice()).unwrap();
        assert!(payload.transient_map.is_empty());
        assert_eq!(payload.input, unpacked.payload_input);
    }

    #[test]
    fn malformed_layers_are_named() {
        let check = |bytes: &'static [u8], expected: &str| {
            let signed = SignedProposal {
                proposal_bytes: Bytes::from_static(bytes),
                signature: Bytes::new(),
            };
            let error = Unpacked::open(signed).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&[0xff], "error unmarshalling Proposal: proto: ");
        check(&[0x0a, 0x01, 0xff], "error unmarshalling Header: proto: ");
        check(&[], "ChaincodeHeaderExtension.ChaincodeId is nil");
    }
}
