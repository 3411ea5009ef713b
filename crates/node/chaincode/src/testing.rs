//! A transaction context in memory, and messages, for the tests of this crate.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{ChaincodeMessage, Response};
use selvage_proto::queryresult::{KeyModification, Kv};

use crate::shim::{
    ApplicationCapabilities, ChaincodeCall, CollectionAccess, ContextError, QueryHandle, QueryItem,
    TxContext,
};

type Key = (String, String, String);

/// State in a map; everything that was asked is in `log`.
#[derive(Debug, Default)]
pub(crate) struct FakeContext {
    pub(crate) state: BTreeMap<Key, Bytes>,
    pub(crate) metadata: BTreeMap<Key, (String, Bytes)>,
    pub(crate) history: Vec<KeyModification>,
    pub(crate) no_ledger: bool,
    pub(crate) old_channel: bool,
    pub(crate) unknown_channel: bool,
    pub(crate) no_access: bool,
    pub(crate) fail_next: bool,
    pub(crate) callee: Option<Result<ChaincodeMessage, ContextError>>,
    pub(crate) log: Vec<String>,
    pub(crate) open: BTreeMap<u64, (VecDeque<QueryItem>, String)>,
    pub(crate) pulled: usize,
    pub(crate) handles: u64,
}

fn key(namespace: &str, collection: &str, key: &str) -> Key {
    (namespace.to_owned(), collection.to_owned(), key.to_owned())
}

impl FakeContext {
    pub(crate) fn with_keys(count: usize) -> Self {
        let mut ctx = Self::default();
        for number in 0..count {
            let name = format!("k{number:05}");
            ctx.state
                .insert(key("cc", "", &name), Bytes::from(format!("v{number}")));
            ctx.state.insert(
                key("cc", "secret", &name),
                Bytes::from(format!("p{number}")),
            );
        }
        ctx
    }

    fn note(&mut self, what: String) -> Result<(), ContextError> {
        self.log.push(what);
        if std::mem::take(&mut self.fail_next) {
            Err("ledger is closed".into())
        } else {
            Ok(())
        }
    }

    fn open(&mut self, items: VecDeque<QueryItem>, bookmark: String) -> QueryHandle {
        self.handles += 1;
        self.open.insert(self.handles, (items, bookmark));
        QueryHandle(self.handles)
    }

    fn scan(&self, namespace: &str, collection: &str, start: &str, end: &str) -> Vec<QueryItem> {
        self.state
            .iter()
            .filter(|((ns, coll, name), _)| {
                ns == namespace
                    && coll == collection
                    && name.as_str() >= start
                    && (end.is_empty() || name.as_str() < end)
            })
            .map(|((ns, _, name), value)| {
                QueryItem::Kv(Kv {
                    namespace: ns.clone(),
                    key: name.clone(),
                    value: value.clone(),
                })
            })
            .collect()
    }
}

impl TxContext for FakeContext {
    fn has_ledger(&self) -> bool {
        !self.no_ledger
    }

    fn is_system_chaincode(&self, chaincode: &str) -> bool {
        chaincode == "qscc"
    }

    fn application_capabilities(&self, _channel: &str) -> Option<ApplicationCapabilities> {
        let new = !self.old_channel;
        (!self.unknown_channel).then_some(ApplicationCapabilities {
            key_level_endorsement: new,
            purge_private_data: new,
        })
    }

    fn collection_access(
        &mut self,
        namespace: &str,
        collection: &str,
    ) -> Result<CollectionAccess, ContextError> {
        self.note(format!("access {namespace} {collection}"))?;
        let yes = !self.no_access;
        Ok(CollectionAccess {
            read: yes,
            write: yes,
        })
    }

    fn get_state(&mut self, ns: &str, name: &str) -> Result<Option<Bytes>, ContextError> {
        self.note(format!("get {ns} {name}"))?;
        Ok(self.state.get(&key(ns, "", name)).cloned())
    }

    fn set_state(&mut self, ns: &str, name: &str, value: Bytes) -> Result<(), ContextError> {
        self.note(format!("set {ns} {name}"))?;
        self.state.insert(key(ns, "", name), value);
        Ok(())
    }

    fn delete_state(&mut self, ns: &str, name: &str) -> Result<(), ContextError> {
        self.note(format!("delete {ns} {name}"))?;
        self.state.remove(&key(ns, "", name));
        Ok(())
    }

    fn get_state_metadata(
        &mut self,
        ns: &str,
        name: &str,
    ) -> Result<Vec<(String, Bytes)>, ContextError> {
        Ok(self
            .metadata
            .get(&key(ns, "", name))
            .cloned()
            .into_iter()
            .collect())
    }

    fn set_state_metadata(
        &mut self,
        ns: &str,
        name: &str,
        entry: &str,
        value: Bytes,
    ) -> Result<(), ContextError> {
        self.metadata
            .insert(key(ns, "", name), (entry.to_owned(), value));
        Ok(())
    }

