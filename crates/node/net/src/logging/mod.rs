//! Logging of node binaries: to stderr, in lines shaped like Fabric's, at levels that
//! `FABRIC_LOGGING_SPEC` sets and that `/logspec` changes while the node runs.
//!
//! A logger's name is the module path with dots and without the `selvage_` in front, or the target
//! a log statement names itself.

mod format;
mod observe;
mod spec;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};

use crate::metrics::Metrics;
use format::FabricFormat;
use observe::{Counting, Observer};
use spec::{Spec, is_ours};

/// A logging specification that cannot be followed. The words are Fabric's.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// A segment is no level and no `logger=level`.
    #[error("invalid logging specification '{spec}': bad segment '{segment}'")]
    Segment {
        /// The whole specification.
        spec: String,
        /// The part at fault.
        segment: String,
    },
    /// A segment gives a level to nobody.
    #[error("invalid logging specification '{spec}': no logger specified in segment '{segment}'")]
    NoLogger {
        /// The whole specification.
        spec: String,
        /// The part at fault.
        segment: String,
    },
    /// A logger's name has characters that no logger has.
    #[error("invalid logging specification '{spec}': bad logger name '{logger}'")]
    Logger {
        /// The whole specification.
        spec: String,
        /// The name at fault.
        logger: String,
    },
    /// Somebody else already takes this process's log.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// The levels in force. Clones share them.
#[derive(Clone)]
pub struct Levels {
    current: Arc<ArcSwap<Spec>>,
    observer: Arc<OnceLock<Observer>>,
}

impl Levels {
    /// Levels after a specification such as `info:gossip,orderer.deliver=debug`; empty is `info`.
    pub fn new(spec: &str) -> Result<Self, LoggingError> {
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(Spec::parse(spec)?)),
            observer: Arc::default(),
        })
    }

    /// Takes another specification from now on. On an error the old one stays.
    pub fn set(&self, spec: &str) -> Result<(), LoggingError> {
        self.current.store(Arc::new(Spec::parse(spec)?));
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// Counts entries in these metrics from now on; in the first that are given.
    pub(crate) fn observe(&self, metrics: &Metrics) {
        self.observer.get_or_init(|| Observer::new(metrics));
    }

    /// The specification in force, in normal form.
    pub fn spec(&self) -> String {
        self.current.load().to_string()
    }
}

impl<S> Filter<S> for Levels {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let enabled = *metadata.level() <= self.current.load().level_of(metadata.target());
        if !enabled && let Some(observer) = self.observer.get() {
            observer.checked(metadata);
        }
        enabled
    }

    /// Entries of ours at a level that some logger writes are asked about each time, so that they
    /// count as checked, as in Fabric. Others cost nothing.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let spec = self.current.load();
        if *metadata.level() <= spec.level_of(metadata.target()) {
            Interest::always()
        } else if *metadata.level() <= spec.most_verbose() && is_ours(metadata.target()) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.current.load().most_verbose())
    }
}

/// Sends this process's log to stderr. `spec` and `format` are the values of
/// `FABRIC_LOGGING_SPEC` and `FABRIC_LOGGING_FORMAT`; the format `json` writes one object per line,
/// and any other gives Fabric's usual line.
pub fn init(spec: &str, format: &str) -> Result<Levels, LoggingError> {
    let levels = Levels::new(spec)?;
    let writer = Counting::new(&levels, std::io::stderr);
    let output = tracing_subscriber::fmt::layer().with_writer(writer);
    let set = if format == "json" {
        let layer = output.json().with_filter(levels.clone());
        install(tracing_subscriber::registry().with(layer))
    } else {
        let layer = output
            .event_format(FabricFormat::default())
            .with_filter(levels.clone());
        install(tracing_subscriber::registry().with(layer))
    };
    set.map(|()| levels)
}

fn install(subscriber: impl Subscriber + Send + Sync) -> Result<(), LoggingError> {
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)
}
