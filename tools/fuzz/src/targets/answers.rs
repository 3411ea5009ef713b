//! What a server answers to a node that follows a channel: streams of blocks and statuses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use selvage_env::{Env, Rng, SeededRng};
use selvage_net::axum::Router;
use selvage_net::axum::body::Body;
use selvage_net::axum::extract::Request;
use selvage_net::axum::routing::post;
use selvage_net::deliver::{Follower, Kind};
use selvage_net::server::{Server, ServerOptions};
use selvage_net::{CancellationToken, Endpoint};
use selvage_proto::common::{Block, BlockHeader, Status};
use selvage_proto::orderer::DeliverResponse as FromOrderer;
use selvage_proto::orderer::deliver_response::Type as OrdererType;
use selvage_proto::peer::DeliverResponse as FromPeer;
use selvage_proto::peer::deliver_response::Type as PeerType;

use crate::peer::frame;
use crate::pick::{Pick, Put};
use crate::reach::reach;
use crate::world::{CHANNEL, world};

/// Longer than any attempt takes.
const LONG: Duration = Duration::from_secs(60);

/// What the server says next.
#[derive(Default)]
struct Script {
    answer: Bytes,
    /// The gRPC status at the end; none breaks the stream off.
    status: Option<u8>,
}

/// A server that says what an input says.
struct Station {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    answered: Arc<AtomicBool>,
}

fn station() -> &'static Mutex<Station> {
    static STATION: OnceLock<Mutex<Station>> = OnceLock::new();
    STATION.get_or_init(|| Mutex::new(Station::new()))
}

impl Station {
    fn new() -> Self {
        let builder = &mut tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        let script = Arc::new(Mutex::new(Script::default()));
        let answered = Arc::new(AtomicBool::new(false));
        let (says, said) = (script.clone(), answered.clone());
        let answer = move |request: Request| {
            let (says, said) = (says.clone(), said.clone());
            async move { respond(request, &says, &said) }
        };
        let router = Router::new()
            .route("/orderer.AtomicBroadcast/Deliver", post(answer.clone()))
            .route("/protos.Deliver/Deliver", post(answer));
        let server = Server::bind("127.0.0.1:0", ServerOptions::grpc(None));
        let server = runtime.block_on(server).expect("a port");
        let address = server.local_addr();
        runtime.spawn(async move { server.serve(router, CancellationToken::new()).await });
        Self {
            runtime,
            address,
            script,
            answered,
        }
    }

    /// Follows the channel until the server's one answer is over. Gives the blocks that were taken.
    fn follow(&mut self, kind: Kind, script: Script) -> Vec<Block> {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
        self.answered.store(false, Ordering::SeqCst);
        let stop = CancellationToken::new();
        let endpoint = Endpoint::new(self.address.to_string(), None);
        let follower = Follower {
            channel_id: CHANNEL.to_owned(),
            kind,
            signer: Arc::new(world().client.clone()),
            endpoints: Arc::new(move || vec![endpoint.clone()]),
            clock: Env::test(1).clock,
            rng: Arc::new(Once {
                rng: SeededRng::new(1),
                answered: self.answered.clone(),
                stop: stop.clone(),
            }),
            max_pause: LONG,
            idle: LONG,
            best_effort: false,
            refused: None,
        };
        let mut taken = Vec::new();
        let ended = self.runtime.block_on(async {
            let run = follower.run(0, stop, |block, _| {
                taken.push(block);
                std::future::ready(Ok(()))
            });
            tokio::time::timeout(LONG, run).await
        });
        assert!(ended.is_ok(), "following does not end");
        taken
    }
}

