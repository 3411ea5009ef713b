//! Building seek requests.

use prost::Message;
use selvage_env::{Clock, Rng};
use selvage_proto::Timestamp;
use selvage_proto::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};
use selvage_proto::orderer::seek_position::Type as Position;
use selvage_proto::orderer::{SeekInfo, SeekNewest, SeekOldest, SeekPosition, SeekSpecified};

use super::Signer;

/// The block with this number.
pub fn specified(number: u64) -> SeekPosition {
    SeekPosition {
        r#type: Some(Position::Specified(SeekSpecified { number })),
    }
}

/// The newest block there is when the request arrives.
pub fn newest() -> SeekPosition {
    SeekPosition {
        r#type: Some(Position::Newest(SeekNewest {})),
    }
}

/// The first block.
pub fn oldest() -> SeekPosition {
    SeekPosition {
        r#type: Some(Position::Oldest(SeekOldest {})),
    }
}

/// Every block from `start` to `stop`, waiting for those that do not exist yet.
pub fn between(start: SeekPosition, stop: SeekPosition) -> SeekInfo {
    SeekInfo {
        start: Some(start),
        stop: Some(stop),
        ..Default::default()
    }
}

/// Exactly one block.
pub fn only(position: SeekPosition) -> SeekInfo {
    between(position, position)
}

/// Every block from this number on, for ever.
pub fn from_on(number: u64) -> SeekInfo {
    between(specified(number), specified(u64::MAX))
}

/// A signed `DELIVER_SEEK_INFO` envelope. `tls_cert_hash` is that of the client certificate of the
/// connection it will travel over.
pub fn seek_envelope(
    channel_id: &str,
    seek: &SeekInfo,
    signer: &dyn Signer,
    tls_cert_hash: Option<[u8; 32]>,
    clock: &dyn Clock,
    rng: &dyn Rng,
) -> Envelope {
    let now = clock.unix_nanos();
    let channel_header = ChannelHeader {
        r#type: HeaderType::DeliverSeekInfo as i32,
        channel_id: channel_id.to_owned(),
        timestamp: Some(Timestamp {
            seconds: now.div_euclid(1_000_000_000),
            nanos: now.rem_euclid(1_000_000_000) as i32,
        }),
        tls_cert_hash: tls_cert_hash.map(|h| h.to_vec()).unwrap_or_default().into(),
        ..Default::default()
    };
    let mut nonce = [0; 24];
    rng.fill(&mut nonce);
    let signature_header = SignatureHeader {
        creator: signer.creator(),
        nonce: nonce.to_vec().into(),
    };
    let payload = Payload {
        header: Some(Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: signature_header.encode_to_vec().into(),
        }),
        data: seek.encode_to_vec().into(),
    }
    .encode_to_vec();
    Envelope {
        signature: signer.sign(&payload).into(),
        payload: payload.into(),
    }
}
