//! Counts of the entries that are checked and written (Fabric: `common/flogging/metrics`).

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::Levels;
use crate::metrics::{Counter, Counters, Metrics};

/// Fabric's names of the levels, the most severe first.
const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "payload"),
];

/// Counters by level.
pub(super) struct Observer {
    checked: [Counter; 5],
    written: [Counter; 5],
}

impl Observer {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counters = |name: &str, help: &str| {
            let family: Counters = metrics.counters(name, help, &["level"]);
            LEVELS.map(|(_, level)| family.with(&[level]))
        };
        Self {
            checked: counters(
                "logging_entries_checked",
                "How many log entries were held against the levels in force.",
            ),
            written: counters(
                "logging_entries_written",
                "How many log entries were written.",
            ),
        }
    }

    /// An entry that the levels in force do not let through.
    pub(super) fn checked(&self, metadata: &Metadata<'_>) {
        count(&self.checked, metadata);
    }

    fn written(&self, metadata: &Metadata<'_>) {
        count(&self.checked, metadata);
        count(&self.written, metadata);
    }
}

fn count(counters: &[Counter; 5], metadata: &Metadata<'_>) {
    let levels = LEVELS.iter().zip(counters);
    for ((level, _), counter) in levels {
        if level == metadata.level() {
            counter.inc();
        }
    }
}

/// Hands out the log's writer, once an entry.
pub(super) struct Counting<W> {
    levels: Levels,
    writer: W,
}

impl<W> Counting<W> {
    pub(super) fn new(levels: &Levels, writer: W) -> Self {
        Self {
            levels: levels.clone(),
            writer,
        }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Counting<W> {
    type Writer = W::Writer;

    fn make_writer(&'a self) -> Self::Writer {
        self.writer.make_writer()
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        if let Some(observer) = self.levels.observer.get() {
            observer.written(metadata);
        }
        self.writer.make_writer_for(metadata)
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn entries_are_counted_as_fabric_counts_them() {
        let levels = Levels::new("info:chatty=debug").unwrap();
        let metrics = Metrics::default();
        let output = tracing_subscriber::fmt::layer()
            .with_writer(Counting::new(&levels, std::io::sink))
            .with_filter(levels.clone());
        let subscriber = tracing_subscriber::registry().with(output);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("before anybody counts");
            levels.observe(&metrics);
            tracing::warn!("written");
            tracing::debug!("not written, but some logger writes such entries");
            tracing::debug!(target: "chatty", "written");
            tracing::trace!("nobody writes such entries");
        });
        let text = metrics.text();
        for line in [
            "logging_entries_checked{level=\"warn\"} 1",
            "logging_entries_written{level=\"warn\"} 1",
            "logging_entries_checked{level=\"debug\"} 2",
            "logging_entries_written{level=\"debug\"} 1",
            "logging_entries_checked{level=\"payload\"} 0",
            "logging_entries_written{level=\"error\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
