//! The wall clock, in the units the API speaks.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Unix nanoseconds.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    now_ns() / 1_000_000
}

/// Unix seconds.
pub(crate) fn now_s() -> i64 {
    now_ns() / 1_000_000_000
}

/// RFC 3339 text of unix nanoseconds, empty for 0.
pub(crate) fn rfc3339(unix_ns: i64) -> String {
    if unix_ns == 0 {
        return String::new();
    }
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|t| {
            t.replace_nanosecond(t.nanosecond() / 1_000_000 * 1_000_000)
                .ok()
        })
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_millisecond() {
        assert_eq!(
            rfc3339(1_618_218_591_906_093_855),
            "2021-04-12T09:09:51.906Z"
        );
        assert_eq!(rfc3339(0), "");
    }
}
