//! Settings: this node's own, and the channel's (`smartbft.Options`) read for this engine.

use std::time::Duration;

use bytes::Bytes;
use malachite_types::{LinearTimeouts, Timeout};
use prost::Message as _;
use selvage_channel::parse_duration;
use selvage_ordering::Cutting;
use selvage_proto::orderer::smartbft::Options;
use selvage_proto::orderer::smartbft::options::Rotation;

/// Options of the BFT engine that are not the channel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BftOptions {
    /// When to cut.
    pub cutting: Cutting,
    /// How often the driver sends [`Input::Tick`](selvage_ordering::Input::Tick).
    pub tick: Duration,
    /// Messages that may wait, beyond which new ones are refused.
    pub max_waiting: usize,
    /// Bytes of messages that may wait, beyond which new ones are refused.
    pub max_waiting_bytes: usize,
    /// How long a message may wait for a block.
    pub patience: Duration,
    /// How long a message stays with the node that a client gave it to before it is passed on to
    /// the leader. Clients of BFT channels give their messages to all nodes, so most need not be.
    pub forward_after: Duration,
    /// How often nodes tell each other where they are.
    pub status_every: Duration,
    /// How long the others may be one block ahead before this node fetches it.
    pub catch_up_after: Duration,
    /// Largest message from another node.
    pub max_message_bytes: usize,
    /// Bytes after which the journal starts again with the next block.
    pub journal_bytes: usize,
}

impl Default for BftOptions {
    fn default() -> Self {
        Self {
            cutting: Cutting::default(),
            tick: Duration::from_millis(20),
            max_waiting: 20_000,
            max_waiting_bytes: 64 << 20,
            patience: Duration::from_secs(30),
            forward_after: Duration::from_millis(20),
            status_every: Duration::from_secs(1),
            catch_up_after: Duration::from_millis(400),
            max_message_bytes: 110 << 20,
            journal_bytes: 8 << 20,
        }
    }
}

impl BftOptions {
    /// A duration in ticks, at least one.
    pub(crate) fn ticks(&self, duration: Duration) -> u64 {
        let tick = self.tick.as_nanos().max(1);
        let ticks = duration.as_nanos().div_ceil(tick).max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// What the channel's settings come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// How long the leader may leave a message before everybody is told of it.
    pub(crate) spread_after: Duration,
    /// How long a leader may go on without a message before it gets no votes.
    pub(crate) complain_after: Duration,
    /// Blocks after which a leader gives way.
    pub(crate) rotate_after: Option<u64>,
    rounds: LinearTimeouts,
}

const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

impl Timing {
    /// From the consensus metadata of a configuration. SmartBFT's words are kept, its machine is
    /// not: `RequestForwardTimeout` is what a message may wait before all know of it, half for the
    /// way to the leader and half for the leader's answer; the rounds' timeouts follow from it.
    /// `RequestComplainTimeout` is what a leader may ignore a message, `ViewChangeTimeout` the most
    /// that a round may wait. What cannot be read counts as Fabric's default.
    pub(crate) fn of(metadata: &Bytes) -> Self {
        let options = Options::decode(metadata.clone()).unwrap_or_default();
        let read = |text: &str, default: u64| {
            let read = parse_duration(text).filter(|d| !d.is_zero());
            read.unwrap_or(Duration::from_secs(default))
                .clamp(SHORTEST, LONGEST)
        };
        let forward = read(&options.request_forward_timeout, 2);
        let complain = read(&options.request_complain_timeout, 20);
        let longest = read(&options.view_change_timeout, 20);
        let rotates = options.leader_rotation == Rotation::On as i32;
        Self {
            spread_after: forward / 2,
            complain_after: complain.max(forward),
            rotate_after: rotates.then(|| options.decisions_per_leader.max(1)),
            rounds: LinearTimeouts {
                propose: forward / 2,
                propose_delta: forward / 4,
                prevote: forward / 4,
                prevote_delta: forward / 8,
                precommit: forward / 8,
                precommit_delta: forward / 8,
                rebroadcast: forward / 2,
                max_timeout: longest.max(forward),
            },
        }
    }

    pub(crate) fn of_timeout(&self, timeout: Timeout) -> Duration {
        self.rounds.duration_for(timeout)
    }
}

#[cfg(test)]
mod tests {
    use malachite_types::Round;

    use super::*;

    #[test]
    fn settings_are_read_and_kept_within_reason() {
        let default = Timing::of(&Bytes::new());
        assert_eq!(default.spread_after, Duration::from_secs(1));
        assert_eq!(default.complain_after, Duration::from_secs(20));
        assert_eq!(default.rotate_after, None);
        let options = Options {
            request_forward_timeout: "4s".to_owned(),
            request_complain_timeout: "1ms".to_owned(),
            view_change_timeout: "999h".to_owned(),
            leader_rotation: Rotation::On as i32,
            ..Options::default()
        };
        let read = Timing::of(&options.encode_to_vec().into());
        assert_eq!(read.spread_after, Duration::from_secs(2));
        assert_eq!(read.complain_after, Duration::from_secs(4));
        assert_eq!(read.rotate_after, Some(1));
        let late = Timeout::propose(Round::new(u32::MAX));
        assert_eq!(read.of_timeout(late), LONGEST);
    }

    #[test]
    fn durations_become_ticks() {
        let options = BftOptions::default();
        assert_eq!(options.ticks(Duration::ZERO), 1);
        assert_eq!(options.ticks(Duration::from_millis(21)), 2);
        assert_eq!(options.ticks(Duration::MAX), u64::MAX);
    }
}
