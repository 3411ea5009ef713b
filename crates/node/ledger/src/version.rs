//! Versions of state entries: the transaction that wrote them (Fabric: `version.Height`).

use std::fmt;

use selvage_proto::kvrwset;

/// The transaction that wrote a state entry: block number and index within the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Number of the block.
    pub block: u64,
    /// Index of the transaction in the block.
    pub tx: u64,
}

impl Version {
    /// A version from its two parts.
    pub const fn new(block: u64, tx: u64) -> Self {
        Self { block, tx }
    }

    /// The order-preserving bytes that the commit hash covers: both numbers, each as one length
    /// byte and the minimal big-endian digits.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18);
        put_ordered(&mut out, self.block);
        put_ordered(&mut out, self.tx);
        out
    }

    pub(crate) fn to_proto(self) -> kvrwset::Version {
        kvrwset::Version {
            block_num: self.block,
            tx_num: self.tx,
        }
    }

    pub(crate) fn from_proto(version: Option<&kvrwset::Version>) -> Option<Self> {
        version.map(|v| Self::new(v.block_num, v.tx_num))
    }
}

/// Fabric's text for a height; it appears in error messages that chaincode sees.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{BlockNum: {}, TxNum: {}}}", self.block, self.tx)
    }
}

/// A number as one length byte and its minimal big-endian digits: byte order equals number order.
pub(crate) fn put_ordered(out: &mut Vec<u8>, number: u64) {
    let digits = number.to_be_bytes();
    let skip = number.leading_zeros() as usize / 8;
    out.push((8 - skip) as u8);
    out.extend_from_slice(&digits[skip..]);
}

/// Reads what [`put_ordered`] wrote; `None` when the bytes are no such number.
pub(crate) fn take_ordered(bytes: &mut &[u8]) -> Option<u64> {
    let (&size, rest) = bytes.split_first()?;
    let size = usize::from(size);
    if size > 8 || rest.len() < size {
        return None;
    }
    let mut digits = [0u8; 8];
    digits[8 - size..].copy_from_slice(&rest[..size]);
    *bytes = &rest[size..];
    Some(u64::from_be_bytes(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(number: u64, bytes: &[u8]) {
        let mut out = Vec::new();
        put_ordered(&mut out, number);
        assert_eq!(out, bytes);
        let mut rest = &out[..];
        assert_eq!(take_ordered(&mut rest), Some(number));
        assert!(rest.is_empty());
    }

    #[test]
    fn ordered_numbers_are_minimal() {
        check(0, &[0]);
        check(1, &[1, 1]);
        check(255, &[1, 255]);
        check(256, &[2, 1, 0]);
        check(u64::MAX, &[8, 255, 255, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn broken_numbers_are_refused() {
        for bytes in [&[][..], &[9][..], &[2, 1][..]] {
            assert_eq!(take_ordered(&mut &bytes[..]), None);
        }
    }

    #[test]
    fn text_is_fabrics() {
        assert_eq!(Version::new(3, 1).to_string(), "{BlockNum: 3, TxNum: 1}");
    }
}
