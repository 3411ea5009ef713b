//! Counters, gauges and histograms under Fabric's names, in Prometheus' text form.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter as RawCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as RawGauge;
use prometheus_client::metrics::histogram::Histogram as RawHistogram;
use prometheus_client::registry::{Metric, Registry};

type Labels = Vec<(&'static str, String)>;
type Forget = Box<dyn Fn(&str) + Send + Sync>;
type Refresh = Box<dyn Fn() + Send + Sync>;

/// The label that names a channel.
const CHANNEL: &str = "channel";

/// The metrics of one node. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    of_channels: Arc<Mutex<Vec<Forget>>>,
    refreshed: Arc<Mutex<Vec<Refresh>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Series that differ by labels.
#[derive(Clone)]
struct Series<M> {
    names: &'static [&'static str],
    family: Family<Labels, M, fn() -> M>,
    known: Arc<Mutex<HashSet<Labels>>>,
}

impl<M> fmt::Debug for Series<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names).finish()
    }
}

impl<M: Clone + Send + Sync + 'static> Series<M> {
    fn new(names: &'static [&'static str], make: fn() -> M) -> Self {
        Self {
            names,
            family: Family::new_with_constructor(make),
            known: Arc::default(),
        }
    }

    fn with(&self, values: &[&str]) -> M {
        let labels = labels(self.names, values);
        let there = self.family.get(&labels).map(|metric| metric.clone());
        there.unwrap_or_else(|| {
            self.known.lock().insert(labels.clone());
            self.family.get_or_create_owned(&labels)
        })
    }

    fn remove(&self, values: &[&str]) {
        let labels = labels(self.names, values);
        self.known.lock().remove(&labels);
        self.family.remove(&labels);
    }

    fn forget_channel(&self, channel: &str) {
        self.known.lock().retain(|labels| {
            let of_it = labels.iter().any(|(n, v)| *n == CHANNEL && v == channel);
            if of_it {
                self.family.remove(labels);
            }
            !of_it
        });
    }
}

/// A family of counters that differ by labels.
#[derive(Clone, Debug)]
pub struct Counters(Series<RawCounter>);

/// A family of gauges that differ by labels.
#[derive(Clone, Debug)]
pub struct Gauges(Series<RawGauge>);

/// A family of histograms of durations in seconds that differ by labels.
#[derive(Clone, Debug)]
pub struct Durations(Series<RawHistogram>);

/// One counter. It is cheap to keep and to raise.
#[derive(Clone, Debug)]
pub struct Counter(RawCounter);

/// One gauge. It is cheap to keep and to set.
#[derive(Clone, Debug)]
pub struct Gauge(RawGauge);

/// One histogram of durations.
#[derive(Clone, Debug)]
pub struct DurationHistogram(RawHistogram);

fn labels(names: &'static [&'static str], values: &[&str]) -> Labels {
    names
        .iter()
        .zip(values)
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect()
}

