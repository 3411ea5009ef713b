use bytes::Bytes;
use proptest::prelude::*;
use selvage_proto::Message;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{
    ChaincodeAdditionalParams, ChaincodeId, ChaincodeInput, ChaincodeMessage, ChaincodeSpec,
    DelState, GetHistoryForKey, GetQueryResult, GetState, GetStateByRange, GetStateMetadata,
    GetStateMultiple, GetStateMultipleResult, PutState, PutStateMetadata, QueryMetadata,
    QueryResponse, QueryResponseMetadata, QueryStateClose, QueryStateNext, StateMetadata,
    StateMetadataResult, WriteBatchState, WriteRecord, write_record,
};
use selvage_proto::queryresult::{KeyModification, Kv};

use super::*;
use crate::testing::{FakeContext, completed, message};

fn handler() -> TxHandler {
    TxHandler::new("cc", "ch", "tx1", false, QueryLimits::default())
}

/// The payload of a successful answer.
fn answer(tx: &mut TxHandler, ctx: &mut FakeContext, request: ChaincodeMessage) -> Bytes {
    match tx.handle(request, ctx) {
        Step::Reply(reply) => {
            let text = String::from_utf8_lossy(&reply.payload).into_owned();
            assert_eq!(reply.r#type, Type::Response as i32, "{text}");
            assert_eq!(
                (reply.txid.as_str(), reply.channel_id.as_str()),
                ("tx1", "ch")
            );
            reply.payload
        }
        other => panic!("no reply: {other:?}"),
    }
}

/// The text of a refusal.
fn refusal(tx: &mut TxHandler, ctx: &mut FakeContext, request: ChaincodeMessage) -> String {
    match tx.handle(request, ctx) {
        Step::Reply(reply) => {
            assert_eq!(reply.r#type, Type::Error as i32);
            String::from_utf8(reply.payload.to_vec()).unwrap()
        }
        other => panic!("no reply: {other:?}"),
    }
}

fn get(key: &str, collection: &str) -> GetState {
    GetState {
        key: key.into(),
        collection: collection.into(),
    }
}

fn put(key: &str, value: &str, collection: &str) -> PutState {
    PutState {
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        collection: collection.into(),
    }
}

fn delete(key: &str, collection: &str) -> DelState {
    DelState {
        key: key.into(),
        collection: collection.into(),
    }
}

fn range(start: &str, end: &str, collection: &str, page: Option<(i32, &str)>) -> GetStateByRange {
    let metadata = page.map_or_else(Bytes::new, |(page_size, bookmark)| {
        QueryMetadata {
            page_size,
            bookmark: bookmark.into(),
        }
        .encode_to_vec()
        .into()
    });
    GetStateByRange {
        start_key: start.into(),
        end_key: end.into(),
        collection: collection.into(),
        metadata,
    }
}

fn keys(response: &QueryResponse) -> Vec<String> {
    response
        .results
        .iter()
        .map(|result| Kv::decode(result.result_bytes.clone()).unwrap().key)
        .collect()
}

fn batch(tx: &mut TxHandler, ctx: &mut FakeContext, request: ChaincodeMessage) -> QueryResponse {
    QueryResponse::decode(answer(tx, ctx, request)).unwrap()
}

#[test]
fn state_is_read_and_written_in_the_chaincodes_namespace() {
    let (mut tx, mut ctx) = (handler(), FakeContext::default());
    assert_eq!(
        answer(
            &mut tx,
            &mut ctx,
            message(Type::PutState, put("a", "1", ""))
        ),
        ""
    );
    assert_eq!(
        answer(&mut tx, &mut ctx, message(Type::GetState, get("a", ""))),
        "1"
    );
    assert_eq!(
        answer(&mut tx, &mut ctx, message(Type::DelState, delete("a", ""))),
        ""
    );
    assert_eq!(
        answer(&mut tx, &mut ctx, message(Type::GetState, get("a", ""))),
        ""
    );
    assert_eq!(ctx.log, ["set cc a", "get cc a", "delete cc a", "get cc a"]);
}

#[test]
fn several_keys_are_answered_in_order_with_empty_for_absent() {
    let (mut tx, mut ctx) = (handler(), FakeContext::with_keys(2));
    for (collection, first) in [("", "v1"), ("secret", "p1")] {
        let names = ["k00001", "none", "k00000"].map(String::from).to_vec();
        let request = GetStateMultiple {
            keys: names,
            collection: collection.into(),
        };
        let payload = answer(&mut tx, &mut ctx, message(Type::GetStateMultiple, request));
        let result = GetStateMultipleResult::decode(payload).unwrap();
        assert_eq!(result.values.len(), 3);
        assert_eq!(result.values[0], first);
        assert_eq!(result.values[1], "");
    }
}

#[test]
fn private_data_asks_for_access_once_per_collection() {
    let (mut tx, mut ctx) = (handler(), FakeContext::default());
    answer(
        &mut tx,
        &mut ctx,
        message(Type::PutState, put("a", "1", "secret")),
    );
    assert_eq!(
        answer(
            &mut tx,
            &mut ctx,
            message(Type::GetState, get("a", "secret"))
        ),
        "1"
    );
    answer(
        &mut tx,
        &mut ctx,
        message(Type::DelState, delete("a", "secret")),
    );
    answer(
        &mut tx,
        &mut ctx,
        message(Type::PurgePrivateData, delete("a", "secret")),
    );
    let hash = answer(
        &mut tx,
        &mut ctx,
        message(Type::GetPrivateDataHash, get("a", "secret")),
    );
    assert_eq!(hash.as_ref(), selvage_crypto::sha256(b"1"));
    assert_eq!(
        ctx.log,
        [
            "access cc secret",
            "delete cc secret a",
            "purge cc secret a"
        ]
    );
}

#[test]
fn metadata_is_written_and_read() {
    let (mut tx, mut ctx) = (handler(), FakeContext::default());
    for collection in ["", "secret"] {
        let entry = StateMetadata {
            metakey: "VALIDATION".into(),
            value: "policy".into(),
        };
        let write = PutStateMetadata {
            key: "a".into(),
            collection: collection.into(),
            metadata: Some(entry.clone()),
        };
        answer(&mut tx, &mut ctx, message(Type::PutStateMetadata, write));
        let read = GetStateMetadata {
            key: "a".into(),
            collection: collection.into(),
        };
        let payload = answer(&mut tx, &mut ctx, message(Type::GetStateMetadata, read));
        assert_eq!(
            StateMetadataResult::decode(payload).unwrap().entries,
            [entry]
        );
    }
}

fn record(kind: write_record::Type, key: &str, value: &str, collection: &str) -> WriteRecord {
    WriteRecord {
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        collection: collection.into(),
        metadata: None,
        r#type: kind as i32,
    }
}

#[test]
fn a_batch_of_writes_is_applied_in_order() {
    let (mut tx, mut ctx) = (handler(), FakeContext::default());
    let rec = vec![
        record(write_record::Type::PutState, "a", "1", ""),
        record(write_record::Type::PutState, "b", "2", "secret"),
        record(write_record::Type::DelState, "a", "", ""),
        record(write_record::Type::PurgePrivateData, "b", "", "secret"),
        record(write_record::Type::PutStateMetadata, "a", "", ""),
    ];
    answer(
        &mut tx,
        &mut ctx,
        message(Type::WriteBatchState, WriteBatchState { rec }),
    );
    assert_eq!(
        ctx.log,
        [
            "set cc a",
            "access cc secret",
            "delete cc a",
            "purge cc secret b"
        ]
    );
    let rec = vec![record(write_record::Type::Undefined, "a", "1", "")];
    let text = refusal(
        &mut tx,
        &mut ctx,
        message(Type::WriteBatchState, WriteBatchState { rec }),
    );
    assert_eq!(
        text,
        "WRITE_BATCH_STATE failed: transaction ID: tx1: unknown operation type"
    );
}

#[test]
fn scans_come_in_batches_of_one_hundred_with_one_read_ahead() {
    let (mut tx, mut ctx) = (handler(), FakeContext::with_keys(250));
    let first = batch(
        &mut tx,
        &mut ctx,
        message(Type::GetStateByRange, range("", "", "", None)),
    );
    assert_eq!((first.results.len(), first.has_more), (100, true));
    assert_eq!(
        ctx.pulled, 101,
        "the peer reads one ahead, and that read is recorded"
    );
    let next = || {
        message(
            Type::QueryStateNext,
            QueryStateNext {
                id: first.id.clone(),
            },
        )
    };
    let second = batch(&mut tx, &mut ctx, next());
    assert_eq!(
        (second.results.len(), second.has_more, ctx.pulled),
        (100, true, 201)
    );
    let third = batch(&mut tx, &mut ctx, next());
    assert_eq!((third.results.len(), third.has_more), (50, false));
    let all: Vec<String> = [first.clone(), second, third]
        .iter()
        .flat_map(keys)
        .collect();
    assert_eq!(
        all,
        (0..250).map(|n| format!("k{n:05}")).collect::<Vec<_>>()
    );
    assert!(ctx.open.is_empty(), "an exhausted iterator is closed");
    let text = refusal(&mut tx, &mut ctx, next());
    assert_eq!(
        text,
        "QUERY_STATE_NEXT failed: transaction ID: tx1: query iterator not found"
    );
}

#[test]
fn a_scan_of_exactly_one_batch_needs_no_second_message() {
    for (count, more) in [
        (0, false),
        (1, false),
        (99, false),
        (100, false),
        (101, true),
    ] {
        let (mut tx, mut ctx) = (handler(), FakeContext::with_keys(count));
        let request = message(Type::GetStateByRange, range("", "", "", None));
        let response = batch(&mut tx, &mut ctx, request);
        assert_eq!(
            (response.results.len(), response.has_more),
            (count.min(100), more),
            "{count}"
        );
    }
}

#[test]
fn pages_come_whole_with_a_bookmark() {
    let (mut tx, mut ctx) = (handler(), FakeContext::with_keys(300));
    let request = message(
        Type::GetStateByRange,
        range("k00005", "", "", Some((150, ""))),
    );
    let page = batch(&mut tx, &mut ctx, request);
    assert_eq!((page.results.len(), page.has_more), (150, false));
    let metadata = QueryResponseMetadata::decode(page.metadata).unwrap();
    assert_eq!(
        (metadata.fetched_records_count, metadata.bookmark.as_str()),
        (150, "k00155")
    );
    let request = range("k00005", "", "", Some((150, &metadata.bookmark)));
    let page = batch(&mut tx, &mut ctx, message(Type::GetStateByRange, request));
    let metadata = QueryResponseMetadata::decode(page.metadata).unwrap();
    assert_eq!(
        (metadata.fetched_records_count, metadata.bookmark.as_str()),
        (145, "")
    );
    assert_eq!(ctx.log, ["page cc k00005.. 150", "page cc k00155.. 150"]);
    assert!(ctx.open.is_empty());
}

#[test]
fn the_total_limit_ends_a_scan() {
    let limits = QueryLimits {
        total: 120,
        ..QueryLimits::default()
    };
    let mut tx = TxHandler::new("cc", "ch", "tx1", false, limits);
    let mut ctx = FakeContext::with_keys(200);
    let first = batch(
        &mut tx,
        &mut ctx,
        message(Type::GetStateByRange, range("", "", "", None)),
    );
    assert!(first.has_more);
    let next = message(Type::QueryStateNext, QueryStateNext { id: first.id });
    let second = batch(&mut tx, &mut ctx, next);
    assert_eq!(
        (second.results.len(), second.has_more, ctx.pulled),
        (20, false, 120)
    );
}

#[test]
fn open_iterators_are_bounded_and_closed_with_the_transaction() {
    let limits = QueryLimits {
        open_iterators: 2,
        ..QueryLimits::default()
    };
    let mut tx = TxHandler::new("cc", "ch", "tx1", false, limits);
    let mut ctx = FakeContext::with_keys(200);
    let scan = || message(Type::GetStateByRange, range("", "", "", None));
    let first = batch(&mut tx, &mut ctx, scan());
    batch(&mut tx, &mut ctx, scan());
    assert!(refusal(&mut tx, &mut ctx, scan()).contains("more than 2 iterators are open"));
    assert_eq!(ctx.open.len(), 2);
    let close = || {
        message(
            Type::QueryStateClose,
            QueryStateClose {
                id: first.id.clone(),
            },
        )
    };
    let closed = batch(&mut tx, &mut ctx, close());
    assert_eq!(
        (closed.id.as_str(), closed.has_more),
        (first.id.as_str(), false)
    );
    assert_eq!(ctx.open.len(), 1);
    batch(&mut tx, &mut ctx, close());
    assert!(matches!(
        tx.handle(completed(200, b""), &mut ctx),
        Step::Finished(_)
    ));
    assert!(ctx.open.is_empty());
}

#[test]
fn history_and_rich_queries() {
    let (mut tx, mut ctx) = (handler(), FakeContext::default());
    ctx.history = vec![KeyModification {
        tx_id: "t".into(),
        ..Default::default()
    }];
    let request = message(Type::GetHistoryForKey, GetHistoryForKey { key: "a".into() });
    let response = batch(&mut tx, &mut ctx, request);
    let change = KeyModification::decode(response.results[0].result_bytes.clone()).unwrap();
    assert_eq!(change.tx_id, "t");
    let query = |collection: &str, page: Option<(i32, &str)>| GetQueryResult {
        query: "{}".into(),
        collection: collection.into(),
        metadata: range("", "", "", page).metadata,
    };
    let text = refusal(
        &mut tx,
        &mut ctx,
        message(Type::GetQueryResult, query("", None)),
    );
    assert!(text.ends_with("ExecuteQuery not supported for leveldb"));
    let page = batch(
        &mut tx,
        &mut ctx,
        message(Type::GetQueryResult, query("", Some((5, "b")))),
    );
    assert_eq!(
        QueryResponseMetadata::decode(page.metadata)
            .unwrap()
            .bookmark,
        "nil"
    );
    batch(
        &mut tx,
        &mut ctx,
        message(Type::GetQueryResult, query("secret", Some((5, "b")))),
    );
    let queries: Vec<&String> = ctx.log.iter().filter(|l| l.starts_with("query")).collect();
    assert_eq!(
        queries,
        ["query cc {}", "query cc {} b 5", "query cc secret {}"]
    );
}

#[test]
fn an_iterator_that_breaks_is_closed() {
    let (mut tx, mut ctx) = (handler(), FakeContext::with_keys(200));
    let request = message(Type::GetStateByRange, range("", "", "", None));
    let first = batch(&mut tx, &mut ctx, request);
    ctx.fail_next = true;
    let next = message(Type::QueryStateNext, QueryStateNext { id: first.id });
    let text = refusal(&mut tx, &mut ctx, next);
    assert_eq!(
        text,
        "QUERY_STATE_NEXT failed: transaction ID: tx1: iterator broke"
    );
    assert!(ctx.open.is_empty());
}

fn spec(name: &str) -> ChaincodeSpec {
    ChaincodeSpec {
        chaincode_id: Some(ChaincodeId {
            name: name.into(),
            ..Default::default()
        }),
        input: Some(ChaincodeInput {
            args: vec!["f".into()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn calls_name_a_chaincode_and_perhaps_a_channel() {
    let table = [
        ("other", "other", "ch"),
        ("other:1.0", "other", "ch"),
        ("other/far", "other", "far"),
        ("other:1.0/far", "other", "far"),
        ("other/far/x", "other", "far/x"),
    ];
    for (name, chaincode, channel) in table {
        let (mut tx, mut ctx) = (handler(), FakeContext::default());
        let Step::Call(call) = tx.handle(message(Type::InvokeChaincode, spec(name)), &mut ctx)
        else {
            panic!("{name} is not a call");
        };
        assert_eq!(
            (call.chaincode.as_str(), call.channel.as_str()),
            (chaincode, channel)
        );
        assert_eq!((call.txid.as_str(), call.input.args.len()), ("tx1", 1));
        let reply = tx.answer_call(Ok(completed(200, b"yes")));
        let inner = ChaincodeMessage::decode(reply.payload).unwrap();
        assert_eq!(inner.r#type, Type::Completed as i32);
        let reply = tx.answer_call(Err("no such chaincode".into()));
        assert_eq!(reply.r#type, Type::Error as i32);
        assert_eq!(
            reply.payload,
            "INVOKE_CHAINCODE failed: transaction ID: tx1: execute failed: no such chaincode"
        );
    }
}

#[test]
fn calls_that_may_not_be_made_are_refused() {
    let (mut tx, mut ctx) = (
        handler(),
        FakeContext {
            fail_next: true,
            ..Default::default()
        },
    );
    let text = refusal(
        &mut tx,
        &mut ctx,
        message(Type::InvokeChaincode, spec("other")),
    );
    assert_eq!(
        text,
        "INVOKE_CHAINCODE failed: transaction ID: tx1: ledger is closed"
    );
    let request = message(Type::InvokeChaincode, ChaincodeSpec::default());
    assert!(refusal(&mut tx, &mut ctx, request).contains("names no chaincode"));
    // Without a channel only the peer's own chaincode can be called.
    let mut tx = TxHandler::new("cc", "", "tx1", false, QueryLimits::default());
    ctx.no_ledger = true;
    let text = refusal(
        &mut tx,
        &mut ctx,
        message(Type::InvokeChaincode, spec("other")),
    );
    assert!(text.ends_with("could not get valid transaction"));
    let step = tx.handle(message(Type::InvokeChaincode, spec("qscc")), &mut ctx);
    assert!(matches!(step, Step::Call(_)));
}

#[test]
fn refusals_have_fabrics_texts() {
    let check = |setup: fn(&mut FakeContext), request: ChaincodeMessage, init, wanted: &str| {
        let mut tx = TxHandler::new("cc", "ch", "tx1", init, QueryLimits::default());
        let mut ctx = FakeContext::default();
        setup(&mut ctx);
        assert_eq!(refusal(&mut tx, &mut ctx, request), wanted);
    };
    let metadata = || message(Type::GetStateMetadata, GetStateMetadata::default());
    let none = |_: &mut FakeContext| {};
    check(
        |ctx| ctx.no_ledger = true,
        message(Type::GetState, get("a", "")),
        false,
        "GET_STATE failed: transaction ID: tx1: no ledger context",
    );
    check(
        none,
        message(Type::GetState, get("a", "secret")),
        true,
        "GET_STATE failed: transaction ID: tx1: private data APIs are not allowed in chaincode \
         Init()",
    );
    check(
        |ctx| ctx.no_access = true,
        message(Type::GetState, get("a", "secret")),
        false,
        "GET_STATE failed: transaction ID: tx1: tx creator does not have read access permission \
         on privatedata in chaincodeName:cc collectionName: secret",
    );
    check(
        |ctx| ctx.no_access = true,
        message(Type::PutState, put("a", "1", "secret")),
        false,
        "PUT_STATE failed: transaction ID: tx1: tx creator does not have write access permission \
         on privatedata in chaincodeName:cc collectionName: secret",
    );
    check(
        |ctx| ctx.old_channel = true,
        metadata(),
        false,
        "GET_STATE_METADATA failed: transaction ID: tx1: key level endorsement is not enabled, \
         channel application capability of V1_3 or later is required",
    );
    check(
        |ctx| ctx.unknown_channel = true,
        metadata(),
        false,
        "GET_STATE_METADATA failed: transaction ID: tx1: application config does not exist for ch",
    );
    check(
        |ctx| ctx.old_channel = true,
        message(Type::PurgePrivateData, delete("a", "secret")),
        false,
        "PURGE_PRIVATE_DATA failed: transaction ID: tx1: purge private data is not enabled, \
         channel application capability of V2_5 or later is required",
    );
    check(
        none,
        message(Type::PurgePrivateData, delete("a", "")),
        false,
        "PURGE_PRIVATE_DATA failed: transaction ID: tx1: only applicable for private data",
    );
    check(
        |ctx| ctx.fail_next = true,
        message(Type::PutState, put("a", "1", "")),
        false,
        "PUT_STATE failed: transaction ID: tx1: ledger is closed",
    );
}

/// A session with a chaincode that has registered and one running transaction.
fn ready() -> Session<u8> {
    let mut session = Session::new(Offer::default());
    let id = ChaincodeId {
        name: "cc:1".into(),
        ..Default::default()
    };
    let event = session.receive(message(Type::Register, id)).unwrap();
    assert_eq!(event, SessionEvent::Register("cc:1".into()));
    session.accept();
    session.open("ch", "tx1", 7).unwrap();
    session
}

#[test]
fn registration_offers_the_capabilities_with_ready() {
    let mut session: Session<u8> = Session::new(Offer::default());
    let [registered, ready] = session.accept();
    assert_eq!(registered.r#type, Type::Registered as i32);
    assert_eq!(ready.r#type, Type::Ready as i32);
    // The bytes of Fabric's message: two flags, two sizes of 1000.
    assert_eq!(
        ready.payload.as_ref(),
        [8, 1, 16, 0xe8, 7, 24, 1, 32, 0xe8, 7]
    );
    let params = ChaincodeAdditionalParams::decode(ready.payload).unwrap();
    assert!(params.use_write_batch && params.use_get_multiple_keys);
}

#[test]
fn nothing_but_register_may_come_first() {
    let check = |request: ChaincodeMessage, wanted: &str| {
        let mut session: Session<u8> = Session::new(Offer::default());
        assert_eq!(session.receive(request).unwrap_err().to_string(), wanted);
    };
    check(
        message(Type::GetState, get("a", "")),
        "[tx1] Fabric side handler cannot handle message (GET_STATE) while in created state",
    );
    check(
        message(Type::Register, ChaincodeId::default()),
        "error in handling register chaincode, chaincodeID name is empty",
    );
    let mut session: Session<u8> = Session::new(Offer::default());
    let broken = ChaincodeMessage {
        r#type: Type::Register as i32,
        payload: Bytes::from_static(&[0xff]),
        ..Default::default()
    };
    let error = session.receive(broken).unwrap_err();
    assert!(matches!(error, SessionError::MalformedRegistration(_)));
}

#[test]
fn messages_that_only_the_peer_sends_end_the_stream() {
    for kind in [0, 1, 2, 3, 4, 5, 12, 13, 26, -1] {
        let request = ChaincodeMessage {
            r#type: kind,
            ..message(Type::Undefined, Kv::default())
        };
        let error = ready().receive(request).unwrap_err();
        assert!(matches!(error, SessionError::Unexpected { .. }), "{kind}");
    }
    let error = ready()
        .receive(message(Type::Ready, Kv::default()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "[tx1] Fabric side handler cannot handle message (READY) while in ready state"
    );
    let keepalive = message(Type::Keepalive, Kv::default());
    assert_eq!(ready().receive(keepalive.clone()), Ok(SessionEvent::Idle));
    assert_eq!(
        Session::<u8>::new(Offer::default()).receive(keepalive),
        Ok(SessionEvent::Idle)
    );
}

#[test]
fn requests_of_a_transaction_are_taken_one_at_a_time() {
    let mut session = ready();
    let request = || message(Type::GetState, get("a", ""));
    assert!(matches!(
        session.receive(request()),
        Ok(SessionEvent::Deliver { to: 7, .. })
    ));
    let Ok(SessionEvent::Dropped(reason)) = session.receive(request()) else {
        panic!("the second request should be dropped");
    };
    assert!(reason.starts_with("Another request pending for this CC: cc:1, Txid: tx1"));
    session.answered("ch", "tx1");
    assert!(matches!(
        session.receive(request()),
        Ok(SessionEvent::Deliver { to: 7, .. })
    ));
    // The end passes even while a request is pending.
    let end = session.receive(completed(200, b""));
    assert!(matches!(end, Ok(SessionEvent::Deliver { to: 7, .. })));
}

#[test]
fn transactions_are_told_apart_by_channel_and_id() {
    let mut session = ready();
    let error = session.open("ch", "tx1", 8).unwrap_err();
    assert_eq!(error.to_string(), "txid: tx1(ch) exists");
    session.open("far", "tx1", 9).unwrap();
    let request = ChaincodeMessage {
        channel_id: "far".into(),
        ..message(Type::GetState, get("a", ""))
    };
    assert!(matches!(
        session.receive(request),
        Ok(SessionEvent::Deliver { to: 9, .. })
    ));
    assert_eq!(session.running(), 2);
    session.close("ch", "tx1");
    let Ok(SessionEvent::Reply(reply)) = session.receive(message(Type::GetState, get("a", "")))
    else {
        panic!("no reply");
    };
    assert_eq!(
        reply.payload,
        "GET_STATE failed: transaction ID: tx1: no ledger context"
    );
    let call = session.receive(message(Type::InvokeChaincode, spec("x")));
    let Ok(SessionEvent::Reply(reply)) = call else {
        panic!("no reply");
    };
    assert!(reply.payload.ends_with(b"could not get valid transaction"));
    let end = session.receive(completed(200, b""));
    assert!(matches!(end, Ok(SessionEvent::Dropped(_))));
}

proptest! {
    /// Whatever bytes come, the answer is an answer: no panic, and the transaction's own id.
    #[test]
    fn any_payload_is_survived(
        kind in 0..30,
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let request = ChaincodeMessage {
            r#type: kind,
            payload: payload.into(),
            ..message(Type::Undefined, Kv::default())
        };
        let mut session = ready();
        if let Ok(SessionEvent::Deliver { message, .. }) = session.receive(request) {
            let mut ctx = FakeContext::with_keys(3);
            match handler().handle(message, &mut ctx) {
                Step::Reply(reply) => prop_assert_eq!(reply.txid, "tx1"),
                Step::Call(call) => prop_assert_eq!(call.txid, "tx1"),
                Step::Finished(end) => prop_assert_eq!(end.txid, "tx1"),
            }
        }
    }
}
