//! The bytes of block files.
//!
//! A segment starts with `SELVBLK1`, the number of its first block and a checksum. Records follow:
//!
//! | bytes | field |
//! |---|---|
//! | 4 | `SREC` |
//! | 4 | length of the block |
//! | 8 | number of the block |
//! | 4 | how many blocks of the same write come before this one |
//! | 4 | CRC-32C of the block |
//! | 4 | CRC-32C of the 24 bytes above |
//! | … | the block, as protobuf |
//!
//! Numbers are little-endian. The place in its write tells a torn write from later damage: a
//! record that was written after another one was acknowledged proves that the other one was whole.

use crc32c::crc32c;

pub(crate) const RECORD_HEADER: usize = 28;
pub(crate) const SEGMENT_HEADER: usize = 20;
const RECORD_MAGIC: [u8; 4] = *b"SREC";
const SEGMENT_MAGIC: [u8; 8] = *b"SELVBLK1";

/// Larger blocks are refused. Fabric's absolute maximum for a message is 100 MB.
pub(crate) const MAX_BLOCK: usize = 512 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) len: u32,
    pub(crate) number: u64,
    pub(crate) before: u32,
    pub(crate) crc: u32,
}

impl RecordHeader {
    pub(crate) fn of(number: u64, before: u32, block: &[u8]) -> Self {
        Self {
            len: block.len() as u32,
            number,
            before,
            crc: crc32c(block),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC);
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        let check = crc32c(&out[start..]);
        out.extend_from_slice(&check.to_le_bytes());
    }

    /// `None` when the bytes are no intact record header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..RECORD_HEADER)?;
        if bytes[..4] != RECORD_MAGIC || u32_at(bytes, 24) != crc32c(&bytes[..24]) {
            return None;
        }
        Some(Self {
            len: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            before: u32_at(bytes, 16),
            crc: u32_at(bytes, 20),
        })
    }

    /// Length of header and block together.
    pub(crate) fn total(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.len)
    }

    /// Number of the first block of the same write.
    pub(crate) fn write_start(&self) -> u64 {
        self.number.saturating_sub(u64::from(self.before))
    }
}

pub(crate) fn segment_header(first: u64) -> Vec<u8> {
    let mut out = SEGMENT_MAGIC.to_vec();
    out.extend_from_slice(&first.to_le_bytes());
    let check = crc32c(&out);
    out.extend_from_slice(&check.to_le_bytes());
    out
}

/// The number of the segment's first block, or `None` when the bytes are no segment header.
pub(crate) fn read_segment_header(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.get(..SEGMENT_HEADER)?;
    let intact = bytes[..8] == SEGMENT_MAGIC && u32_at(bytes, 16) == crc32c(&bytes[..16]);
    intact.then(|| u64_at(bytes, 8))
}

/// The first intact record in `bytes`, if any, searching at every position.
///
/// Transactions may be made to look like records, so the work spent on checksums is limited.
pub(crate) fn find_record(bytes: &[u8]) -> Option<RecordHeader> {
    const PASSES: usize = 8;
    let mut budget = bytes.len().saturating_mul(PASSES);
    let last = bytes.len().checked_sub(RECORD_HEADER)?;
    for at in 0..=last {
        if !bytes[at..].starts_with(&RECORD_MAGIC) {
            continue;
        }
        let Some(header) = RecordHeader::decode(&bytes[at..]) else {
            continue;
        };
        let start = at + RECORD_HEADER;
        let Some(block) = bytes.get(start..start + header.len as usize) else {
            continue;
        };
        budget = budget.checked_sub(block.len())?;
        if crc32c(block) == header.crc {
            return Some(header);
        }
    }
    None
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_every_flipped_bit_shows() {
        let header = RecordHeader::of(7, 2, b"block");
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(bytes.len(), RECORD_HEADER);
        assert_eq!(RecordHeader::decode(&bytes), Some(header));
        assert_eq!(header.write_start(), 5);
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&broken), None, "bit {bit}");
        }
        assert_eq!(RecordHeader::decode(&bytes[..27]), None);
    }

    #[test]
    fn segment_headers_round_trip() {
        let bytes = segment_header(9);
        assert_eq!(bytes.len(), SEGMENT_HEADER);
        assert_eq!(read_segment_header(&bytes), Some(9));
        assert_eq!(read_segment_header(&bytes[1..]), None);
        assert_eq!(read_segment_header(&[0; SEGMENT_HEADER]), None);
    }

    #[test]
    fn records_are_found_between_noise() {
        let mut bytes = b"SRECnoise".to_vec();
        let header = RecordHeader::of(3, 0, b"abc");
        header.encode(&mut bytes);
        bytes.extend_from_slice(b"abc");
        assert_eq!(find_record(&bytes), Some(header));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(find_record(&bytes), None);
    }
}
