use aws_lc_rs::digest;

/// A hash function Fabric's channel configuration can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlgorithm {
    /// SHA-256, named `SHA256`.
    Sha256,
    /// SHA3-256, named `SHA3_256`.
    Sha3_256,
}

impl HashAlgorithm {
    /// The algorithm of Fabric's name, e.g. of the channel value `HashingAlgorithm`.
    pub fn from_name(name: &str) -> Option<HashAlgorithm> {
        match name {
            "SHA256" => Some(HashAlgorithm::Sha256),
            "SHA3_256" => Some(HashAlgorithm::Sha3_256),
            _ => None,
        }
    }

    /// Fabric's name.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => "SHA256",
            HashAlgorithm::Sha3_256 => "SHA3_256",
        }
    }

    /// The hash of the concatenation of `parts`.
    pub fn hash<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut hasher = Hasher::new(self);
        parts.into_iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }
}

/// Hashes what comes in pieces.
#[derive(Clone)]
pub struct Hasher(digest::Context);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: HashAlgorithm) -> Hasher {
        Hasher(digest::Context::new(match algorithm {
            HashAlgorithm::Sha256 => &digest::SHA256,
            HashAlgorithm::Sha3_256 => &digest::SHA3_256,
        }))
    }

    /// Takes in the next piece.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The hash of all pieces.
    pub fn finish(self) -> [u8; 32] {
        to_array(&self.0.finish())
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

pub(crate) fn to_array(digest: &digest::Digest) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA256, data))
}

/// SHA-256 of the concatenation of `parts`.
pub fn sha256_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    HashAlgorithm::Sha256.hash(parts)
}

/// SHA3-256 of `data`.
pub fn sha3_256(data: &[u8]) -> [u8; 32] {
    to_array(&digest::digest(&digest::SHA3_256, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        let check = |got: [u8; 32], want: &str| assert_eq!(hex::encode(got), want);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        check(sha256(b"abc"), abc);
        check(sha256_parts([&b"a"[..], b"", b"bc"]), abc);
        let abc3 = "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532";
        check(sha3_256(b"abc"), abc3);
        check(HashAlgorithm::Sha3_256.hash([&b"ab"[..], b"c"]), abc3);
    }

    #[test]
    fn names_are_fabrics() {
        for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha3_256] {
            assert_eq!(HashAlgorithm::from_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(HashAlgorithm::from_name("SHA512"), None);
    }
}
