//! Durations and sizes as Fabric's files write them.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in Go's notation: `15m`, `1.5s`, `2h45m`, `300ms`. A bare number is nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

/// A number of bytes: `1048576`, `1 MB`, `100k`. Units are powers of 1024, as in Fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

impl GoDuration {
    /// A whole number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// Reads Go's notation. `None` when it is not one, or longer than centuries.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    rest = rest.strip_prefix('+').unwrap_or(rest);
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[letters..];
        nanos += number * unit;
    }
    (nanos <= i64::MAX as f64).then(|| Duration::from_nanos(nanos.round() as u64))
}

/// Writes Go's notation, exactly.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos.is_multiple_of(1_000_000_000) {
        format!("{}s", duration.as_secs())
    } else {
        format!("{nanos}ns")
    }
}

/// Reads a size. `None` when it is not one or does not fit.
pub fn parse_byte_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let shift = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&duration_text(self.0))
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

struct Reader<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
    number: fn(u64) -> T,
}

impl<T> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        match text.trim().parse() {
            Ok(number) => Ok((self.number)(number)),
            Err(_) => {
                (self.parse)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Ok((self.number)(number))
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reader = Reader {
            expected: "a duration such as 30s, 15m or 1h30m",
            parse: parse_duration,
            number: Duration::from_nanos,
        };
        deserializer.deserialize_any(reader).map(Self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let reader = Reader {
            expected: "a size such as 1048576, 512 KB or 1 MB",
            parse: parse_byte_size,
            number: |n| n,
        };
        deserializer.deserialize_any(reader).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, millis: Option<u64>| {
            assert_eq!(
                parse_duration(text),
                millis.map(Duration::from_millis),
                "{text}"
            );
        };
        check("15m", Some(900_000));
        check("1h30m", Some(5_400_000));
        check("1.5s", Some(1_500));
        check("300ms", Some(300));
        check("0", Some(0));
        check("7200s", Some(7_200_000));
        for bad in ["", "5", "5 m", "m", "-3s", "1d", "99999999999h"] {
            check(bad, None);
        }
        for nanos in [0, 1, 1_500_000_000, 900_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }
    }

    #[test]
    fn sizes() {
        let check = |text, bytes| assert_eq!(parse_byte_size(text), bytes, "{text}");
        check("1048576", Some(1 << 20));
        check("1 MB", Some(1 << 20));
        check("10k", Some(10 << 10));
        check("2gb", Some(2 << 30));
        check("99999999999999 GB", None);
        check("", None);
        check("MB", None);
        check("1 XB", None);
    }
}