/// Fabric's default buckets, in seconds.
fn duration_histogram() -> RawHistogram {
    RawHistogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

impl Metrics {
    /// Registers a counter under Fabric's full name, for example `broadcast_processed_count`.
    pub fn counters(&self, name: &str, help: &str, names: &'static [&'static str]) -> Counters {
        Counters(self.series(name, help, names, RawCounter::default))
    }

    /// Registers a gauge.
    pub fn gauges(&self, name: &str, help: &str, names: &'static [&'static str]) -> Gauges {
        Gauges(self.series(name, help, names, RawGauge::default))
    }

    /// Registers a histogram of durations in seconds.
    pub fn durations(&self, name: &str, help: &str, names: &'static [&'static str]) -> Durations {
        Durations(self.series(name, help, names, duration_histogram))
    }

    /// Has `refresh` called before metrics are shown, for gauges that nobody keeps up to date
    /// meanwhile.
    pub fn before_shown(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refreshed.lock().push(Box::new(refresh));
    }

    /// Removes every series whose label `channel` names this one, which the node does not have any
    /// more. Counters and gauges that somebody keeps go on unseen.
    pub fn forget_channel(&self, channel: &str) {
        for forget in self.of_channels.lock().iter() {
            forget(channel);
        }
    }

    fn series<M>(
        &self,
        name: &str,
        help: &str,
        names: &'static [&'static str],
        make: fn() -> M,
    ) -> Series<M>
    where
        M: Clone + Send + Sync + 'static,
        Family<Labels, M, fn() -> M>: Metric,
    {
        let series = Series::new(names, make);
        self.register(name, help, series.family.clone());
        if names.contains(&CHANNEL) {
            let of_channels = series.clone();
            let forget: Forget = Box::new(move |channel| of_channels.forget_channel(channel));
            self.of_channels.lock().push(forget);
        }
        series
    }

    fn register(&self, name: &str, help: &str, metric: impl Metric) {
        // The encoder ends each help text with a full stop of its own.
        let help = help.strip_suffix('.').unwrap_or(help);
        self.registry.lock().register(name, help, metric);
    }

    /// All metrics in Prometheus' text form 0.0.4. Counters carry the names they were registered
    /// under: OpenMetrics would add `_total`, which Fabric's dashboards do not know.
    pub fn text(&self) -> String {
        for refresh in self.refreshed.lock().iter() {
            refresh();
        }
        let mut encoded = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut encoded, &self.registry.lock());
        let mut out = String::with_capacity(encoded.len());
        let mut counter = String::new();
        for line in encoded.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.strip_suffix(" counter").unwrap_or("");
                counter = name.to_owned();
            }
            if line == "# EOF" {
                continue;
            }
            let sample = (!counter.is_empty())
                .then(|| line.strip_prefix(&counter)?.strip_prefix("_total"))
                .flatten();
            match sample {
                Some(rest) => {
                    out.push_str(&counter);
                    push_sample(&mut out, rest);
                }
                None => push_sample(&mut out, line),
            }
            out.push('\n');
        }
        out
    }
}

/// Families without labels are written without braces.
fn push_sample(out: &mut String, sample: &str) {
    match sample.split_once('{') {
        Some((name, rest)) if rest.starts_with('}') => {
            out.push_str(name);
            out.push_str(&rest[1..]);
        }
        _ => out.push_str(sample),
    }
}

impl Counters {
    /// The counter with these label values, in the order of the names.
    pub fn with(&self, values: &[&str]) -> Counter {
        Counter(self.0.with(values))
    }

    /// Forgets the counter with these label values.
    pub fn remove(&self, values: &[&str]) {
        self.0.remove(values);
    }
}

impl Gauges {
    /// The gauge with these label values, in the order of the names.
    pub fn with(&self, values: &[&str]) -> Gauge {
        Gauge(self.0.with(values))
    }

    /// Forgets the gauge with these label values.
    pub fn remove(&self, values: &[&str]) {
        self.0.remove(values);
    }
}

impl Durations {
    /// The histogram with these label values, in the order of the names.
    pub fn with(&self, values: &[&str]) -> DurationHistogram {
        DurationHistogram(self.0.with(values))
    }

    /// Forgets the histogram with these label values.
    pub fn remove(&self, values: &[&str]) {
        self.0.remove(values);
    }
}

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.inc_by(n);
    }
}

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.set(value);
    }
}

