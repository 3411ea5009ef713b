//! What this node refused of others: counted each time, and told in the log once.
//!
//! Whoever sends what is refused may do so as often as they like, and must not fill the log with
//! it. So the first refusal for a reason on a channel is a line; further ones are only counted, in
//! `selvage_refused_count`, until there was none for a while.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use selvage_env::Clock;
use selvage_net::metrics::{Counters, Metrics};
use selvage_ordering::Refused;
use selvage_proto::common::Status;

/// How long there must be no refusal of a kind before the next is told again.
const QUIET: Duration = Duration::from_secs(60);

/// The longest text about one refusal, in characters: what is refused may be in it.
const LONGEST: usize = 1_000;

/// What metrics call a channel that this node does not have: its name is the sender's.
pub(crate) const UNKNOWN: &str = "unknown";

/// Why something was refused. A closed set: each is a series of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A consensus message, by the channel's engine.
    Consensus(Refused),
    /// A stream of another orderer.
    Cluster(Stream),
    /// A block that another orderer gave.
    Block,
    /// A client's message, with this answer.
    Broadcast(Status),
}

/// Why a stream of another orderer is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// It is about a channel that this node does not have, or not with this consensus.
    UnknownChannel,
    /// It shows no TLS certificate.
    NoCertificate,
    /// Nobody on the channel has its TLS certificate.
    UnknownCertificate,
    /// Its first message does not prove that it comes from the node it names.
    Forged,
    /// It is of another version, as Fabric's are.
    Version,
    /// Its node is no member of the channel any more.
    Former,
    /// It cannot be read, or says what no stream says.
    Malformed,
    /// A message is too large.
    TooLarge,
    /// Its node has too many of them.
    TooMany,
}

impl Reason {
    /// The value of the label `reason`.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Consensus(why) => format!("consensus_{}", why.name()),
            Self::Cluster(why) => format!("cluster_{}", why.name()),
            Self::Block => "fetched_block".to_owned(),
            Self::Broadcast(status) => {
                format!("broadcast_{}", status.as_str_name().to_lowercase())
            }
        }
    }

    /// Whether it is worth a warning: what is stale comes from nodes that were away, too.
    fn warns(self) -> bool {
        self != Self::Consensus(Refused::Stale)
    }
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::UnknownChannel => "unknown_channel",
            Self::NoCertificate => "no_certificate",
            Self::UnknownCertificate => "unknown_certificate",
            Self::Forged => "forged",
            Self::Version => "version",
            Self::Former => "former_member",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
        }
    }
}

/// Counts refusals and tells the log of them. Clones share everything.
#[derive(Clone)]
pub struct Refusals(Arc<Inner>);

struct Inner {
    counts: Counters,
    clock: Arc<dyn Clock>,
    told: Mutex<HashMap<(String, String), Told>>,
}

struct Told {
    last: Duration,
    untold: u64,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals")
    }
}

impl Refusals {
    /// Registers the counters.
    pub fn new(metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let counts = metrics.counters(
            "selvage_refused_count",
            "What this node refused of clients and of other orderers, by reason.",
            &["channel", "reason"],
        );
        Self(Arc::new(Inner {
            counts,
            clock,
            told: Mutex::default(),
        }))
    }

    /// Counts a refusal, and tells the log of it if it is the first of its kind for a while. The
    /// channel is one of this node's, or [`UNKNOWN`].
    pub(crate) fn note(&self, channel: &str, reason: Reason, what: impl fmt::Display) {
        let name = reason.name();
        self.0.counts.with(&[channel, &name]).inc();
        let what: String = what.to_string().chars().take(LONGEST).collect();
        let Some(untold) = self.first(channel, &name) else {
            tracing::debug!(channel, reason = name, "refused {what}");
            return;
        };
        let since = match untold {
            0 => String::new(),
            n => format!("; {n} more were refused since this was last told"),
        };
        let text = format!("refused {what}{since}; further ones are only counted for now");
        match reason.warns() {
            true => tracing::warn!(channel, reason = name, "{text}"),
            false => tracing::info!(channel, reason = name, "{text}"),
        }
    }

    /// Whether this one is told, and how many before it were not.
    fn first(&self, channel: &str, name: &str) -> Option<u64> {
        let now = self.0.clock.monotonic();
        let mut told = self.0.told.lock();
        let key = (channel.to_owned(), name.to_owned());
        let Some(kind) = told.get_mut(&key) else {
            let fresh = Told {
                last: now,
                untold: 0,
            };
            told.insert(key, fresh);
            return Some(0);
        };
        let quiet = now.saturating_sub(kind.last) >= QUIET;
        kind.last = now;
        if quiet {
            return Some(std::mem::take(&mut kind.untold));
        }
        kind.untold += 1;
        None
    }

    /// Forgets a channel that is gone.
    pub(crate) fn forget(&self, channel: &str) {
        self.0.told.lock().retain(|(of, _), _| of != channel);
    }
}

#[cfg(test)]
mod tests {
    use selvage_env::ManualClock;

    use super::*;

    #[test]
    fn the_first_is_told_and_the_next_after_a_quiet_while() {
        let clock = Arc::new(ManualClock::new(0));
        let metrics = Metrics::default();
        let refusals = Refusals::new(&metrics, clock.clone());
        let first = |channel: &str| refusals.first(channel, "x");
        assert_eq!(first("a"), Some(0));
        assert_eq!(first("a"), None);
        assert_eq!(first("b"), Some(0));
        assert_eq!(refusals.first("a", "y"), Some(0));
        // As long as they come, however slowly, they are not told.
        for _ in 0..5 {
            clock.advance(QUIET / 2);
            assert_eq!(first("a"), None);
        }
        clock.advance(QUIET);
        assert_eq!(first("a"), Some(6));
        assert_eq!(first("a"), None);
        refusals.forget("a");
        assert_eq!(first("a"), Some(0));
    }

    #[test]
    fn each_is_counted_by_channel_and_reason() {
        let metrics = Metrics::default();
        let refusals = Refusals::new(&metrics, Arc::new(ManualClock::new(0)));
        for _ in 0..3 {
            let reason = Reason::Consensus(Refused::Malformed);
            refusals.note("trade", reason, "a message");
        }
        refusals.note(UNKNOWN, Reason::Cluster(Stream::UnknownChannel), "a stream");
        refusals.note("trade", Reason::Block, "a block");
        refusals.note("trade", Reason::Broadcast(Status::BadRequest), "a message");
        let text = metrics.text();
        for (channel, reason, count) in [
            ("trade", "consensus_malformed", 3),
            ("unknown", "cluster_unknown_channel", 1),
            ("trade", "fetched_block", 1),
            ("trade", "broadcast_bad_request", 1),
        ] {
            let labels = format!("channel=\"{channel}\",reason=\"{reason}\"");
            let line = format!("selvage_refused_count{{{labels}}} {count}");
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
