//! `General.Throttling`: a rate of transactions, divided equally among the clients that send, and
//! among their organisations.
//!
//! As in Fabric (`orderer/common/throttle`), a client among three has a third of the rate, and an
//! organisation among two has half of it, which its clients share: two clients of one organisation
//! and one of another get a quarter each and a third. Fabric hands shares out once a second; here
//! each message has its turn, so that none waits for the second to end.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use selvage_crypto::Certificate;
use selvage_env::Clock;
use selvage_net::metrics::{Counters, Metrics};
use tokio::sync::Mutex as Gate;

/// Holds each client, and each organisation, to its share of the rate. Clients are told apart by
/// the key of their certificate, organisations by who issued it; clients without one are not held
/// back, as in Fabric.
pub(crate) struct Limiter {
    clock: Arc<dyn Clock>,
    clients: Mutex<Shares<Vec<u8>>>,
    organisations: Mutex<Shares<Vec<u8>>>,
    /// One message of a client a time waits for its organisation's turn. Otherwise a client with many
    /// streams would have as many places in that line as it has streams, and leave the others of its
    /// organisation one each.
    gates: Mutex<HashMap<Vec<u8>, Arc<Gate<()>>>>,
    held_back: Counters,
}

impl Limiter {
    pub(crate) fn new(
        rate: u32,
        inactivity: Duration,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            clock,
            clients: Mutex::new(Shares::new(rate, inactivity)),
            organisations: Mutex::new(Shares::new(rate, inactivity)),
            gates: Mutex::default(),
            held_back: metrics.counters(
                "broadcast_throttled_count",
                "The number of messages that General.Throttling held back, by whose share was used up.",
                &["share"],
            ),
        }
    }

    /// Waits until a client with this certificate may send again.
    pub(crate) async fn wait(&self, certificate: Option<&Bytes>) {
        let Some(certificate) = certificate else {
            return;
        };
        let (client, organisation) = parties(certificate);
        let gate = self.gate(&client);
        let _first = gate.lock().await;
        self.turn("client", &self.clients, client).await;
        self.turn("organization", &self.organisations, organisation)
            .await;
    }

    async fn turn(&self, share: &str, shares: &Mutex<Shares<Vec<u8>>>, key: Vec<u8>) {
        let pause = shares.lock().take(key, self.clock.monotonic());
        if !pause.is_zero() {
            self.held_back.with(&[share]).inc();
            tokio::time::sleep(pause).await;
        }
    }

    fn gate(&self, client: &[u8]) -> Arc<Gate<()>> {
        let mut gates = self.gates.lock();
        if let Some(gate) = gates.get(client) {
            return gate.clone();
        }
        if gates.len() >= REMEMBERED {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        gates.entry(client.to_vec()).or_default().clone()
    }
}

/// Who a certificate's owner is and to whom it belongs, by the identifiers of its key and of its
/// issuer's, as Fabric tells them.
fn parties(certificate: &Bytes) -> (Vec<u8>, Vec<u8>) {
    let whole = || selvage_crypto::sha256(certificate).to_vec();
    let Ok(read) = Certificate::from_der(certificate) else {
        return (whole(), Vec::new());
    };
    let client = read.ski().map_or_else(whole, <[u8]>::to_vec);
    let organisation = read.aki().map(<[u8]>::to_vec);
    (client, organisation.unwrap_or_default())
}

/// Who sent lately, and when each may send again.
struct Shares<K> {
    rate: u32,
    inactivity: Duration,
    next: HashMap<K, Duration>,
    swept: Duration,
}

/// Senders remembered at most.
const REMEMBERED: usize = 10_000;

/// How often the silent ones are looked for.
const SWEEP: Duration = Duration::from_secs(1);

impl<K: Hash + Eq> Shares<K> {
    fn new(rate: u32, inactivity: Duration) -> Self {
        Self {
            rate,
            inactivity,
            next: HashMap::new(),
            swept: Duration::ZERO,
        }
    }

