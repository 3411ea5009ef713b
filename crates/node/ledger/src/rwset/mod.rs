//! Read/write sets: what a simulation touched, in exactly the bytes Fabric gives it.

pub(crate) mod builder;
pub(crate) mod merkle;
mod parsed;

pub use parsed::{CollectionRwSet, NsRwSet, TxRwSet};

use selvage_proto::kvrwset::{KvWrite, KvWriteHash};

/// SHA-256 of no bytes. As the hash of a private value it stands for a delete (FAB-18386).
const HASH_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// An empty value deletes, whatever the flag says (FAB-18386).
pub(crate) fn is_delete(write: &KvWrite) -> bool {
    write.is_delete || write.value.is_empty()
}

/// The same rule for hashed writes.
pub(crate) fn is_hash_delete(write: &KvWriteHash) -> bool {
    write.is_delete || write.value_hash.is_empty() || write.value_hash == HASH_OF_NOTHING[..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nothing_is_right() {
        assert_eq!(selvage_crypto::sha256(b""), HASH_OF_NOTHING);
    }
}
