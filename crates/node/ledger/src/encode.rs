//! Encoding a block and knowing where each of its envelopes lies.

use bytes::Bytes;
use crc32c::crc32c;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use selvage_proto::common::Block;

use crate::history::Location;

const HEADER_TAG: u8 = 0x0a;
const DATA_TAG: u8 = 0x12;
const METADATA_TAG: u8 = 0x1a;
const ENVELOPE_TAG: u8 = 0x0a;

/// The protobuf encoding of a block, and where the envelopes are in it.
pub(crate) fn encode_block(block: &Block) -> (Bytes, Vec<Location>) {
    let mut out = Vec::with_capacity(block.encoded_len());
    if let Some(header) = &block.header {
        out.push(HEADER_TAG);
        put_message(&mut out, header);
    }
    let mut locations = Vec::new();
    if let Some(data) = &block.data {
        out.push(DATA_TAG);
        let len: usize = data.data.iter().map(field_len).sum();
        encode_varint(len as u64, &mut out);
        for envelope in &data.data {
            out.push(ENVELOPE_TAG);
            encode_varint(envelope.len() as u64, &mut out);
            locations.push(Location {
                offset: out.len() as u64,
                len: envelope.len() as u64,
                crc: crc32c(envelope),
            });
            out.extend_from_slice(envelope);
        }
    }
    if let Some(metadata) = &block.metadata {
        out.push(METADATA_TAG);
        put_message(&mut out, metadata);
    }
    (out.into(), locations)
}

fn field_len(bytes: &Bytes) -> usize {
    1 + encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_message(out: &mut Vec<u8>, message: &impl Message) {
    encode_varint(message.encoded_len() as u64, out);
    message
        .encode(out)
        .expect("a vector takes any number of bytes");
}

#[cfg(test)]
mod tests {
    use selvage_proto::common::{BlockData, BlockHeader, BlockMetadata};

    use super::*;

    fn check(block: &Block) {
        let (bytes, locations) = encode_block(block);
        assert_eq!(bytes, block.encode_to_vec());
        for (location, envelope) in locations.iter().zip(block.envelopes()) {
            let start = location.offset as usize;
            assert_eq!(bytes.slice(start..start + location.len as usize), envelope);
        }
    }

    #[test]
    fn bytes_are_those_of_the_message() {
        check(&Block::default());
        let envelopes = [0, 1, 127, 128, 20_000].map(|len| Bytes::from(vec![7; len]));
        check(&Block {
            header: Some(BlockHeader::default()),
            data: Some(BlockData {
                data: envelopes.to_vec(),
            }),
            metadata: Some(BlockMetadata {
                metadata: vec![Bytes::new(), Bytes::from_static(b"\0")],
            }),
        });
    }
}
