//! `General.Throttling`: a rate of transactions, divided equally among the clients that send.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_crypto::Certificate;

/// Holds each client, and each organisation, to its share of the rate. Clients are told apart by
/// certificate, organisations by who issued it; clients without one are not held back, as in
/// Fabric.
pub(crate) struct Limiter {
    clients: Mutex<Shares<[u8; 32]>>,
    organisations: Mutex<Shares<Vec<u8>>>,
}

impl Limiter {
    pub(crate) fn new(rate: u32, inactivity: Duration) -> Self {
        Self {
            clients: Mutex::new(Shares::new(rate, inactivity)),
            organisations: Mutex::new(Shares::new(rate, inactivity)),
        }
    }

    /// Waits until a client with this certificate may send again.
    pub(crate) async fn wait(&self, certificate: Option<&Bytes>) {
        let Some(certificate) = certificate else {
            return;
        };
        let client = selvage_crypto::sha256(certificate);
        let issuer = Certificate::from_der(certificate)
            .ok()
            .and_then(|c| c.aki().map(<[u8]>::to_vec))
            .unwrap_or_default();
        let now = Instant::now();
        let pause = self.clients.lock().take(client, now);
        let pause = pause.max(self.organisations.lock().take(issuer, now));
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Who sent lately, and when each may send again.
struct Shares<K> {
    rate: u32,
    inactivity: Duration,
    next: HashMap<K, Instant>,
    swept: Option<Instant>,
}

/// Senders remembered at most.
const REMEMBERED: usize = 10_000;

impl<K: Hash + Eq> Shares<K> {
    fn new(rate: u32, inactivity: Duration) -> Self {
        Self {
            rate,
            inactivity,
            next: HashMap::new(),
            swept: None,
        }
    }

    /// Takes one turn and returns how long to wait for it.
    fn take(&mut self, key: K, now: Instant) -> Duration {
        let due = self
            .swept
            .is_none_or(|at| now.duration_since(at) >= self.inactivity);
        if due || self.next.len() >= REMEMBERED {
            let inactivity = self.inactivity;
            self.next
                .retain(|_, next| now.saturating_duration_since(*next) < inactivity);
            self.swept = Some(now);
            if self.next.len() >= REMEMBERED {
                self.next.clear();
            }
        }
        let turn = self.next.get(&key).copied().unwrap_or(now).max(now);
        let others = u32::from(!self.next.contains_key(&key));
        let senders = self.next.len() as u32 + others;
        let pause = Duration::from_secs(1) * senders / self.rate.max(1);
        self.next.insert(key, turn + pause);
        turn - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_equal_and_come_back() {
        let mut shares = Shares::new(10, Duration::from_secs(5));
        let start = Instant::now();
        let millis = Duration::from_millis;
        assert_eq!(shares.take("a", start), Duration::ZERO);
        assert_eq!(shares.take("a", start), millis(100));
        assert_eq!(shares.take("b", start), Duration::ZERO);
        // Two senders now: each turn costs twice as much.
        assert_eq!(shares.take("b", start), millis(200));
        assert_eq!(shares.take("a", start), millis(200));
        assert_eq!(shares.take("a", start), millis(400));
        // Both fell silent.
        let later = start + Duration::from_secs(10);
        assert_eq!(shares.take("a", later), Duration::ZERO);
        assert_eq!(shares.take("a", later), millis(100));
    }
}
