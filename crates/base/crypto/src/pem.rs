//! PEM as Go reads it: text between blocks is passed over, lines may have any length, headers such
//! as `Proc-Type` may stand before the data, and a block that cannot be read is skipped.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::CryptoError;

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// One PEM block. The bytes are wiped when it goes, for they may be a key's.
#[derive(Clone)]
pub struct Block {
    /// The words between `BEGIN` and the dashes, e.g. `CERTIFICATE`.
    pub label: String,
    /// True when a header says the contents are encrypted (the old OpenSSL way).
    pub encrypted: bool,
    /// True when headers stand before the data.
    pub has_headers: bool,
    /// The contents.
    pub der: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}, {} bytes)", self.label, self.der.len())
    }
}

/// All blocks of a text, in order.
pub fn blocks(text: &[u8]) -> impl Iterator<Item = Block> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (block, after) = next(rest)?;
        rest = after;
        Some(block)
    })
}

/// The first block of a text and what follows it.
pub fn next(text: &[u8]) -> Option<(Block, &[u8])> {
    let mut rest = text;
    loop {
        let (line, after) = take_line(rest)?;
        rest = after;
        let label = line
            .strip_prefix(b"-----BEGIN ")
            .and_then(|l| l.strip_suffix(b"-----"))
            .and_then(|l| std::str::from_utf8(l).ok());
        if let Some(label) = label
            && let Some((block, after)) = body(label, after)
        {
            return Some((block, after));
        }
    }
}

/// The first block of a text if it has this label.
///
/// # Errors
/// [`CryptoError::Pem`] when there is no block or its label is another.
pub fn first(text: &[u8], label: &str) -> Result<Block, CryptoError> {
    match next(text) {
        Some((block, _)) if block.label == label => Ok(block),
        Some((block, _)) => Err(CryptoError::Pem(format!(
            "expected {label}, found {}",
            block.label
        ))),
        None => Err(CryptoError::Pem(format!("no {label} in it"))),
    }
}

/// Writes a block with lines of 64 characters.
pub fn encode(label: &str, der: &[u8]) -> String {
    let data = Zeroizing::new(ENGINE.encode(der));
    let mut out = String::with_capacity(data.len() + data.len() / 64 + 2 * label.len() + 40);
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    let mut rest = data.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// One line without its end and trailing blanks; `None` at the end of the text.
fn take_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = text.iter().position(|b| *b == b'\n').unwrap_or(text.len());
    let after = &text[(end + 1).min(text.len())..];
    Some((text[..end].trim_ascii_end(), after))
}

fn body<'a>(label: &str, text: &'a [u8]) -> Option<(Block, &'a [u8])> {
    let mut data = Zeroizing::new(Vec::new());
    let (mut rest, mut encrypted, mut has_headers) = (text, false, false);
    loop {
        let (line, after) = take_line(rest)?;
        rest = after;
        if let Some(end) = line.strip_prefix(b"-----END ") {
            if end.strip_suffix(b"-----") != Some(label.as_bytes()) {
                return None;
            }
            break;
        }
        if line.starts_with(b"-----BEGIN ") {
            return None;
        }
        if line.contains(&b':') && data.is_empty() {
            has_headers = true;
            encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
            continue;
        }
        data.extend(line.iter().filter(|b| !b.is_ascii_whitespace()));
    }
    let der = Zeroizing::new(ENGINE.decode(&*data).ok()?);
    Some((
        Block {
            label: label.to_owned(),
            encrypted,
            has_headers,
            der,
        },
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for length in [0, 1, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let text = encode("A B", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            let (block, rest) = next(text.as_bytes()).unwrap();
            assert_eq!(
                (&*block.der, block.label.as_str(), rest),
                (&der, "A B", &b""[..])
            );
        }
    }

    #[test]
    fn what_stands_around_is_passed_over() {
        let text = "subject=x\r\n-----BEGIN X-----\r\nProc-Type: 4,ENCRYPTED\r\n\r\nAQ\r\n==\r\n\
                    -----END X-----\r\n-----BEGIN Y-----\nbroken!\n-----END Y-----\n\
                    -----BEGIN Z-----\nAg==\n-----END Z-----";
        let found: Vec<Block> = blocks(text.as_bytes()).collect();
        let labels: Vec<&str> = found.iter().map(|b| b.label.as_str()).collect();
        assert_eq!(labels, ["X", "Z"]);
        assert_eq!((&found[0].der[..], &found[1].der[..]), (&[1][..], &[2][..]));
        assert!(found[0].encrypted && found[0].has_headers && !found[1].has_headers);
        assert!(first(text.as_bytes(), "Z").is_err());
        assert!(first(b"nothing", "Z").is_err());
    }
}
