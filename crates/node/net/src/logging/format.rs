//! One line per event: time, number, level, logger, place, message.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use selvage_env::{Clock, System};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::spec::logger_name;
use crate::civil::Moment;

#[derive(Default)]
pub(super) struct FabricFormat {
    number: AtomicU64,
}

impl<S, N> FormatEvent<S, N> for FabricFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let mut line = String::with_capacity(160);
        write_line(&mut line, System.unix_nanos(), number, event)?;
        writer.write_str(&line)
    }
}

fn write_line(line: &mut String, now: i64, number: u64, event: &Event<'_>) -> fmt::Result {
    let metadata = event.metadata();
    let level = match *metadata.level() {
        Level::ERROR => "ERRO",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBU",
        Level::TRACE => "PAYL",
    };
    let module = metadata.module_path().unwrap_or("");
    let place = module.rsplit("::").next().unwrap_or(module);
    let logger = logger_name(metadata.target());
    write!(
        line,
        "{} {number:04x} {level} [{logger}] {place} -> ",
        Moment(now).log()
    )?;
    let mut fields = Fields::default();
    event.record(&mut fields);
    push_printable(line, &fields.message);
    push_printable(line, &fields.rest);
    line.push('\n');
    Ok(())
}

/// What clients send ends up in messages, and must not forge lines or move a terminal's cursor.
fn push_printable(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.rest, " {}={value:?}", field.name())
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.rest, " {}={value}", field.name());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let mut line = String::new();
        push_printable(&mut line, "a\nb\u{1b}[31m ü");
        assert_eq!(line, "a\\nb\\u{1b}[31m ü");
    }
}