/// Chance that ends the following as soon as it is asked for after an answer: the follower wants to
/// know how long to pause before the next attempt.
struct Once {
    rng: SeededRng,
    answered: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Rng for Once {
    fn fill(&self, buf: &mut [u8]) {
        if self.answered.load(Ordering::SeqCst) {
            self.stop.cancel();
        }
        self.rng.fill(buf);
    }
}

fn respond(
    request: Request,
    script: &Mutex<Script>,
    answered: &AtomicBool,
) -> http::Response<Body> {
    // Requests stay open as long as somebody listens; not to read them would end the call.
    tokio::spawn(request.into_body().collect());
    let script = std::mem::take(&mut *script.lock().unwrap_or_else(PoisonError::into_inner));
    answered.store(true, Ordering::SeqCst);
    let trailers = script.status.map(|status| {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from(u16::from(status)));
        Ok::<_, Infallible>(trailers)
    });
    let body = Full::new(script.answer).with_trailers(std::future::ready(trailers));
    http::Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .expect("a response")
}

/// The first byte says which service, the second which status ends the stream, the third how many
/// pieces follow, each a message that is framed here; then comes a rest that is not.
pub(super) fn deliver(input: &[u8]) {
    let mut pick = Pick::new(input);
    let kind = pick.of(&[Kind::Orderer, Kind::Peer]);
    let status = pick.of(&[Some(0), None, Some(2), Some(14), Some(16)]);
    let messages = usize::from(pick.byte() % 8);
    let mut answer = Vec::new();
    for _ in 0..messages {
        answer.extend_from_slice(&frame(pick.piece()));
    }
    let rest = pick.rest();
    answer.extend_from_slice(rest);
    let script = Script {
        answer: answer.into(),
        status,
    };
    let mut station = station().lock().unwrap_or_else(PoisonError::into_inner);
    let taken = station.follow(kind, script);
    if !taken.is_empty() {
        reach("a block");
    }
    if taken.len() > 1 {
        reach("the next block");
    }
    assert!(taken.len() <= messages + rest.len() / 5);
    for (due, block) in (0..).zip(&taken) {
        assert_eq!(block.number(), due, "blocks come in order");
    }
}

fn block(number: u64) -> Block {
    Block {
        header: Some(BlockHeader {
            number,
            previous_hash: Bytes::from_static(b"before"),
            data_hash: Bytes::from_static(b"data"),
        }),
        ..world().genesis.clone()
    }
}

/// What a server says that has two blocks: both, and that this was all.
fn answers(kind: Kind) -> [Vec<u8>; 3] {
    let (blocks, success) = ([block(0), block(1)], Status::Success as i32);
    let orderer = |what| FromOrderer { r#type: Some(what) }.encode_to_vec();
    let peer = |what| FromPeer { r#type: Some(what) }.encode_to_vec();
    let [first, second] = blocks;
    match kind {
        Kind::Orderer => [
            orderer(OrdererType::Block(first)),
            orderer(OrdererType::Block(second)),
            orderer(OrdererType::Status(success)),
        ],
        Kind::Peer => [
            peer(PeerType::Block(first)),
            peer(PeerType::Block(second)),
            peer(PeerType::Status(success)),
        ],
    }
}

pub(super) fn deliver_seeds() -> Vec<Vec<u8>> {
    let kinds = [(0, Kind::Orderer), (1, Kind::Peer)];
    let mut seeds = Vec::new();
    for (number, kind) in kinds {
        let [first, second, status] = answers(kind);
        let put = Put::default().byte(number).byte(0).byte(3);
        let whole = put.piece(&first).piece(&second).piece(&status);
        seeds.push(whole.rest([]));
        let put = Put::default().byte(number).byte(1).byte(1);
        seeds.push(put.piece(&status).rest([0, 0, 0, 0, 9, 1]));
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_either_service_are_taken_in_order() {
        for kind in [Kind::Orderer, Kind::Peer] {
            let [first, second, status] = answers(kind).map(|message| frame(&message));
            let follow = |answer: Vec<Bytes>| {
                let script = Script {
                    answer: answer.concat().into(),
                    status: Some(0),
                };
                let station = station().lock();
                let mut station = station.unwrap_or_else(PoisonError::into_inner);
                station.follow(kind, script).len()
            };
            assert_eq!(follow(vec![first.clone(), second.clone(), status]), 2);
            assert_eq!(follow(vec![second.clone(), first.clone()]), 0);
            assert_eq!(follow(vec![first.clone(), first, second]), 1);
        }
    }
}
