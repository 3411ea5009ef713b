//! Envelopes and proposals: taking their nested layers apart without losing the received bytes.

use bytes::Bytes;
use prost::{DecodeError, Message};

use crate::common::{ChannelHeader, Envelope, Header, Payload, SignatureHeader};

/// A header with its two parts decoded. The encoded parts stay in `raw`, because transaction ids
/// and proposal hashes are taken over the bytes that were received.
#[derive(Debug, Clone)]
pub struct OpenHeader {
    /// The header as received.
    pub raw: Header,
    /// Decoded `raw.channel_header`.
    pub channel: ChannelHeader,
    /// Decoded `raw.signature_header`.
    pub signature: SignatureHeader,
}

impl OpenHeader {
    /// Decodes both halves of a header.
    pub fn open(raw: Header) -> Result<Self, DecodeError> {
        let channel = ChannelHeader::decode(raw.channel_header.clone())?;
        let signature = SignatureHeader::decode(raw.signature_header.clone())?;
        Ok(Self {
            raw,
            channel,
            signature,
        })
    }
}

/// An envelope whose payload and headers are decoded.
#[derive(Debug, Clone)]
pub struct OpenEnvelope {
    /// The payload as received; the creator's signature covers these bytes.
    pub payload_bytes: Bytes,
    /// The creator's signature.
    pub signature: Bytes,
    /// The payload's header.
    pub header: OpenHeader,
    /// The payload's data, still encoded; its type depends on the channel header's type.
    pub data: Bytes,
}

impl OpenEnvelope {
    /// Decodes an envelope down to its headers. A payload without a header counts as malformed.
    pub fn open(envelope: Envelope) -> Result<Self, DecodeError> {
        let payload = Payload::decode(envelope.payload.clone())?;
        let raw = payload.header.unwrap_or_default();
        Ok(Self {
            payload_bytes: envelope.payload,
            signature: envelope.signature,
            header: OpenHeader::open(raw)?,
            data: payload.data,
        })
    }
}
