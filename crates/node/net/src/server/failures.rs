//! Logging failed handshakes without letting one misconfigured dialler fill the log.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// One line per address and this long; failures in between are counted.
const QUIET: Duration = Duration::from_secs(60);
/// Addresses remembered at once; beyond that the oldest go.
const REMEMBERED: usize = 1024;

#[derive(Default)]
pub(super) struct HandshakeFailures {
    seen: Mutex<HashMap<IpAddr, Seen>>,
}

struct Seen {
    logged: Instant,
    suppressed: u64,
}

impl HandshakeFailures {
    pub(super) fn failed(&self, remote: SocketAddr, reason: &str) {
        if let Some(suppressed) = self.should_log(remote.ip(), Instant::now()) {
            tracing::warn!(
                %remote,
                suppressed,
                "TLS handshake failed: {reason}; further failures from this address are counted \
                 and reported once a minute"
            );
        }
    }

    pub(super) fn succeeded(&self, address: IpAddr) {
        self.seen.lock().remove(&address);
    }

    /// Whether this failure gets a line, and how many before it got none.
    fn should_log(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock();
        if let Some(entry) = seen.get_mut(&address) {
            if now.duration_since(entry.logged) < QUIET {
                entry.suppressed += 1;
                return None;
            }
            entry.logged = now;
            return Some(std::mem::take(&mut entry.suppressed));
        }
        if seen.len() >= REMEMBERED {
            seen.retain(|_, entry| now.duration_since(entry.logged) < QUIET);
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
        }
        let fresh = Seen {
            logged: now,
            suppressed: 0,
        };
        seen.insert(address, fresh);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_address_and_minute() {
        let failures = HandshakeFailures::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let start = Instant::now();
        assert_eq!(failures.should_log(a, start), Some(0));
        assert_eq!(failures.should_log(a, start), None);
        assert_eq!(failures.should_log(a, start + QUIET / 2), None);
        assert_eq!(failures.should_log(b, start), Some(0));
        assert_eq!(failures.should_log(a, start + QUIET), Some(2));
        failures.succeeded(a);
        assert_eq!(failures.should_log(a, start + QUIET), Some(0));
    }

    #[test]
    fn memory_is_bounded() {
        let failures = HandshakeFailures::default();
        let now = Instant::now();
        for n in 0..10_000u32 {
            failures.should_log(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(failures.seen.lock().len() <= REMEMBERED);
    }
}