    fn get_private(
        &mut self,
        ns: &str,
        collection: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ContextError> {
        Ok(self.state.get(&key(ns, collection, name)).cloned())
    }

    fn get_private_hash(
        &mut self,
        ns: &str,
        collection: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ContextError> {
        let value = self.state.get(&key(ns, collection, name));
        Ok(value.map(|value| Bytes::copy_from_slice(&selvage_crypto::sha256(value))))
    }

    fn set_private(
        &mut self,
        ns: &str,
        collection: &str,
        name: &str,
        value: Bytes,
    ) -> Result<(), ContextError> {
        self.state.insert(key(ns, collection, name), value);
        Ok(())
    }

    fn delete_private(&mut self, ns: &str, coll: &str, name: &str) -> Result<(), ContextError> {
        self.note(format!("delete {ns} {coll} {name}"))
    }

    fn purge_private(&mut self, ns: &str, coll: &str, name: &str) -> Result<(), ContextError> {
        self.note(format!("purge {ns} {coll} {name}"))
    }

    fn get_private_metadata(
        &mut self,
        ns: &str,
        coll: &str,
        name: &str,
    ) -> Result<Vec<(String, Bytes)>, ContextError> {
        Ok(self
            .metadata
            .get(&key(ns, coll, name))
            .cloned()
            .into_iter()
            .collect())
    }

    fn set_private_metadata(
        &mut self,
        ns: &str,
        coll: &str,
        name: &str,
        entry: &str,
        value: Bytes,
    ) -> Result<(), ContextError> {
        self.metadata
            .insert(key(ns, coll, name), (entry.to_owned(), value));
        Ok(())
    }

    fn range(&mut self, ns: &str, start: &str, end: &str) -> Result<QueryHandle, ContextError> {
        self.note(format!("range {ns} {start}..{end}"))?;
        let items = self.scan(ns, "", start, end).into();
        Ok(self.open(items, String::new()))
    }

    fn range_page(
        &mut self,
        ns: &str,
        start: &str,
        end: &str,
        page_size: i32,
    ) -> Result<QueryHandle, ContextError> {
        self.note(format!("page {ns} {start}..{end} {page_size}"))?;
        let mut items = self.scan(ns, "", start, end);
        let page = usize::try_from(page_size).unwrap_or(0);
        let bookmark = match items.get(page) {
            Some(QueryItem::Kv(kv)) => kv.key.clone(),
            _ => String::new(),
        };
        items.truncate(page);
        Ok(self.open(items.into(), bookmark))
    }

    fn private_range(
        &mut self,
        ns: &str,
        coll: &str,
        start: &str,
        end: &str,
    ) -> Result<QueryHandle, ContextError> {
        let items = self.scan(ns, coll, start, end).into();
        Ok(self.open(items, String::new()))
    }

    fn rich_query(&mut self, ns: &str, query: &str) -> Result<QueryHandle, ContextError> {
        self.note(format!("query {ns} {query}"))?;
        Err("ExecuteQuery not supported for leveldb".into())
    }

    fn rich_query_page(
        &mut self,
        ns: &str,
        query: &str,
        bookmark: &str,
        page_size: i32,
    ) -> Result<QueryHandle, ContextError> {
        self.note(format!("query {ns} {query} {bookmark} {page_size}"))?;
        Ok(self.open(VecDeque::new(), "nil".to_owned()))
    }

    fn private_rich_query(
        &mut self,
        ns: &str,
        coll: &str,
        query: &str,
    ) -> Result<QueryHandle, ContextError> {
        self.note(format!("query {ns} {coll} {query}"))?;
        Ok(self.open(VecDeque::new(), String::new()))
    }

    fn history(&mut self, ns: &str, name: &str) -> Result<QueryHandle, ContextError> {
        self.note(format!("history {ns} {name}"))?;
        let items = self
            .history
            .iter()
            .cloned()
            .map(QueryItem::Modification)
            .collect();
        Ok(self.open(items, String::new()))
    }

    fn query_next(&mut self, handle: QueryHandle) -> Result<Option<QueryItem>, ContextError> {
        if std::mem::take(&mut self.fail_next) {
            return Err("iterator broke".into());
        }
        self.pulled += 1;
        let open = self.open.get_mut(&handle.0).ok_or("closed")?;
        Ok(open.0.pop_front())
    }

    fn query_close(&mut self, handle: QueryHandle) -> String {
        self.open
            .remove(&handle.0)
            .map(|(_, bookmark)| bookmark)
            .unwrap_or_default()
    }

    fn check_call(&mut self, call: &ChaincodeCall) -> Result<(), ContextError> {
        self.note(format!("check {} {}", call.chaincode, call.channel))
    }

    fn call_chaincode<'a>(
        &'a mut self,
        call: ChaincodeCall,
    ) -> Pin<Box<dyn Future<Output = Result<ChaincodeMessage, ContextError>> + Send + 'a>> {
        self.log
            .push(format!("call {} {}", call.chaincode, call.channel));
        let outcome = self.callee.clone();
        Box::pin(async move {
            match outcome {
                Some(outcome) => outcome,
                None => std::future::pending().await,
            }
        })
    }
}

/// A message of the chaincode.
pub(crate) fn message(kind: Type, payload: impl Message) -> ChaincodeMessage {
    ChaincodeMessage {
        r#type: kind as i32,
        payload: payload.encode_to_vec().into(),
        txid: "tx1".to_owned(),
        channel_id: "ch".to_owned(),
        ..Default::default()
    }
}

/// The end of a transaction with a response.
pub(crate) fn completed(status: i32, payload: &[u8]) -> ChaincodeMessage {
    let payload = Bytes::copy_from_slice(payload);
    message(
        Type::Completed,
        Response {
            status,
            payload,
            ..Default::default()
        },
    )
}
