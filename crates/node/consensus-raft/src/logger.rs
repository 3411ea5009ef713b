//! The Raft library's log lines, in our log.

use slog::{Drain, Level, Logger, OwnedKVList, Record};

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        let text = record.msg();
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{text}"),
            Level::Warning => tracing::warn!(target: "raft", "{text}"),
            _ => tracing::debug!(target: "raft", "{text}"),
        }
        Ok(())
    }
}

/// A logger whose lines go to `tracing`; what Raft calls information is for debugging here.
pub(crate) fn to_tracing() -> Logger {
    Logger::root(ToTracing, slog::o!())
}