impl DurationHistogram {
    /// Notes one duration.
    pub fn observe(&self, duration: std::time::Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

/// The counters of block delivery (Fabric: `common/deliver` metrics).
#[derive(Clone, Debug)]
pub struct DeliverMetrics {
    opened: Counter,
    closed: Counter,
    received: Counters,
    completed: Counters,
    sent: Counters,
}

/// The labels of one stream of blocks.
pub(crate) struct DeliverLabels {
    channel: String,
    filtered: &'static str,
    data_type: &'static str,
}

impl DeliverLabels {
    pub(crate) fn new(channel: &str, data_type: &'static str) -> Self {
        Self {
            channel: channel.to_owned(),
            filtered: if data_type == "filtered_block" {
                "true"
            } else {
                "false"
            },
            data_type,
        }
    }
}

const DELIVER: &[&str] = &["channel", "filtered", "data_type"];
const DELIVERED: &[&str] = &["channel", "filtered", "data_type", "success"];

impl DeliverMetrics {
    /// Registers the counters.
    pub fn new(metrics: &Metrics) -> Self {
        let opened = "The number of GRPC streams that have been opened for the deliver service.";
        let closed = "The number of GRPC streams that have been closed for the deliver service.";
        let received = "The number of deliver requests that have been received.";
        let completed = "The number of deliver requests that have been completed.";
        let sent = "The number of blocks sent by the deliver service.";
        Self {
            opened: metrics
                .counters("deliver_streams_opened", opened, &[])
                .with(&[]),
            closed: metrics
                .counters("deliver_streams_closed", closed, &[])
                .with(&[]),
            received: metrics.counters("deliver_requests_received", received, DELIVER),
            completed: metrics.counters("deliver_requests_completed", completed, DELIVERED),
            sent: metrics.counters("deliver_blocks_sent", sent, DELIVER),
        }
    }

    pub(crate) fn stream(&self) -> impl Drop + use<> {
        self.opened.inc();
        OnDrop(self.closed.clone())
    }

    pub(crate) fn requested(&self, l: &DeliverLabels) {
        self.received
            .with(&[&l.channel, l.filtered, l.data_type])
            .inc();
    }

    pub(crate) fn sent(&self, l: &DeliverLabels) -> Counter {
        self.sent.with(&[&l.channel, l.filtered, l.data_type])
    }

    pub(crate) fn completed(&self, l: &DeliverLabels, success: bool) {
        let success = if success { "true" } else { "false" };
        self.completed
            .with(&[&l.channel, l.filtered, l.data_type, success])
            .inc();
    }
}

struct OnDrop(Counter);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.inc();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn text_has_fabric_names() {
        let metrics = Metrics::default();
        let counters = metrics.counters("broadcast_processed_count", "Help.", &["channel"]);
        counters.with(&["one"]).add(3);
        metrics
            .gauges("ledger_height", "Height.", &["channel"])
            .with(&["one"])
            .set(7);
        let durations = metrics.durations("broadcast_validate_duration", "Time.", &[]);
        durations.with(&[]).observe(Duration::from_millis(7));
        let text = metrics.text();
        for line in [
            "# TYPE broadcast_processed_count counter",
            "broadcast_processed_count{channel=\"one\"} 3",
            "ledger_height{channel=\"one\"} 7",
            "broadcast_validate_duration_count 1",
            "broadcast_validate_duration_bucket{le=\"0.01\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("_total") && !text.contains("EOF"));
    }

    #[test]
    fn a_channel_that_is_gone_leaves_nothing() {
        let metrics = Metrics::default();
        let counters = metrics.counters("a_count", "Help.", &["host", "channel"]);
        let gauges = metrics.gauges("a_gauge", "Help.", &["channel"]);
        let others = metrics.gauges("hosts", "Help.", &["host"]);
        let kept = counters.with(&["x", "one"]);
        for channel in ["one", "two"] {
            counters.with(&["y", channel]).inc();
            gauges.with(&[channel]).set(1);
            others.with(&[channel]).set(1);
        }
        metrics.forget_channel("one");
        kept.inc();
        let text = metrics.text();
        assert!(!text.contains("channel=\"one\""), "{text}");
        for line in [
            "a_count{host=\"y\",channel=\"two\"} 1",
            "a_gauge{channel=\"two\"} 1",
            "hosts{host=\"one\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        // It may come again, and begins anew.
        counters.with(&["x", "one"]).inc();
        assert!(
            metrics
                .text()
                .contains("a_count{host=\"x\",channel=\"one\"} 1")
        );
    }

    #[test]
    fn closing_a_stream_counts() {
        let metrics = Metrics::default();
        let deliver = DeliverMetrics::new(&metrics);
        drop(deliver.stream());
        assert!(metrics.text().contains("deliver_streams_closed 1"));
    }
}
