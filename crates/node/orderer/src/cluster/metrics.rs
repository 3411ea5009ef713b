//! Fabric's `cluster_comm_*` metrics (`orderer/common/cluster/metrics.go`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use selvage_net::metrics::{Counters, Durations, Gauge, Gauges, Metrics};

const LANE: &[&str] = &["host", "msg_type", "channel"];
const DESTINATION: &[&str] = &["host", "channel"];

/// The metrics of the links between orderers.
pub(crate) struct CommMetrics {
    pub(crate) queue_length: Gauges,
    pub(crate) queue_capacity: Gauges,
    pub(crate) send_time: Durations,
    pub(crate) dropped: Counters,
    pub(crate) workers: Counted,
    pub(crate) egress_streams: Counted,
    pub(crate) ingress_streams: Count,
    pub(crate) connections: Count,
}

impl CommMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let gauge = |name: &str, help: &str, names| {
            metrics.gauges(&format!("cluster_comm_{name}"), help, names)
        };
        Self {
            queue_length: gauge("egress_queue_length", "Length of the egress queue.", LANE),
            queue_capacity: gauge(
                "egress_queue_capacity",
                "Capacity of the egress queue.",
                LANE,
            ),
            workers: Counted::new(gauge(
                "egress_queue_workers",
                "Count of egress queue workers.",
                &["channel"],
            )),
            ingress_streams: Count::new(
                gauge(
                    "ingress_stream_count",
                    "Count of streams from other nodes.",
                    &[],
                )
                .with(&[]),
            ),
            egress_streams: Counted::new(gauge(
                "egress_stream_count",
                "Count of streams to other nodes.",
                &["channel"],
            )),
            connections: Count::new(
                gauge(
                    "egress_tls_connection_count",
                    "Count of TLS connections to other nodes.",
                    &[],
                )
                .with(&[]),
            ),
            send_time: metrics.durations(
                "cluster_comm_msg_send_time",
                "The time it takes to send a message in seconds.",
                DESTINATION,
            ),
            dropped: metrics.counters(
                "cluster_comm_msg_dropped_count",
                "Count of messages dropped.",
                DESTINATION,
            ),
        }
    }
}

/// A gauge that shows how many guards exist.
#[derive(Clone)]
pub(crate) struct Count(Arc<(AtomicI64, Gauge)>);

impl Count {
    fn new(gauge: Gauge) -> Self {
        gauge.set(0);
        Self(Arc::new((AtomicI64::new(0), gauge)))
    }

    /// Counts until the guard is dropped.
    pub(crate) fn enter(&self) -> Counting {
        self.add(1);
        Counting(self.clone())
    }

    fn add(&self, n: i64) {
        let (count, gauge) = &*self.0;
        gauge.set(count.fetch_add(n, Ordering::Relaxed) + n);
    }
}

/// See [`Count::enter`].
pub(crate) struct Counting(Count);

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// A [`Count`] for each channel.
pub(crate) struct Counted {
    gauges: Gauges,
    counts: Mutex<HashMap<String, Count>>,
}

impl Counted {
    fn new(gauges: Gauges) -> Self {
        Self {
            gauges,
            counts: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn enter(&self, channel: &str) -> Counting {
        let mut counts = self.counts.lock();
        if !counts.contains_key(channel) {
            let count = Count::new(self.gauges.with(&[channel]));
            counts.insert(channel.to_owned(), count);
        }
        counts[channel].enter()
    }

    /// Forgets a channel that is gone.
    pub(crate) fn forget(&self, channel: &str) {
        if self.counts.lock().remove(channel).is_some() {
            self.gauges.remove(&[channel]);
        }
    }
}
