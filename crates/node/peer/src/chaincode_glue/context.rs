//! One running transaction: what chaincode asks for, answered from the ledger
//! (Fabric: the ledger side of `core/chaincode/handler.go`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use selvage_chaincode::BoxFuture;
use selvage_chaincode::shim::{
    ApplicationCapabilities, ChaincodeCall, CollectionAccess, ContextError, QueryHandle, QueryItem,
    TxContext,
};
use selvage_channel::ChannelConfig;
use selvage_ledger::{History, LedgerError, Metadata, RangeId, Simulation, Simulator};
use selvage_proto::peer::{
    ChaincodeMessage, SignedProposal, StaticCollectionConfig, collection_policy_config,
};
use selvage_proto::queryresult::Kv;

use super::Chaincodes;
use super::definitions::is_system;
use crate::channels::PeerChannel;
use crate::endorser::Caller;
use crate::lifecycle::{
    LIFECYCLE_NAMESPACE, implicit_collection, implicit_collection_org, read_definition,
};
use crate::report;

/// A proposal on its way through chaincode.
#[derive(Debug)]
pub(crate) struct Proposed {
    /// As the client sent it.
    pub(crate) signed: SignedProposal,
    /// Who sent it.
    pub(crate) caller: Caller,
    /// The chaincode the proposal calls.
    pub(crate) chaincode: String,
    pub(crate) tx_id: String,
}

/// A channel as one transaction sees it.
struct OnChannel {
    channel: Arc<PeerChannel>,
    config: Arc<ChannelConfig>,
    simulator: Option<Simulator>,
}

/// An open iterator.
enum Open {
    Range(RangeId),
    Page(RangeId),
    History(History),
}

/// The context of one transaction on one channel, or on none.
pub(crate) struct Tx {
    engine: Arc<Chaincodes>,
    pub(crate) proposed: Arc<Proposed>,
    on: Option<OnChannel>,
    open: HashMap<u64, Open>,
    opened: u64,
}

type Answer<T> = Result<T, ContextError>;

fn refused(error: LedgerError) -> ContextError {
    ContextError(report(&error))
}

impl Tx {
    /// A transaction that concerns only the peer.
    pub(crate) fn without_channel(engine: Arc<Chaincodes>, proposed: Arc<Proposed>) -> Self {
        Self {
            engine,
            proposed,
            on: None,
            open: HashMap::new(),
            opened: 0,
        }
    }

    /// A transaction on a channel. Without `simulate` there is no state to read, as for the system
    /// chaincodes that look at the ledger themselves.
    pub(crate) fn on_channel(
        engine: Arc<Chaincodes>,
        proposed: Arc<Proposed>,
        channel: Arc<PeerChannel>,
        simulate: bool,
    ) -> Result<Self, LedgerError> {
        let simulator = match simulate {
            true => Some(channel.ledger().simulator(&proposed.tx_id)?),
            false => None,
        };
        let config = channel.config();
        let on = OnChannel {
            channel,
            config,
            simulator,
        };
        Ok(Self {
            on: Some(on),
            ..Self::without_channel(engine, proposed)
        })
    }

    pub(crate) fn channel(&self) -> Option<&Arc<PeerChannel>> {
        self.on.as_ref().map(|on| &on.channel)
    }

    pub(crate) fn channel_id(&self) -> &str {
        self.on.as_ref().map_or("", |on| on.channel.id())
    }

    pub(crate) fn config(&self) -> Option<&Arc<ChannelConfig>> {
        self.on.as_ref().map(|on| &on.config)
    }

    pub(crate) fn simulator_mut(&mut self) -> Option<&mut Simulator> {
        self.on.as_mut()?.simulator.as_mut()
    }

    /// Ends the simulation; `None` when there was none.
    pub(crate) fn finish(mut self) -> Option<Result<Simulation, LedgerError>> {
        let simulator = self.on.as_mut()?.simulator.take()?;
        Some(simulator.done())
    }

    fn simulator(&mut self) -> Answer<&mut Simulator> {
        self.simulator_mut()
            .ok_or_else(|| ContextError::from("no ledger context"))
    }

    fn keep(&mut self, open: Open) -> QueryHandle {
        self.opened += 1;
        self.open.insert(self.opened, open);
        QueryHandle(self.opened)
    }

    /// The configuration of a collection, as the definition of its chaincode has it. Looking it up
    /// leaves reads of the definition in the read set, as it does in Fabric.
    pub(crate) fn collection(
        &mut self,
        namespace: &str,
        collection: &str,
    ) -> Answer<StaticCollectionConfig> {
        let channel = self.channel_id().to_owned();
        let simulator = self.simulator()?;
        let definition = read_definition(namespace, |key| {
            simulator
                .get_state(LIFECYCLE_NAMESPACE, key)
                .map_err(Into::into)
        })
        .map_err(|e| ContextError(format!("could not get chaincode: {}", report(&e))))?;
        let found = definition.and_then(|definition| match implicit_collection_org(collection) {
            Some(msp_id) => Some(implicit_collection(msp_id)),
            None => definition.collection(collection).cloned(),
        });
        found.ok_or_else(|| {
            ContextError(format!(
                "collection {channel}/{namespace}/{collection} could not be found"
            ))
        })
    }

