//! Bytes for people.

use serde::Serialize;

/// The most bytes of one value that are shown.
const MAX_SHOWN: usize = 64 << 10;

/// Bytes: as text where they are text, else in hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ValueView {
    /// The text, when the bytes are UTF-8 without control characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes in hexadecimal, when they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// How many bytes there are; more than shown when the value is very long.
    pub length: usize,
}

impl ValueView {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let length = bytes.len();
        let mut shown = &bytes[..length.min(MAX_SHOWN)];
        // A cut inside a character does not make a text binary.
        if let Err(error) = std::str::from_utf8(shown)
            && error.error_len().is_none()
            && shown.len() < length
        {
            shown = &shown[..error.valid_up_to()];
        }
        let is_text = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
        match std::str::from_utf8(shown).ok().filter(is_text) {
            Some(text) => Self {
                text: Some(text.to_owned()),
                hex: None,
                length,
            },
            None => Self {
                text: None,
                hex: Some(hex::encode(shown)),
                length,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], text: Option<&str>, hex: Option<&str>) {
        let view = ValueView::new(bytes);
        assert_eq!(view.text.as_deref(), text, "{bytes:?}");
        assert_eq!(view.hex.as_deref(), hex, "{bytes:?}");
        assert_eq!(view.length, bytes.len());
    }

    #[test]
    fn text_is_text_and_bytes_are_bytes() {
        check(b"", Some(""), None);
        check(b"{\"a\": 1}\n", Some("{\"a\": 1}\n"), None);
        check("资产".as_bytes(), Some("资产"), None);
        check(&[0, 1], None, Some("0001"));
        check(&[0xff], None, Some("ff"));
        let long = "é".repeat(MAX_SHOWN);
        let view = ValueView::new(long[..].as_bytes());
        assert_eq!(view.text.map(|t| t.len()), Some(MAX_SHOWN));
        let odd = format!("x{long}");
        assert_eq!(
            ValueView::new(odd.as_bytes()).text.map(|t| t.len()),
            Some(MAX_SHOWN - 1)
        );
    }
}
