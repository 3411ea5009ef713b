//! The log of one test. It hears what is told on the test's own thread, so the test runs its nodes
//! there (`#[tokio::test]` without threads).

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The lines so far: message and fields of everything from level info up.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Begins to listen, for as long as the guard lives.
    pub(crate) fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let guard = tracing::subscriber::set_default(lines.clone());
        (lines, guard)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// The lines behind the first `after` that contain all of these.
    pub(crate) fn with(&self, after: usize, parts: &[&str]) -> Vec<String> {
        let lines = self.0.lock();
        let lines = lines.iter().skip(after);
        let wanted = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
        wanted.cloned().collect()
    }
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().push(line.0 + " ");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
