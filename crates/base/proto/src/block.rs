//! Blocks: the bytes their hashes are taken over, and their metadata slots.

use bytes::Bytes;
use prost::Message;

use crate::common::{Block, BlockHeader, BlockMetadata, BlockMetadataIndex, Metadata};

/// Number of metadata slots in every block.
pub const METADATA_SLOTS: usize = 5;

/// The DER form of a block header. Its SHA-256 is the block's hash, and block signatures cover it:
/// `SEQUENCE { INTEGER number, OCTET STRING previous_hash, OCTET STRING data_hash }`.
pub fn header_bytes(header: &BlockHeader) -> Vec<u8> {
    let mut body = Vec::with_capacity(96);
    put_unsigned(&mut body, header.number);
    put_octets(&mut body, &header.previous_hash);
    put_octets(&mut body, &header.data_hash);
    let mut out = Vec::with_capacity(body.len() + 6);
    out.push(0x30);
    put_length(&mut out, body.len());
    out.extend_from_slice(&body);
    out
}

fn put_unsigned(out: &mut Vec<u8>, value: u64) {
    let bytes = value.to_be_bytes();
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(7);
    let digits = &bytes[first..];
    // DER integers are signed: a set top bit needs a zero in front.
    let pad = digits[0] & 0x80 != 0;
    out.push(0x02);
    put_length(out, digits.len() + usize::from(pad));
    if pad {
        out.push(0);
    }
    out.extend_from_slice(digits);
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    out.push(0x04);
    put_length(out, octets.len());
    out.extend_from_slice(octets);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    if length < 0x80 {
        out.push(length as u8);
        return;
    }
    let bytes = length.to_be_bytes();
    let first = bytes
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(bytes.len() - 1);
    out.push(0x80 | (bytes.len() - first) as u8);
    out.extend_from_slice(&bytes[first..]);
}

impl Block {
    /// The number in the header; 0 when the header is missing.
    pub fn number(&self) -> u64 {
        self.header.as_ref().map_or(0, |h| h.number)
    }

    /// The encoded envelopes.
    pub fn envelopes(&self) -> &[Bytes] {
        self.data.as_ref().map_or(&[], |d| d.data.as_slice())
    }

    /// The raw bytes of one metadata slot; empty when it is missing.
    pub fn metadata_slot(&self, slot: BlockMetadataIndex) -> &[u8] {
        let slots = self
            .metadata
            .as_ref()
            .map_or(&[][..], |m| m.metadata.as_slice());
        slots.get(slot as usize).map_or(&[], |b| b.as_ref())
    }

    /// Replaces one metadata slot, adding empty ones before it where they are missing.
    pub fn set_metadata_slot(&mut self, slot: BlockMetadataIndex, value: impl Into<Bytes>) {
        let slots = &mut self
            .metadata
            .get_or_insert_with(BlockMetadata::default)
            .metadata;
        let needed = METADATA_SLOTS.max(slot as usize + 1);
        if slots.len() < needed {
            slots.resize(needed, Bytes::new());
        }
        slots[slot as usize] = value.into();
    }

    /// The number of the newest configuration block at this height, read from the signed metadata
    /// as Fabric 2 and later write it.
    pub fn last_config_index(&self) -> Result<u64, prost::DecodeError> {
        let outer = Metadata::decode(self.metadata_slot(BlockMetadataIndex::Signatures))?;
        let inner = crate::common::OrdererBlockMetadata::decode(outer.value)?;
        Ok(inner.last_config.map_or(0, |c| c.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: u64, integer: &[u8]) {
        let header = BlockHeader {
            number,
            ..Default::default()
        };
        let mut expected = vec![0x30, (integer.len() + 4) as u8];
        expected.extend_from_slice(integer);
        expected.extend_from_slice(&[0x04, 0x00, 0x04, 0x00]);
        assert_eq!(header_bytes(&header), expected, "number {number}");
    }

    #[test]
    fn header_numbers_are_minimal_signed_integers() {
        check(0, &[0x02, 0x01, 0x00]);
        check(127, &[0x02, 0x01, 0x7f]);
        check(128, &[0x02, 0x02, 0x00, 0x80]);
        check(256, &[0x02, 0x02, 0x01, 0x00]);
        check(
            u64::MAX,
            &[0x02, 0x09, 0, 255, 255, 255, 255, 255, 255, 255, 255],
        );
    }

    #[test]
    fn long_hashes_use_the_long_length_form() {
        let header = BlockHeader {
            number: 1,
            previous_hash: vec![7; 200].into(),
            data_hash: Bytes::new(),
        };
        let bytes = header_bytes(&header);
        assert_eq!(&bytes[..6], &[0x30, 0x81, 208, 0x02, 0x01, 0x01]);
        assert_eq!(&bytes[6..9], &[0x04, 0x81, 200]);
    }

    #[test]
    fn slots_are_padded() {
        let mut block = Block::default();
        assert!(
            block
                .metadata_slot(BlockMetadataIndex::CommitHash)
                .is_empty()
        );
        block.set_metadata_slot(BlockMetadataIndex::TransactionsFilter, vec![254]);
        assert_eq!(
            block.metadata_slot(BlockMetadataIndex::TransactionsFilter),
            &[254]
        );
        assert_eq!(block.metadata.unwrap().metadata.len(), METADATA_SLOTS);
    }
}
