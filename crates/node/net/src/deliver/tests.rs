//! Access over the life of a stream, with a clock and a channel that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_env::{Clock, ManualClock, System};
use selvage_proto::Message;
use selvage_proto::common::{Block, BlockHeader, Status};
use selvage_proto::msp::SerializedIdentity;
use selvage_proto::orderer::SeekInfo;
use selvage_proto::orderer::seek_info::SeekErrorResponse;
use tokio::sync::watch;

use super::serve::{End, Session};
use super::{
    Deliverer, SeekRequest, Signer, Source, SourceError, Sources, between, from_on, oldest,
    seek_envelope, specified,
};
use crate::metrics::{DeliverMetrics, Metrics};

struct Channel {
    height: watch::Sender<u64>,
    sequence: AtomicU64,
    forbidden: AtomicBool,
    errored: AtomicBool,
    closed: AtomicBool,
    judged: AtomicU64,
}

impl Source for Channel {
    fn height(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    fn read(&self, number: u64) -> Result<Arc<Block>, SourceError> {
        let header = Some(BlockHeader {
            number,
            ..Default::default()
        });
        Ok(Arc::new(Block {
            header,
            ..Default::default()
        }))
    }

    fn config_sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }

    fn authorize(&self, _: &SeekRequest) -> Result<(), String> {
        self.judged.fetch_add(1, Ordering::SeqCst);
        match self.forbidden.load(Ordering::SeqCst) {
            true => Err("not you".to_owned()),
            false => Ok(()),
        }
    }

    fn errored(&self) -> bool {
        self.errored.load(Ordering::SeqCst)
    }

    fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

struct Node(Arc<Channel>);

impl Sources for Node {
    fn source(&self, channel_id: &str) -> Option<Arc<dyn Source>> {
        (channel_id == "trade").then(|| self.0.clone() as Arc<dyn Source>)
    }
}

struct Reader(Bytes);

impl Signer for Reader {
    fn creator(&self) -> Bytes {
        self.0.clone()
    }

