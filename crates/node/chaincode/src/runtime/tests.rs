use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{
    ChaincodeEvent, ChaincodeId, ChaincodeInput, ChaincodeMessage, ChaincodeSpec, GetState,
    GetStateByRange, Response,
};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::BoxFuture;
use crate::ccaas::ServerEndpoint;
use crate::testing::{FakeContext, completed, message};

const ID: &str = "cc_1:aa";

/// A host whose processes are tasks: each start hands its request to the test.
struct FakeHost {
    starts: mpsc::Sender<(StartRequest, oneshot::Sender<String>)>,
    builds: AtomicUsize,
    target: Mutex<Result<Target, HostError>>,
}

struct Stop(Mutex<Option<oneshot::Sender<()>>>);

impl StopHandle for Stop {
    fn stop(&self) {
        if let Some(sender) = self.0.lock().unwrap().take() {
            let _ = sender.send(());
        }
    }
}

impl ChaincodeHost for FakeHost {
    fn build<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Target, HostError>> {
        self.builds.fetch_add(1, Ordering::SeqCst);
        let target = self.target.lock().unwrap().clone();
        Box::pin(async { target })
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<RunningChaincode, HostError>> {
        Box::pin(async {
            let (exit, exited) = oneshot::channel();
            let (stop, stopped) = oneshot::channel();
            self.starts.send((request, exit)).await.unwrap();
            Ok(RunningChaincode {
                exited: Box::pin(async {
                    tokio::select! {
                        reason = exited => reason.unwrap_or_else(|_| "gone".into()),
                        _ = stopped => "stopped by the peer".into(),
                    }
                }),
                stop: Box::new(Stop(Mutex::new(Some(stop)))),
            })
        })
    }

    fn build_log(&self, _: &str) -> Option<String> {
        None
    }
}

struct Issuer(AtomicUsize);

impl CertificateIssuer for Issuer {
    fn issue(&self, package_id: &str) -> Result<ClientCertificate, String> {
        let number = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(ClientCertificate {
            certificate_pem: "cert".into(),
            key_pem: "key".into(),
            certificate_der: Bytes::from(format!("{package_id}/{number}")),
            root_pem: "root".into(),
        })
    }
}

struct Dialler(Mutex<Vec<Result<ChaincodeStream, String>>>);

impl ServerDialler for Dialler {
    fn dial(&self, _: ServerEndpoint) -> BoxFuture<'_, Result<ChaincodeStream, String>> {
        let next = self.0.lock().unwrap().pop();
        Box::pin(async { next.unwrap_or_else(|| Err("connection refused".into())) })
    }
}

type Starts = mpsc::Receiver<(StartRequest, oneshot::Sender<String>)>;

struct Bench {
    runtime: Arc<Runtime>,
    starts: Starts,
    host: Arc<FakeHost>,
}

fn bench(config: RuntimeConfig, dialled: Vec<Result<ChaincodeStream, String>>) -> Bench {
    let (sender, starts) = mpsc::channel(4);
    let host = Arc::new(FakeHost {
        starts: sender,
        builds: AtomicUsize::new(0),
        target: Mutex::new(Ok(Target::Process)),
    });
    let parts = RuntimeParts {
        host: host.clone(),
        certificates: Some(Arc::new(Issuer(AtomicUsize::new(0)))),
        dialler: Arc::new(Dialler(Mutex::new(dialled))),
    };
    Bench {
        runtime: Runtime::new(config, parts),
        starts,
        host,
    }
}

fn request() -> LaunchRequest {
    LaunchRequest {
        package_id: ID.into(),
        name: "cc".into(),
        version: "1.0".into(),
    }
}

fn invocation(txid: &str) -> Invocation {
    Invocation {
        target: request(),
        channel: "ch".into(),
        txid: txid.into(),
        kind: InvokeKind::Transaction,
        input: ChaincodeInput {
            args: vec!["f".into()],
            ..Default::default()
        },
        proposal: None,
        timeout: None,
    }
}

/// A chaincode's end of a stream.
struct Fake {
    to_peer: mpsc::Sender<ChaincodeMessage>,
    from_peer: mpsc::Receiver<ChaincodeMessage>,
    served: tokio::task::JoinHandle<Result<(), SessionError>>,
}

