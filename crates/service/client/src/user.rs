//! Who asks: an identity, and the time and chance that go into what it signs.

use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::sha256_parts;
use selvage_env::{Clock, Env, Rng, random_array};
use selvage_identity::SigningIdentity;
use selvage_net::deliver::Signer;
use selvage_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use selvage_proto::{Message as _, Timestamp};

/// Bytes of randomness in a signature header.
const NONCE_BYTES: usize = 24;

/// An identity that signs requests. Cheap to clone.
#[derive(Clone)]
pub struct User {
    identity: Arc<SigningIdentity>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("msp_id", &self.identity.msp_id())
            .finish_non_exhaustive()
    }
}

impl Signer for User {
    fn creator(&self) -> Bytes {
        self.identity.serialized()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.identity.sign(message)
    }
}

impl User {
    /// A user of this identity.
    pub fn new(identity: Arc<SigningIdentity>, env: &Env) -> Self {
        Self {
            identity,
            clock: env.clock.clone(),
            rng: env.rng.clone(),
        }
    }

    /// The identity.
    pub fn identity(&self) -> &SigningIdentity {
        &self.identity
    }

    /// The id of its membership service.
    pub fn msp_id(&self) -> &str {
        self.identity.msp_id()
    }

    /// The clock that requests are dated by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where nonces come from.
    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.rng
    }

    pub(crate) fn signature_header(&self) -> SignatureHeader {
        SignatureHeader {
            creator: self.creator(),
            nonce: random_array::<NONCE_BYTES>(self.rng.as_ref())
                .to_vec()
                .into(),
        }
    }

    pub(crate) fn channel_header(&self, kind: HeaderType, channel_id: &str) -> ChannelHeader {
        let now = self.clock.unix_nanos();
        ChannelHeader {
            r#type: kind as i32,
            timestamp: Some(Timestamp {
                seconds: now.div_euclid(1_000_000_000),
                nanos: now.rem_euclid(1_000_000_000) as i32,
            }),
            channel_id: channel_id.to_owned(),
            ..Default::default()
        }
    }

    /// Wraps data into a signed envelope of a type, as configuration updates travel.
    pub fn envelope(&self, kind: HeaderType, channel_id: &str, data: Bytes) -> Envelope {
        let channel_header = self.channel_header(kind, channel_id);
        let payload = Payload {
            header: Some(Header {
                channel_header: channel_header.encode_to_vec().into(),
                signature_header: self.signature_header().encode_to_vec().into(),
            }),
            data,
        };
        self.signed(payload.encode_to_vec().into())
    }

    /// Signs an encoded payload.
    pub fn signed(&self, payload: Bytes) -> Envelope {
        Envelope {
            signature: self.sign(&payload).into(),
            payload,
        }
    }
}

/// A transaction's id: lowercase hexadecimal SHA-256 over nonce and creator.
pub(crate) fn tx_id(header: &SignatureHeader) -> String {
    hex::encode(sha256_parts([
        header.nonce.as_ref(),
        header.creator.as_ref(),
    ]))
}