    fn sign(&self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

struct Scene {
    channel: Arc<Channel>,
    clock: Arc<ManualClock>,
    deliverer: Deliverer,
    creator: Bytes,
}

const HOUR: i64 = 3600;

/// A channel of five blocks and a reader whose certificate ends in an hour.
fn scene() -> Scene {
    let now = System.unix_seconds();
    let channel = Arc::new(Channel {
        height: watch::Sender::new(5),
        sequence: AtomicU64::new(0),
        forbidden: AtomicBool::new(false),
        errored: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        judged: AtomicU64::new(0),
    });
    let clock = Arc::new(ManualClock::new(now * 1_000_000_000));
    let ca = Authority::new_root(&Subject::named("ca"), Validity::ten_years(now)).unwrap();
    let validity = Validity {
        not_before: now - HOUR,
        not_after: now + HOUR,
    };
    let profile = LeafProfile::identity("reader", NodeRole::Peer, validity);
    let (certificate, _) = ca.issue_new(&profile).unwrap();
    let creator = SerializedIdentity {
        mspid: "Org1MSP".to_owned(),
        id_bytes: certificate.to_pem().into(),
    };
    Scene {
        deliverer: Deliverer {
            sources: Arc::new(Node(channel.clone())),
            clock: clock.clone(),
            time_window: Duration::from_secs(900),
            mutual_tls: false,
            expiration_checks: true,
            metrics: DeliverMetrics::new(&Metrics::default()),
        },
        channel,
        clock,
        creator: creator.encode_to_vec().into(),
    }
}

impl Scene {
    fn open(&self, seek: &SeekInfo) -> Result<Session, Status> {
        let signer = Reader(self.creator.clone());
        let clock = self.clock.as_ref();
        let envelope = seek_envelope("trade", seek, &signer, None, clock, &System);
        self.deliverer.open(envelope, None)
    }
}

async fn next(session: &mut Session) -> Result<Option<u64>, Status> {
    match session.next().await {
        Ok(block) => Ok(block.map(|block| block.number())),
        Err(End::Status(status)) => Err(status),
        Err(End::Broken(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn access_is_judged_again_with_each_configuration() {
    let scene = scene();
    let mut session = scene.open(&from_on(0)).unwrap();
    assert_eq!(next(&mut session).await, Ok(Some(0)));
    assert_eq!(next(&mut session).await, Ok(Some(1)));
    assert_eq!(
        scene.channel.judged.load(Ordering::SeqCst),
        1,
        "not for each block"
    );
    scene.channel.sequence.store(1, Ordering::SeqCst);
    assert_eq!(next(&mut session).await, Ok(Some(2)));
    assert_eq!(scene.channel.judged.load(Ordering::SeqCst), 2);
    scene.channel.forbidden.store(true, Ordering::SeqCst);
    assert_eq!(
        next(&mut session).await,
        Ok(Some(3)),
        "same configuration, same answer"
    );
    scene.channel.sequence.store(2, Ordering::SeqCst);
    assert_eq!(next(&mut session).await, Err(Status::Forbidden));
    assert_eq!(scene.open(&from_on(0)).err(), Some(Status::Forbidden));
}

#[tokio::test]
async fn streams_end_with_the_certificate() {
    let scene = scene();
    let mut session = scene.open(&from_on(0)).unwrap();
    assert_eq!(next(&mut session).await, Ok(Some(0)));
    scene.clock.advance(Duration::from_secs(HOUR as u64));
    assert_eq!(
        next(&mut session).await,
        Ok(Some(1)),
        "its last second counts"
    );
    scene.clock.advance(Duration::from_secs(1));
    assert_eq!(next(&mut session).await, Err(Status::Forbidden));
    assert_eq!(scene.open(&from_on(0)).err(), Some(Status::Forbidden));
}

#[tokio::test]
async fn expiry_can_be_switched_off() {
    let mut scene = scene();
    scene.deliverer.expiration_checks = false;
    scene.clock.advance(Duration::from_secs(2 * HOUR as u64));
    let mut session = scene.open(&from_on(4)).unwrap();
    assert_eq!(next(&mut session).await, Ok(Some(4)));
}

#[tokio::test]
async fn a_channel_that_closed_before_the_wait_is_noticed() {
    let scene = scene();
    for stop in [specified(u64::MAX), specified(9)] {
        let mut session = scene.open(&between(specified(5), stop)).unwrap();
        scene.channel.closed.store(true, Ordering::SeqCst);
        scene.channel.height.send_modify(|_| {});
        // Marked as seen before the wait begins, as when the close comes in between.
        session.height.borrow_and_update();
        assert_eq!(next(&mut session).await, Err(Status::ServiceUnavailable));
        scene.channel.closed.store(false, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn only_strict_readers_mind_a_consenter_error() {
    let scene = scene();
    scene.channel.errored.store(true, Ordering::SeqCst);
    let strict = between(oldest(), specified(0));
    assert_eq!(scene.open(&strict).err(), Some(Status::ServiceUnavailable));
    let best_effort = SeekInfo {
        error_response: SeekErrorResponse::BestEffort as i32,
        ..strict
    };
    let mut session = scene.open(&best_effort).unwrap();
    assert_eq!(next(&mut session).await, Ok(Some(0)));
    assert_eq!(next(&mut session).await, Ok(None));
}

#[tokio::test]
async fn waiting_readers_wake_with_the_block_they_want() {
    let scene = scene();
    let mut session = scene.open(&between(specified(5), specified(6))).unwrap();
    let waiting = tokio::spawn(async move {
        let first = next(&mut session).await;
        (first, next(&mut session).await, next(&mut session).await)
    });
    scene.channel.height.send_replace(6);
    tokio::task::yield_now().await;
    scene.channel.height.send_replace(7);
    assert_eq!(waiting.await.unwrap(), (Ok(Some(5)), Ok(Some(6)), Ok(None)));
}
