//! Keys of everything a channel's two stores hold.
//!
//! The state store can be rebuilt from the blocks:
//!
//! | prefix | key | value |
//! |---|---|---|
//! | `m` | name | height of the state, format |
//! | `s` | namespace 00 key | value, metadata, version |
//! | `i` | transaction id | where the transaction lies, its code |
//! | `b` | block hash | block number |
//! | `h` | namespace 00 key length, key, block, tx | where the transaction lies |
//! | `j` | namespace 00 collection 00 key hash | plain key |
//! | `e` | expiry block, block, namespace 00 collection 00 key hash | plain key or nothing |
//!
//! The private store cannot, because no block holds private values:
//!
//! | prefix | key | value |
//! |---|---|---|
//! | `p` | block, tx, namespace 00 collection | private write set |
//! | `k` | namespace 00 collection 00 key hash, block, tx | nothing |
//! | `x` | expiry block, block, tx, namespace 00 collection | nothing |
//! | `t` | transaction id 00 number | height, private set waiting for its block |
//! | `u` | height, transaction id 00 number | nothing |
//!
//! Namespaces of private data are derived as in Fabric: `ns$$hcoll` holds hashes, `ns$$pcoll`
//! values. Numbers are order-preserving. Chaincode names and collections contain no zero byte.

use crate::Version;
use crate::version::{put_ordered, take_ordered};

pub(crate) const HEIGHT: &[u8] = b"mheight";
pub(crate) const FORMAT: &[u8] = b"mformat";

/// Separates two names. The byte after it ends a range over the first.
const SEPARATOR: u8 = 0;

pub(crate) fn hashed_ns(ns: &str, coll: &str) -> String {
    format!("{ns}$$h{coll}")
}

pub(crate) fn private_ns(ns: &str, coll: &str) -> String {
    format!("{ns}$$p{coll}")
}

fn with(prefix: u8, capacity: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(capacity + 24);
    key.push(prefix);
    key
}

pub(crate) fn state(ns: &str, key: &[u8]) -> Vec<u8> {
    let mut out = with(b's', ns.len() + key.len());
    out.extend_from_slice(ns.as_bytes());
    out.push(SEPARATOR);
    out.extend_from_slice(key);
    out
}

/// The end of all keys of a namespace.
pub(crate) fn state_end(ns: &str) -> Vec<u8> {
    let mut out = state(ns, b"");
    *out.last_mut().expect("the separator") = SEPARATOR + 1;
    out
}

pub(crate) fn tx_id(id: &str) -> Vec<u8> {
    let mut out = with(b'i', id.len());
    out.extend_from_slice(id.as_bytes());
    out
}

pub(crate) fn block_hash(hash: &[u8]) -> Vec<u8> {
    let mut out = with(b'b', hash.len());
    out.extend_from_slice(hash);
    out
}

/// All history of a key, without the version.
pub(crate) fn history_prefix(ns: &str, key: &str) -> Vec<u8> {
    let mut out = with(b'h', ns.len() + key.len());
    out.extend_from_slice(ns.as_bytes());
    out.push(SEPARATOR);
    put_ordered(&mut out, key.len() as u64);
    out.extend_from_slice(key.as_bytes());
    out
}

pub(crate) fn history(ns: &str, key: &str, version: Version) -> Vec<u8> {
    let mut out = history_prefix(ns, key);
    out.extend_from_slice(&version.to_bytes());
    out
}

/// The version at the end of a key that starts with `prefix`.
pub(crate) fn version_after(prefix: &[u8], key: &[u8]) -> Option<Version> {
    let mut rest = key.strip_prefix(prefix)?;
    let version = Version::new(take_ordered(&mut rest)?, take_ordered(&mut rest)?);
    rest.is_empty().then_some(version)
}

/// Where keys that start with `prefix` and continue with a number end.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    out.push(0xff);
    out
}

pub(crate) fn private_block(block: u64) -> Vec<u8> {
    let mut out = with(b'p', 0);
    put_ordered(&mut out, block);
    out
}

pub(crate) fn private_set(version: Version, ns: &str, coll: &str) -> Vec<u8> {
    let mut out = private_block(version.block);
    put_ordered(&mut out, version.tx);
    put_names(&mut out, ns, coll);
    out
}

fn put_names(out: &mut Vec<u8>, ns: &str, coll: &str) {
    out.extend_from_slice(ns.as_bytes());
    out.push(SEPARATOR);
    out.extend_from_slice(coll.as_bytes());
}

fn take_names(bytes: &[u8]) -> Option<(String, String)> {
    let at = bytes.iter().position(|&b| b == SEPARATOR)?;
    let ns = std::str::from_utf8(&bytes[..at]).ok()?;
    let coll = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    Some((ns.to_owned(), coll.to_owned()))
}

/// Version, namespace and collection of a private set's key.
pub(crate) fn parse_private_set(key: &[u8]) -> Option<(Version, String, String)> {
    let mut rest = key.strip_prefix(b"p")?;
    let version = Version::new(take_ordered(&mut rest)?, take_ordered(&mut rest)?);
    let (ns, coll) = take_names(rest)?;
    Some((version, ns, coll))
}