    fn is_member(&self, collection: &StaticCollectionConfig) -> bool {
        let policy = collection
            .member_orgs_policy
            .as_ref()
            .and_then(|p| p.payload.as_ref());
        let (Some(on), Some(policy)) = (&self.on, policy) else {
            return false;
        };
        let collection_policy_config::Payload::SignaturePolicy(policy) = policy;
        let msps = on.config.msp_manager();
        let Ok(policy) = selvage_identity::policy::compile(policy, msps.clone()) else {
            return false;
        };
        match msps.deserialize(&self.proposed.caller.creator) {
            Ok(identity) => policy.evaluate_identities(&[identity]).is_ok(),
            Err(_) => false,
        }
    }
}

fn entries(metadata: Option<Metadata>) -> Vec<(String, Bytes)> {
    metadata.unwrap_or_default().into_iter().collect()
}

fn one_entry(name: &str, value: Bytes) -> Metadata {
    BTreeMap::from([(name.to_owned(), value)])
}

impl TxContext for Tx {
    fn has_ledger(&self) -> bool {
        self.on.as_ref().is_some_and(|on| on.simulator.is_some())
    }

    fn is_system_chaincode(&self, chaincode: &str) -> bool {
        is_system(chaincode)
    }

    fn application_capabilities(&self, channel: &str) -> Option<ApplicationCapabilities> {
        let on = self.on.as_ref().filter(|on| on.channel.id() == channel)?;
        let capabilities = on.config.application()?.capabilities();
        Some(ApplicationCapabilities {
            key_level_endorsement: capabilities.key_level_endorsement(),
            purge_private_data: capabilities.purge_private_data(),
        })
    }

    fn collection_access(&mut self, namespace: &str, collection: &str) -> Answer<CollectionAccess> {
        let config = self.collection(namespace, collection)?;
        let (read, write) = (!config.member_only_read, !config.member_only_write);
        if (read && write) || !self.is_member(&config) {
            return Ok(CollectionAccess { read, write });
        }
        Ok(CollectionAccess {
            read: true,
            write: true,
        })
    }

    fn get_state(&mut self, namespace: &str, key: &str) -> Answer<Option<Bytes>> {
        self.simulator()?.get_state(namespace, key).map_err(refused)
    }

    fn set_state(&mut self, namespace: &str, key: &str, value: Bytes) -> Answer<()> {
        self.simulator()?
            .set_state(namespace, key, value)
            .map_err(refused)
    }

    fn delete_state(&mut self, namespace: &str, key: &str) -> Answer<()> {
        self.simulator()?
            .delete_state(namespace, key)
            .map_err(refused)
    }

    fn get_state_metadata(&mut self, namespace: &str, key: &str) -> Answer<Vec<(String, Bytes)>> {
        let found = self
            .simulator()?
            .get_state_metadata(namespace, key)
            .map_err(refused)?;
        Ok(entries(found))
    }

    fn set_state_metadata(
        &mut self,
        namespace: &str,
        key: &str,
        name: &str,
        value: Bytes,
    ) -> Answer<()> {
        let metadata = one_entry(name, value);
        self.simulator()?
            .set_state_metadata(namespace, key, metadata)
            .map_err(refused)
    }

    fn get_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Answer<Option<Bytes>> {
        self.simulator()?
            .get_private_data(namespace, collection, key)
            .map_err(refused)
    }

    fn get_private_multiple(
        &mut self,
        namespace: &str,
        collection: &str,
        keys: &[String],
    ) -> Answer<Vec<Option<Bytes>>> {
        let simulator = self.simulator()?;
        simulator
            .get_private_data_multiple(namespace, collection, keys)
            .map_err(refused)
    }

    fn get_private_hash(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Answer<Option<Bytes>> {
        self.simulator()?
            .get_private_data_hash(namespace, collection, key)
            .map_err(refused)
    }

    fn set_private(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        value: Bytes,
    ) -> Answer<()> {
        self.simulator()?
            .set_private_data(namespace, collection, key, value)
            .map_err(refused)
    }

    fn delete_private(&mut self, namespace: &str, collection: &str, key: &str) -> Answer<()> {
        self.simulator()?
            .delete_private_data(namespace, collection, key)
            .map_err(refused)
    }

    fn purge_private(&mut self, namespace: &str, collection: &str, key: &str) -> Answer<()> {
        self.simulator()?
            .purge_private_data(namespace, collection, key)
            .map_err(refused)
    }

    fn get_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
    ) -> Answer<Vec<(String, Bytes)>> {
        let simulator = self.simulator()?;
        let found = simulator.get_private_data_metadata(namespace, collection, key);
        Ok(entries(found.map_err(refused)?))
    }