    /// Takes one turn and returns how long to wait for it. `now` never goes back.
    fn take(&mut self, key: K, now: Duration) -> Duration {
        if now.saturating_sub(self.swept) >= SWEEP || self.next.len() >= REMEMBERED {
            let inactivity = self.inactivity;
            self.next
                .retain(|_, next| now.saturating_sub(*next) < inactivity);
            self.swept = now;
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
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};

    use super::*;

    #[test]
    fn shares_are_equal_and_come_back() {
        let mut shares = Shares::new(10, Duration::from_secs(5));
        let start = Duration::from_secs(1_000);
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

    /// A client that sends as fast as it may from one second to another.
    struct Sender {
        name: &'static str,
        organisation: &'static str,
        from: u64,
        until: u64,
    }

    fn sender(name: &'static str, organisation: &'static str, from: u64, until: u64) -> Sender {
        Sender {
            name,
            organisation,
            from,
            until,
        }
    }

    /// What a sender waits for next, in the order of [`Limiter::wait`].
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Stage {
        Client,
        Organisation,
        Through,
    }

    /// How many messages per second each sender gets through between two seconds, on average.
    fn rates(rate: u32, senders: &[Sender], begin: u64, end: u64) -> Vec<f64> {
        let seconds = Duration::from_secs;
        let inactivity = seconds(5);
        let mut clients = Shares::new(rate, inactivity);
        let mut organisations = Shares::new(rate, inactivity);
        let starts = senders.iter().enumerate();
        let mut events: BinaryHeap<_> = starts
            .map(|(i, sender)| Reverse((seconds(sender.from), i, Stage::Client)))
            .collect();
        let mut through = vec![0u32; senders.len()];
        while let Some(Reverse((now, i, stage))) = events.pop() {
            let sender = &senders[i];
            let next = match stage {
                Stage::Client => (clients.take(sender.name, now), Stage::Organisation),
                Stage::Organisation => {
                    (organisations.take(sender.organisation, now), Stage::Through)
                }
                Stage::Through => {
                    through[i] += u32::from(now >= seconds(begin) && now < seconds(end));
                    (Duration::ZERO, Stage::Client)
                }
            };
            if now < seconds(sender.until) {
                events.push(Reverse((now + next.0, i, next.1)));
            }
        }
        let average = |count: u32| f64::from(count) / (end - begin) as f64;
        through.into_iter().map(average).collect()
    }

    fn check(senders: &[Sender], begin: u64, end: u64, expected: &[f64]) {
        let found = rates(120, senders, begin, end);
        let close = |(found, expected): (&f64, &f64)| (found - expected).abs() <= 0.01 * expected;
        let all = found.iter().zip(expected).all(close);
        assert!(all, "{found:?} instead of {expected:?}");
    }

    #[test]
    fn clients_share_and_so_do_their_organisations() {
        check(&[sender("a1", "a", 0, 100)], 0, 100, &[120.0]);
        let same = [sender("a1", "a", 0, 100), sender("a2", "a", 0, 100)];
        check(&same, 0, 100, &[60.0, 60.0]);
        // A quarter each for the two that share an organisation's half; a third for the other, as
        // one of three clients.
        let mixed = [
            sender("a1", "a", 0, 100),
            sender("a2", "a", 0, 100),
            sender("b1", "b", 0, 100),
        ];
        check(&mixed, 0, 100, &[30.0, 30.0, 40.0]);
        let three = [
            sender("a1", "a", 0, 100),
            sender("a2", "a", 0, 100),
            sender("a3", "a", 0, 100),
            sender("b1", "b", 0, 100),
        ];
        check(&three, 0, 100, &[20.0, 20.0, 20.0, 30.0]);
    }

    #[test]
    fn a_silent_client_gives_its_share_back() {
        let senders = [
            sender("a1", "a", 0, 100),
            sender("a2", "a", 0, 40),
            sender("b1", "b", 0, 100),
        ];
        check(&senders, 0, 40, &[30.0, 30.0, 40.0]);
        check(&senders[..1], 50, 100, &[120.0]);
        let after = rates(120, &senders, 50, 100);
        assert!((after[0] - 60.0).abs() < 1.0, "{after:?}");
        assert!((after[2] - 60.0).abs() < 1.0, "{after:?}");
    }

    #[test]
    fn certificates_tell_client_and_organisation() {
        let validity = Validity::ten_years(1_700_000_000);
        let authority = |name: &str| {
            let subject = Subject::in_san_francisco(name.to_owned());
            Authority::new_root(&subject, validity).unwrap()
        };
        let (a, b) = (authority("a"), authority("b"));
        let issue = |by: &Authority| {
            let profile = LeafProfile::tls("client", &["client"], validity);
            let (certificate, _) = by.issue_new(&profile).unwrap();
            parties(&Bytes::copy_from_slice(certificate.der()))
        };
        let (one, two, other) = (issue(&a), issue(&a), issue(&b));
        assert_ne!(one.0, two.0);
        assert_eq!(one.1, two.1);
        assert_ne!(one.1, other.1);
        let garbage = parties(&Bytes::from_static(b"no certificate"));
        assert_eq!(garbage.1, b"");
    }
}
