//! Writing a moment as a date, in UTC.

use std::fmt;

/// A moment, in nanoseconds since 1970.
pub struct Moment(pub i64);

pub(crate) struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
}

impl Moment {
    /// Days to dates by counting from 0000-03-01 in cycles of 400 years, so that the leap day is
    /// the last of its year.
    fn civil(&self) -> Civil {
        let seconds = self.0.div_euclid(1_000_000_000);
        let days = seconds.div_euclid(86_400) + 719_468;
        let of_day = seconds.rem_euclid(86_400);
        let cycle = days.div_euclid(146_097);
        let of_cycle = days.rem_euclid(146_097);
        let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
        let of_year = of_cycle - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let month = if shifted < 10 {
            shifted + 3
        } else {
            shifted - 9
        };
        Civil {
            year: year + cycle * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * shifted + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanos: self.0.rem_euclid(1_000_000_000),
        }
    }

    /// `2026-11-22T19:45:00.123456789Z`.
    pub fn rfc3339(&self) -> impl fmt::Display {
        let c = self.civil();
        fmt::from_fn(move |f| {
            write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
                c.year, c.month, c.day, c.hour, c.minute, c.second, c.nanos
            )
        })
    }

    /// `2026-11-22 19:45:00.123 UTC`.
    pub(crate) fn log(&self) -> impl fmt::Display {
        let c = self.civil();
        fmt::from_fn(move |f| {
            write!(
                f,
                "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03} UTC",
                c.year,
                c.month,
                c.day,
                c.hour,
                c.minute,
                c.second,
                c.nanos / 1_000_000
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let check = |seconds: i64, text: &str| {
            let shown = Moment(seconds * 1_000_000_000).rfc3339().to_string();
            assert_eq!(shown, text);
        };
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_400, "2000-02-29T00:00:00.000000000Z");
        check(951_868_800, "2000-03-01T00:00:00.000000000Z");
        check(1_709_251_199, "2024-02-29T23:59:59.000000000Z");
        check(4_102_444_800, "2100-01-01T00:00:00.000000000Z");
        check(-1, "1969-12-31T23:59:59.000000000Z");
        assert_eq!(
            Moment(1_500_000_000).log().to_string(),
            "1970-01-01 00:00:01.500 UTC"
        );
    }
}
