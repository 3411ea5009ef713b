//! Chance for tokens, keys and ids.

use selvage_env::{System, random_array};

/// Hexadecimal text of `N` random bytes.
pub(crate) fn hex<const N: usize>() -> String {
    hex::encode(random_array::<N>(&System))
}

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    random_array(&System)
}

/// `N` characters of an alphabet of at most 256, each equally likely.
pub(crate) fn text<const N: usize>(alphabet: &[u8]) -> String {
    let fair = 256 - 256 % alphabet.len();
    let mut out = String::with_capacity(N);
    while out.len() < N {
        for byte in bytes::<64>() {
            if usize::from(byte) < fair && out.len() < N {
                out.push(char::from(alphabet[usize::from(byte) % alphabet.len()]));
            }
        }
    }
    out
}

/// A first password that satisfies BCS's rule (8–12 characters of three kinds) and can be typed:
/// no characters that look alike.
pub(crate) fn password() -> String {
    let letters = text::<5>(b"abcdefghjkmnpqrstuvwxyz");
    let capitals = text::<3>(b"ABCDEFGHJKLMNPQRSTUVWXYZ");
    let digits = text::<4>(b"23456789");
    format!("{capitals}{letters}{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_passwords_follow_the_rule_and_differ() {
        let one = password();
        assert_eq!(one.len(), 12);
        assert!(one.chars().any(|c| c.is_ascii_uppercase()));
        assert!(one.chars().any(|c| c.is_ascii_lowercase()));
        assert!(one.chars().any(|c| c.is_ascii_digit()));
        assert_ne!(one, password());
    }
}
