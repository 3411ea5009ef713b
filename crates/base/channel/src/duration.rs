//! Durations as Go writes them (`300ms`, `1h2m0.5s`), because configuration values carry that text.

use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Reads a duration as Go's `time.ParseDuration` does. `None` when it is malformed, negative or
/// longer than Go can hold (292 years).
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let is_unit_end = |c: char| c.is_ascii_digit() || c == '.';
        let unit_end = after.find(is_unit_end).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanos = nanos.checked_add(part_nanos(number, unit_nanos(unit)?)?)?;
        if nanos > i64::MAX as u128 {
            return None;
        }
        rest = after;
    }
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn unit_nanos(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3_600 * NANOS_PER_SECOND,
        _ => return None,
    })
}

fn part_nanos(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // More digits than this are below a nanosecond of the largest unit, or out of range.
    if whole.len() > 20 {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = |s: &str| {
        if s.is_empty() {
            Some(0)
        } else {
            s.parse().ok()
        }
    };
    let whole: u128 = digits(whole)?;
    let parts: u128 = digits(fraction)?;
    let scale = 10u128.pow(fraction.len() as u32);
    whole.checked_mul(unit)?.checked_add(parts * unit / scale)
}

/// Writes a duration as Go's `Duration.String` does.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{}µs", with_fraction(nanos, 1_000));
    }
    if nanos < NANOS_PER_SECOND {
        return format!("{}ms", with_fraction(nanos, 1_000_000));
    }
    let seconds = nanos / NANOS_PER_SECOND;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let below_minute = with_fraction(nanos % (60 * NANOS_PER_SECOND), NANOS_PER_SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{below_minute}s"),
        (0, m) => format!("{m}m{below_minute}s"),
        (h, m) => format!("{h}h{m}m{below_minute}s"),
    }
}

fn with_fraction(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let fraction = format!("{:0width$}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        return (value / unit).to_string();
    }
    format!("{}.{fraction}", value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, nanos: Option<u64>) {
        assert_eq!(
            parse_duration(text),
            nanos.map(Duration::from_nanos),
            "{text}"
        );
    }

    #[test]
    fn parses_what_go_parses() {
        check("0", Some(0));
        check("5s", Some(5_000_000_000));
        check("+5s", Some(5_000_000_000));
        check("300ms", Some(300_000_000));
        check("1.5h", Some(5_400_000_000_000));
        check("1h2m3s", Some(3_723_000_000_000));
        check(".5s", Some(500_000_000));
        check("5.s", Some(5_000_000_000));
        check("10µs", Some(10_000));
        check("10μs", Some(10_000));
        check("2us3ns", Some(2_003));
        check("0.100000000000000000000h", Some(360_000_000_000));
        for bad in [
            "", "3", "-5s", "s", ".", "-", ".s", "1x", "1.2.3s", "+", " 1s", "1s ",
        ] {
            check(bad, None);
        }
        check("3000000h", None);
        check("99999999999999999999999s", None);
    }

    #[test]
    fn formats_as_go_formats() {
        for text in [
            "0s",
            "1ns",
            "1.1µs",
            "2.2ms",
            "3.3s",
            "4m5s",
            "4m5.001s",
            "5h6m7.001s",
            "2s",
            "1m0s",
            "1h0m0s",
            "300ms",
        ] {
            let duration = parse_duration(text).expect("a duration Go prints");
            assert_eq!(format_duration(duration), text);
        }
    }
}