    fn set_private_metadata(
        &mut self,
        namespace: &str,
        collection: &str,
        key: &str,
        name: &str,
        value: Bytes,
    ) -> Answer<()> {
        let metadata = one_entry(name, value);
        let simulator = self.simulator()?;
        simulator
            .set_private_data_metadata(namespace, collection, key, metadata)
            .map_err(refused)
    }

    fn range(&mut self, namespace: &str, start: &str, end: &str) -> Answer<QueryHandle> {
        let range = self
            .simulator()?
            .range(namespace, start, end)
            .map_err(refused)?;
        Ok(self.keep(Open::Range(range)))
    }

    fn range_page(
        &mut self,
        namespace: &str,
        start: &str,
        end: &str,
        page_size: i32,
    ) -> Answer<QueryHandle> {
        let simulator = self.simulator()?;
        let range = simulator
            .range_paged(namespace, start, end, page_size)
            .map_err(refused)?;
        Ok(self.keep(Open::Page(range)))
    }

    fn private_range(
        &mut self,
        namespace: &str,
        collection: &str,
        start: &str,
        end: &str,
    ) -> Answer<QueryHandle> {
        let simulator = self.simulator()?;
        let range = simulator
            .private_range(namespace, collection, start, end)
            .map_err(refused)?;
        Ok(self.keep(Open::Range(range)))
    }

    fn rich_query(&mut self, namespace: &str, query: &str) -> Answer<QueryHandle> {
        let range = self
            .simulator()?
            .execute_query(namespace, query)
            .map_err(refused)?;
        Ok(self.keep(Open::Range(range)))
    }

    fn rich_query_page(
        &mut self,
        namespace: &str,
        query: &str,
        bookmark: &str,
        page_size: i32,
    ) -> Answer<QueryHandle> {
        let simulator = self.simulator()?;
        let range = simulator.execute_query_paged(namespace, query, bookmark, page_size);
        let range = range.map_err(refused)?;
        Ok(self.keep(Open::Page(range)))
    }

    fn private_rich_query(
        &mut self,
        namespace: &str,
        collection: &str,
        query: &str,
    ) -> Answer<QueryHandle> {
        let simulator = self.simulator()?;
        let range = simulator.execute_query_private(namespace, collection, query);
        let range = range.map_err(refused)?;
        Ok(self.keep(Open::Range(range)))
    }

    fn history(&mut self, namespace: &str, key: &str) -> Answer<QueryHandle> {
        let history = self.simulator()?.history(namespace, key).map_err(refused)?;
        Ok(self.keep(Open::History(history)))
    }

    fn query_next(&mut self, handle: QueryHandle) -> Answer<Option<QueryItem>> {
        let gone = || ContextError::from("query iterator not found");
        let range = match self.open.get_mut(&handle.0).ok_or_else(gone)? {
            Open::Range(range) | Open::Page(range) => *range,
            Open::History(history) => {
                let next = history.next().transpose().map_err(refused)?;
                return Ok(next.map(QueryItem::Modification));
            }
        };
        let next = self.simulator()?.next(range).map_err(refused)?;
        Ok(next.map(|kv| {
            QueryItem::Kv(Kv {
                namespace: kv.namespace,
                key: kv.key,
                value: kv.value,
            })
        }))
    }

    fn query_close(&mut self, handle: QueryHandle) -> String {
        let open = self.open.remove(&handle.0);
        let Some(simulator) = self.simulator_mut() else {
            return String::new();
        };
        match open {
            Some(Open::Page(range)) => simulator.bookmark_and_close(range).unwrap_or_default(),
            Some(Open::Range(range)) => {
                simulator.close(range);
                String::new()
            }
            Some(Open::History(_)) | None => String::new(),
        }
    }

    fn check_call(&mut self, call: &ChaincodeCall) -> Answer<()> {
        if !is_system(&call.chaincode) {
            let caller = &self.proposed.caller;
            self.engine
                .check_call_allowed(&call.channel, caller)
                .map_err(ContextError)?;
        }
        if call.channel != self.channel_id() && self.engine.channel(&call.channel).is_none() {
            let channel = &call.channel;
            return Err(ContextError(format!(
                "failed to find ledger for channel: {channel}"
            )));
        }
        Ok(())
    }

    fn call_chaincode<'a>(
        &'a mut self,
        call: ChaincodeCall,
    ) -> BoxFuture<'a, Answer<ChaincodeMessage>> {
        Box::pin(async move {
            let engine = self.engine.clone();
            if call.channel == self.channel_id() {
                return engine
                    .invoke(self, &call.chaincode, call.input)
                    .await
                    .map_err(ContextError);
            }
            // What a callee on another channel writes is dropped with its simulation.
            let channel = engine.channel(&call.channel).ok_or_else(|| {
                ContextError(format!(
                    "failed to find ledger for channel: {}",
                    call.channel
                ))
            })?;
            let proposed = self.proposed.clone();
            let mut other =
                Tx::on_channel(engine.clone(), proposed, channel, true).map_err(refused)?;
            let invoked = engine.invoke(&mut other, &call.chaincode, call.input).await;
            invoked.map_err(ContextError)
        })
    }
}