impl Fake {
    fn connect(runtime: &Arc<Runtime>, certificate: Option<&str>) -> Self {
        let (to_peer, inbound) = mpsc::channel(16);
        let (outbound, from_peer) = mpsc::channel(16);
        let origin = StreamOrigin::Accepted {
            client_certificate: certificate.map(|c| Bytes::copy_from_slice(c.as_bytes())),
        };
        let runtime = runtime.clone();
        let served = tokio::spawn(async move { runtime.serve(origin, inbound, outbound).await });
        Self {
            to_peer,
            from_peer,
            served,
        }
    }

    async fn register(&mut self, name: &str) {
        let id = ChaincodeId {
            name: name.into(),
            ..Default::default()
        };
        self.to_peer
            .send(message(Type::Register, id))
            .await
            .unwrap();
    }

    async fn expect(&mut self, kind: Type) -> ChaincodeMessage {
        let message = self
            .from_peer
            .recv()
            .await
            .expect("the peer closed the stream");
        assert_eq!(Type::try_from(message.r#type), Ok(kind));
        message
    }

    async fn registered(runtime: &Arc<Runtime>, certificate: &str) -> Self {
        let mut fake = Self::connect(runtime, Some(certificate));
        fake.register(ID).await;
        fake.expect(Type::Registered).await;
        fake.expect(Type::Ready).await;
        fake
    }

    async fn send(&self, txid: &str, message: ChaincodeMessage) {
        self.to_peer
            .send(ChaincodeMessage {
                txid: txid.into(),
                ..message
            })
            .await
            .unwrap();
    }
}

fn execute(
    runtime: &Arc<Runtime>,
    invocation: Invocation,
    mut ctx: FakeContext,
) -> impl Future<
    Output = (
        Result<(Response, Option<ChaincodeEvent>), ExecuteError>,
        FakeContext,
    ),
> + Send
+ use<> {
    let runtime = runtime.clone();
    async move { (runtime.execute(invocation, &mut ctx).await, ctx) }
}

/// A running chaincode, and the means to end its process.
async fn running(bench: &mut Bench) -> (Fake, oneshot::Sender<String>) {
    let runtime = bench.runtime.clone();
    let launch = tokio::spawn(async move { runtime.launch(&request()).await });
    let (start, exit) = bench.starts.recv().await.unwrap();
    let der = start.tls.unwrap().certificate_der;
    let fake = Fake::registered(&bench.runtime, std::str::from_utf8(&der).unwrap()).await;
    launch.await.unwrap().unwrap();
    (fake, exit)
}

#[tokio::test(start_paused = true)]
async fn a_launch_waits_for_registration_and_names_the_process() {
    let config = RuntimeConfig {
        peer_id: "peer-abc-0".into(),
        ..Default::default()
    };
    let mut bench = bench(config, Vec::new());
    assert_eq!(bench.runtime.status(ID), ChaincodeStatus::Stopped);
    let runtime = bench.runtime.clone();
    let launch = tokio::spawn(async move { runtime.launch(&request()).await });
    let (start, _exit) = bench.starts.recv().await.unwrap();
    assert_eq!(start.log_tag, "peer.chaincode.dev-peer-abc-0-cc-1.0");
    assert_eq!(bench.runtime.status(ID), ChaincodeStatus::Starting);
    assert!(!launch.is_finished());
    let _fake = Fake::registered(&bench.runtime, "cc_1:aa/0").await;
    launch.await.unwrap().unwrap();
    assert_eq!(bench.runtime.status(ID), ChaincodeStatus::Ready);
    // Once it runs, nothing is built or started again.
    bench.runtime.launch(&request()).await.unwrap();
    assert_eq!(bench.host.builds.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_reads_calls_and_completes_with_an_event() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let (mut fake, _exit) = running(&mut bench).await;
    let mut ctx = FakeContext::with_keys(2);
    ctx.callee = Some(Ok(completed(200, b"inner")));
    let call = tokio::spawn(execute(&bench.runtime, invocation("tx1"), ctx));
    let first = fake.expect(Type::Transaction).await;
    assert_eq!(
        (first.txid.as_str(), first.channel_id.as_str()),
        ("tx1", "ch")
    );
    assert_eq!(ChaincodeInput::decode(first.payload).unwrap().args, ["f"]);
    let get = GetState {
        key: "k00001".into(),
        ..Default::default()
    };
    fake.send("tx1", message(Type::GetState, get)).await;
    assert_eq!(fake.expect(Type::Response).await.payload, "v1");
    let id = ChaincodeId {
        name: "other".into(),
        ..Default::default()
    };
    let spec = ChaincodeSpec {
        chaincode_id: Some(id),
        ..Default::default()
    };
    fake.send("tx1", message(Type::InvokeChaincode, spec)).await;
    let inner = ChaincodeMessage::decode(fake.expect(Type::Response).await.payload).unwrap();
    assert_eq!(Response::decode(inner.payload).unwrap().payload, "inner");
    let event = ChaincodeEvent {
        event_name: "sold".into(),
        ..Default::default()
    };
    let end = ChaincodeMessage {
        chaincode_event: Some(event),
        ..completed(200, b"done")
    };
    fake.send("tx1", end).await;
    let (outcome, ctx) = call.await.unwrap();
    let (response, event) = outcome.unwrap();
    assert_eq!(
        (response.status, response.payload.as_ref()),
        (200, b"done".as_slice())
    );
    let event = event.unwrap();
    assert_eq!(
        (event.chaincode_id.as_str(), event.tx_id.as_str()),
        ("cc", "tx1")
    );
    assert_eq!(
        ctx.log,
        ["get cc k00001", "check other ch", "call other ch"]
    );
}

#[tokio::test(start_paused = true)]
async fn transactions_run_side_by_side() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let (mut fake, _exit) = running(&mut bench).await;
    let first = tokio::spawn(execute(
        &bench.runtime,
        invocation("a"),
        FakeContext::default(),
    ));
    fake.expect(Type::Transaction).await;
    let second = tokio::spawn(execute(
        &bench.runtime,
        invocation("b"),
        FakeContext::default(),
    ));
    fake.expect(Type::Transaction).await;
    let (again, _) = execute(&bench.runtime, invocation("a"), FakeContext::default()).await;
    assert_eq!(
        again.unwrap_err().to_string(),
        "failed to execute transaction a: error sending: txid: a(ch) exists"
    );
    fake.send("b", completed(200, b"2")).await;
    assert_eq!(second.await.unwrap().0.unwrap().0.payload, "2");
    fake.send("a", completed(500, b"1")).await;
    assert_eq!(first.await.unwrap().0.unwrap().0.status, 500);
}

#[tokio::test(start_paused = true)]
async fn calls_end_with_fabrics_texts() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let (mut fake, _exit) = running(&mut bench).await;
    let call = tokio::spawn(execute(
        &bench.runtime,
        invocation("a"),
        FakeContext::default(),
    ));
    fake.expect(Type::Transaction).await;
    let failure = ChaincodeMessage {
        payload: "boom".into(),
        ..completed(0, b"")
    };
    fake.send(
        "a",
        ChaincodeMessage {
            r#type: Type::Error as i32,
            ..failure
        },
    )
    .await;
    let error = call.await.unwrap().0.unwrap_err();
    assert_eq!(error.to_string(), "transaction returned with failure: boom");

    // Silence: the clock of this test is paused, so the timeout comes at once.
    let scan = message(Type::GetStateByRange, GetStateByRange::default());
    let ctx = FakeContext::with_keys(300);
    let call = tokio::spawn(execute(&bench.runtime, invocation("b"), ctx));
    fake.expect(Type::Transaction).await;
    fake.send("b", scan).await;
    fake.expect(Type::Response).await;
    let (outcome, ctx) = call.await.unwrap();
    assert_eq!(
        outcome.unwrap_err().to_string(),
        "failed to execute transaction b: error sending: timeout expired while executing \
         transaction"
    );
    assert!(
        ctx.open.is_empty(),
        "iterators of an abandoned transaction are closed"
    );

    let call = tokio::spawn(execute(
        &bench.runtime,
        invocation("c"),
        FakeContext::default(),
    ));
    fake.expect(Type::Transaction).await;
    drop(fake.to_peer);
    let error = call.await.unwrap().0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to execute transaction c: error sending: chaincode stream terminated"
    );
    assert_eq!(fake.served.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_only_claim_what_its_certificate_is_for() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let runtime = bench.runtime.clone();
    let launch = tokio::spawn(async move { runtime.launch(&request()).await });
    let _start = bench.starts.recv().await.unwrap();
    let check = async |certificate: Option<&str>, name: &str, wanted: &str| {
        let mut fake = Fake::connect(&bench.runtime, certificate);
        fake.register(name).await;
        let error = fake.served.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    };
    check(
        Some("cc_1:aa/0"),
        "other:bb",
        "belongs to a different chaincode",
    )
    .await;
    check(Some("forged"), ID, "missing or not of this peer's making").await;
    check(None, ID, "missing or not of this peer's making").await;
    check(
        None,
        "other:bb",
        "peer will not accept external chaincode connection other:bb",
    )
    .await;
    let _fake = Fake::registered(&bench.runtime, "cc_1:aa/0").await;
    launch.await.unwrap().unwrap();
    check(Some("cc_1:aa/0"), ID, "duplicate chaincodeID: cc_1:aa").await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_closed() {
    let bench = bench(RuntimeConfig::default(), Vec::new());
    let fake = Fake::connect(&bench.runtime, None);
    let error = fake.served.await.unwrap().unwrap_err();
    assert_eq!(error, SessionError::RegistrationTimeout(30));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_once_fails_the_launch_and_the_next_tries_again() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let runtime = bench.runtime.clone();
    let call =
        tokio::spawn(
            async move { execute(&runtime, invocation("a"), FakeContext::default()).await },
        );
    let (_, exit) = bench.starts.recv().await.unwrap();
    exit.send("container exited with 1".into()).unwrap();
    assert_eq!(
        call.await.unwrap().0.unwrap_err().to_string(),
        "failed to execute transaction a: could not launch chaincode cc_1:aa: chaincode \
         registration failed: container exited with 1"
    );
    assert!(matches!(
        bench.runtime.status(ID),
        ChaincodeStatus::Failed(_)
    ));
    running(&mut bench).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_later_is_started_again() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    for round in 0..3 {
        let fake = if round == 0 {
            running(&mut bench).await
        } else {
            let (start, exit) = bench.starts.recv().await.unwrap();
            let der = start.tls.unwrap().certificate_der;
            let name = std::str::from_utf8(&der).unwrap().to_owned();
            assert_eq!(
                name,
                format!("cc_1:aa/{round}"),
                "a fresh certificate for each start"
            );
            (Fake::registered(&bench.runtime, &name).await, exit)
        };
        let (fake, exit) = fake;
        drop(fake.to_peer);
        fake.served.await.unwrap().unwrap();
        assert_eq!(bench.runtime.status(ID), ChaincodeStatus::Starting);
        exit.send("container exited by signal 9".into()).unwrap();
    }
    // A call in the meantime waits for it.
    let runtime = bench.runtime.clone();
    let launch = tokio::spawn(async move { runtime.launch(&request()).await });
    let (_, _exit) = bench.starts.recv().await.unwrap();
    let _fake = Fake::registered(&bench.runtime, "cc_1:aa/3").await;
    launch.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_loses_its_stream_for_good_is_replaced() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let (fake, exit) = running(&mut bench).await;
    drop(fake.to_peer);
    fake.served.await.unwrap().unwrap();
    // The process itself lives on, but the supervisor ends it.
    let (_, _exit) = bench.starts.recv().await.unwrap();
    assert!(exit.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_goes_on_for_the_next_call() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let error = bench.runtime.launch(&request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "timeout expired while starting chaincode cc_1:aa for transaction"
    );
    let (start, _exit) = bench.starts.recv().await.unwrap();
    let der = start.tls.unwrap().certificate_der;
    let runtime = bench.runtime.clone();
    let launch = tokio::spawn(async move { runtime.launch(&request()).await });
    let _fake = Fake::registered(&bench.runtime, std::str::from_utf8(&der).unwrap()).await;
    launch.await.unwrap().unwrap();
    assert_eq!(bench.host.builds.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_build_is_told_to_everybody_who_waits() {
    let bench = bench(RuntimeConfig::default(), Vec::new());
    let reason = HostError::Build {
        package_id: ID.into(),
        reason: "no go".into(),
    };
    *bench.host.target.lock().unwrap() = Err(reason);
    let error = bench.runtime.launch(&request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "error building chaincode: error building image: build of chaincode package 'cc_1:aa' \
         failed: no go"
    );
}

#[tokio::test(start_paused = true)]
async fn stop_ends_the_process_and_shutdown_refuses_starts() {
    let mut bench = bench(RuntimeConfig::default(), Vec::new());
    let (_fake, exit) = running(&mut bench).await;
    bench.runtime.stop(ID).await;
    assert!(exit.is_closed());
    drop(_fake);
    let (_fake, exit) = {
        // The stream of the stopped process ends with it.
        while bench.runtime.status(ID) == ChaincodeStatus::Ready {
            tokio::task::yield_now().await;
        }
        running(&mut bench).await
    };
    bench.runtime.shutdown().await;
    assert!(exit.is_closed());
    drop(_fake);
    while bench.runtime.status(ID) == ChaincodeStatus::Ready {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.runtime.launch(&request()).await,
        Err(LaunchError::Stopping)
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_calls_are_refused() {
    let config = RuntimeConfig {
        concurrent_calls: 1,
        ..Default::default()
    };
    let mut bench = bench(config, Vec::new());
    let (mut fake, _exit) = running(&mut bench).await;
    let first = tokio::spawn(execute(
        &bench.runtime,
        invocation("a"),
        FakeContext::default(),
    ));
    fake.expect(Type::Transaction).await;
    let (second, _) = execute(&bench.runtime, invocation("b"), FakeContext::default()).await;
    assert!(
        second
            .unwrap_err()
            .to_string()
            .contains("1 calls are running")
    );
    fake.send("a", completed(200, b"")).await;
    first.await.unwrap().0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keepalives_are_sent_when_configured() {
    let keepalive = Some(Duration::from_secs(60));
    let config = RuntimeConfig {
        keepalive,
        ..Default::default()
    };
    let mut bench = bench(config, Vec::new());
    let (mut fake, _exit) = running(&mut bench).await;
    fake.expect(Type::Keepalive).await;
    fake.expect(Type::Keepalive).await;
}

fn endpoint() -> Target {
    Target::Server(ServerEndpoint {
        package_id: ID.into(),
        address: "127.0.0.1:9".into(),
        dial_timeout: Duration::from_secs(3),
        tls: None,
    })
}

/// The two ends of a dialled stream.
fn dialled() -> (
    ChaincodeStream,
    mpsc::Sender<ChaincodeMessage>,
    mpsc::Receiver<ChaincodeMessage>,
) {
    let (to_peer, inbound) = mpsc::channel(16);
    let (outbound, from_peer) = mpsc::channel(16);
    (ChaincodeStream { inbound, outbound }, to_peer, from_peer)
}

#[tokio::test(start_paused = true)]
async fn a_service_is_dialled_and_dialled_again() {
    let (first, to_first, mut from_first) = dialled();
    let (second, to_second, mut from_second) = dialled();
    let bench = bench(
        RuntimeConfig::default(),
        vec![Ok(second), Err("refused".into()), Ok(first)],
    );
    *bench.host.target.lock().unwrap() = Ok(endpoint());
    let register = || {
        message(
            Type::Register,
            ChaincodeId {
                name: ID.into(),
                ..Default::default()
            },
        )
    };
    to_first.send(register()).await.unwrap();
    bench.runtime.launch(&request()).await.unwrap();
    assert_eq!(
        from_first.recv().await.unwrap().r#type,
        Type::Registered as i32
    );
    drop(to_first);
    to_second.send(register()).await.unwrap();
    assert_eq!(
        from_second.recv().await.unwrap().r#type,
        Type::Registered as i32
    );
    from_second.recv().await.unwrap();
    assert_eq!(bench.runtime.status(ID), ChaincodeStatus::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_reached_fails_the_launch() {
    let bench = bench(RuntimeConfig::default(), Vec::new());
    *bench.host.target.lock().unwrap() = Ok(endpoint());
    let error = bench.runtime.launch(&request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "connection to cc_1:aa failed: connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_must_be_what_was_dialled() {
    let (stream, to_peer, _from_peer) = dialled();
    let bench = bench(RuntimeConfig::default(), vec![Ok(stream)]);
    *bench.host.target.lock().unwrap() = Ok(endpoint());
    let id = ChaincodeId {
        name: "other:bb".into(),
        ..Default::default()
    };
    to_peer.send(message(Type::Register, id)).await.unwrap();
    let error = bench.runtime.launch(&request()).await.unwrap_err();
    assert!(
        error.to_string().contains("says it is another chaincode"),
        "{error}"
    );
}