pub(crate) fn plain_key(ns: &str, coll: &str, key_hash: &[u8]) -> Vec<u8> {
    let mut out = private_key_prefix(ns, coll, key_hash);
    out[0] = b'j';
    out
}

pub(crate) fn private_key_prefix(ns: &str, coll: &str, key_hash: &[u8]) -> Vec<u8> {
    let mut out = with(b'k', ns.len() + coll.len() + key_hash.len());
    put_names(&mut out, ns, coll);
    out.push(SEPARATOR);
    out.extend_from_slice(key_hash);
    out
}

pub(crate) fn private_key(ns: &str, coll: &str, key_hash: &[u8], version: Version) -> Vec<u8> {
    let mut out = private_key_prefix(ns, coll, key_hash);
    out.extend_from_slice(&version.to_bytes());
    out
}

/// Everything of one kind (`e` or `x`) that expires with a block.
pub(crate) fn expiry_block(kind: u8, block: u64) -> Vec<u8> {
    let mut out = with(kind, 0);
    put_ordered(&mut out, block);
    out
}

pub(crate) fn expiring_key(
    expiry: u64,
    committed: u64,
    ns: &str,
    coll: &str,
    key_hash: &[u8],
) -> Vec<u8> {
    let mut out = expiry_block(b'e', expiry);
    put_ordered(&mut out, committed);
    put_names(&mut out, ns, coll);
    out.push(SEPARATOR);
    out.extend_from_slice(key_hash);
    out
}

/// What an `e` key names: committing block, namespace, collection, key hash.
pub(crate) fn parse_expiring_key(key: &[u8]) -> Option<(u64, String, String, Vec<u8>)> {
    const HASH: usize = 32;
    let mut rest = key.strip_prefix(b"e")?;
    take_ordered(&mut rest)?;
    let committed = take_ordered(&mut rest)?;
    let cut = rest.len().checked_sub(HASH + 1)?;
    let (ns, coll) = take_names(&rest[..cut])?;
    Some((committed, ns, coll, rest[cut + 1..].to_vec()))
}

pub(crate) fn expiring_set(expiry: u64, version: Version, ns: &str, coll: &str) -> Vec<u8> {
    let mut out = expiry_block(b'x', expiry);
    out.extend_from_slice(&version.to_bytes());
    put_names(&mut out, ns, coll);
    out
}

pub(crate) fn parse_expiring_set(key: &[u8]) -> Option<(Version, String, String)> {
    let mut rest = key.strip_prefix(b"x")?;
    take_ordered(&mut rest)?;
    let version = Version::new(take_ordered(&mut rest)?, take_ordered(&mut rest)?);
    let (ns, coll) = take_names(rest)?;
    Some((version, ns, coll))
}

pub(crate) fn transient_prefix(id: &str) -> Vec<u8> {
    let mut out = with(b't', id.len());
    out.extend_from_slice(id.as_bytes());
    out.push(SEPARATOR);
    out
}

pub(crate) fn transient(id: &str, number: u64) -> Vec<u8> {
    let mut out = transient_prefix(id);
    put_ordered(&mut out, number);
    out
}

pub(crate) fn transient_height(height: u64, id: &str, number: u64) -> Vec<u8> {
    let mut out = with(b'u', id.len());
    put_ordered(&mut out, height);
    out.extend_from_slice(id.as_bytes());
    out.push(SEPARATOR);
    put_ordered(&mut out, number);
    out
}

/// The `t` key that a `u` key points to.
pub(crate) fn transient_of_height(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.strip_prefix(b"u")?;
    take_ordered(&mut rest)?;
    let mut out = with(b't', rest.len());
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_parse_back() {
        let version = Version::new(300, 2);
        let key = private_set(version, "cc", "coll");
        assert_eq!(
            parse_private_set(&key),
            Some((version, "cc".into(), "coll".into()))
        );
        let hash = [0u8; 32];
        let key = expiring_key(9, 7, "cc", "coll", &hash);
        assert!(key.starts_with(&expiry_block(b'e', 9)));
        assert_eq!(
            parse_expiring_key(&key),
            Some((7, "cc".into(), "coll".into(), hash.to_vec()))
        );
        let key = expiring_set(9, version, "cc", "coll");
        assert_eq!(
            parse_expiring_set(&key),
            Some((version, "cc".into(), "coll".into()))
        );
        assert_eq!(
            transient_of_height(&transient_height(5, "id", 1)),
            Some(transient("id", 1))
        );
    }

    #[test]
    fn no_key_falls_into_the_history_of_another() {
        let names = [
            ("ns", "key"),
            ("ns", "key\0"),
            ("ns", "key\0\0"),
            ("ns", "\0key"),
            ("ns1", "key"),
        ];
        for a in names {
            let prefix = history_prefix(a.0, a.1);
            for b in names {
                let key = history(b.0, b.1, Version::new(100, 5));
                let inside = key >= prefix && key < end_of(&prefix);
                let parsed = version_after(&prefix, &key);
                assert_eq!(inside, a == b, "{a:?} {b:?}");
                assert_eq!(parsed.is_some(), a == b, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_namespace_ends_before_the_next() {
        assert!(state("cc", &[0xff; 9]) < state_end("cc"));
        assert!(state("cc$$hcoll", b"") >= state_end("cc"));
    }
}
