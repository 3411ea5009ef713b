//! One transaction on a chaincode stream: from its first request to `COMPLETED` or `ERROR`.

use std::collections::HashMap;

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::peer::chaincode_message::Type;
use selvage_proto::peer::{
    ChaincodeMessage, ChaincodeSpec, DelState, GetHistoryForKey, GetQueryResult, GetState,
    GetStateByRange, GetStateMetadata, GetStateMultiple, GetStateMultipleResult, PutState,
    PutStateMetadata, QueryMetadata, QueryResponse, QueryStateClose, QueryStateNext, StateMetadata,
    StateMetadataResult, WriteBatchState, WriteRecord, write_record,
};

use super::context::{
    ApplicationCapabilities, ChaincodeCall, CollectionAccess, ContextError, QueryHandle, TxContext,
};
use super::query::Queries;
use super::session::error_reply;

type Answer = Result<Bytes, ContextError>;

/// Bounds on queries of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Results per message when the chaincode does not paginate.
    pub batch: usize,
    /// Results of one query in all (`ledger.state.totalQueryLimit`).
    pub total: i32,
    /// Iterators open at one time.
    pub open_iterators: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            batch: 100,
            total: 100_000,
            open_iterators: 1000,
        }
    }
}

/// What follows from a message of the chaincode.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Send this answer.
    Reply(ChaincodeMessage),
    /// Run this call, then send what [`TxHandler::answer_call`] makes of its outcome.
    Call(ChaincodeCall),
    /// The transaction ended with this message.
    Finished(ChaincodeMessage),
}

/// Answers the requests of one transaction (Fabric: `TransactionContext` and the handlers).
#[derive(Debug)]
pub struct TxHandler {
    namespace: String,
    channel: String,
    txid: String,
    /// The legacy `INIT`, in which private data is out of reach.
    init: bool,
    limits: QueryLimits,
    queries: Queries,
    access: HashMap<String, CollectionAccess>,
}

impl TxHandler {
    /// A transaction of the chaincode `namespace`; `init` when it was started with `INIT`.
    pub fn new(
        namespace: &str,
        channel: &str,
        txid: &str,
        init: bool,
        limits: QueryLimits,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            channel: channel.to_owned(),
            txid: txid.to_owned(),
            init,
            limits,
            queries: Queries::default(),
            access: HashMap::new(),
        }
    }

    /// Handles one message that [`super::Session`] delivered to this transaction.
    pub fn handle(&mut self, message: ChaincodeMessage, ctx: &mut dyn TxContext) -> Step {
        let kind = Type::try_from(message.r#type).unwrap_or(Type::Undefined);
        let answer = match kind {
            Type::Completed | Type::Error => {
                self.queries.close_all(ctx);
                return Step::Finished(message);
            }
            Type::InvokeChaincode => match self.prepare_call(&message.payload, ctx) {
                Ok(call) => return Step::Call(call),
                Err(error) => Err(error),
            },
            _ if !ctx.has_ledger() => Err("no ledger context".into()),
            _ => self.request(kind, &message.payload, ctx),
        };
        Step::Reply(match answer {
            Ok(payload) => self.response(payload),
            Err(error) => error_reply(&message, kind, &error),
        })
    }

    /// The answer to a request for a call, given its outcome.
    pub fn answer_call(&self, outcome: Result<ChaincodeMessage, ContextError>) -> ChaincodeMessage {
        match outcome {
            Ok(message) => self.response(Bytes::from(message.encode_to_vec())),
            Err(error) => {
                let request = self.response(Bytes::new());
                let error = ContextError(format!("execute failed: {error}"));
                error_reply(&request, Type::InvokeChaincode, &error)
            }
        }
    }

    /// Closes what a transaction that ended otherwise (timeout, lost stream) left open.
    pub fn abandon(&mut self, ctx: &mut dyn TxContext) {
        self.queries.close_all(ctx);
    }

    fn response(&self, payload: Bytes) -> ChaincodeMessage {
        ChaincodeMessage {
            r#type: Type::Response as i32,
            payload,
            txid: self.txid.clone(),
            channel_id: self.channel.clone(),
            ..Default::default()
        }
    }

    fn request(&mut self, kind: Type, payload: &Bytes, ctx: &mut dyn TxContext) -> Answer {
        match kind {
            Type::GetState => self.get_state(&decode(payload)?, ctx),
            Type::GetStateMultiple => self.get_state_multiple(&decode(payload)?, ctx),
            Type::GetPrivateDataHash => self.get_private_hash(&decode(payload)?, ctx),
            Type::GetStateMetadata => {
                check_metadata_capability(ctx, &self.channel)?;
                self.get_metadata(&decode(payload)?, ctx)
            }
            Type::PutState => self.put_state(decode(payload)?, ctx),
            Type::DelState => self.delete_state(&decode(payload)?, ctx),
            Type::PurgePrivateData => self.purge(&decode(payload)?, ctx),
            Type::PutStateMetadata => self.put_metadata(decode(payload)?, ctx),
            Type::WriteBatchState => self.write_batch(decode(payload)?, ctx),
            Type::GetStateByRange => self.range(&decode(payload)?, ctx),
            Type::GetQueryResult => self.rich_query(&decode(payload)?, ctx),
            Type::GetHistoryForKey => self.history(&decode(payload)?, ctx),
            Type::QueryStateNext => self.query_next(&decode(payload)?, ctx),
            Type::QueryStateClose => self.query_close(&decode(payload)?, ctx),
            other => Err(ContextError(format!(
                "{} is not a request of a chaincode",
                other.as_str_name()
            ))),
        }
    }

    fn get_state(&mut self, get: &GetState, ctx: &mut dyn TxContext) -> Answer {
        let value = if get.collection.is_empty() {
            ctx.get_state(&self.namespace, &get.key)?
        } else {
            self.check_read(&get.collection, ctx)?;
            ctx.get_private(&self.namespace, &get.collection, &get.key)?
        };
        Ok(value.unwrap_or_default())
    }

    fn get_state_multiple(&mut self, get: &GetStateMultiple, ctx: &mut dyn TxContext) -> Answer {
        let values = if get.collection.is_empty() {
            ctx.get_state_multiple(&self.namespace, &get.keys)?
        } else {
            self.check_read(&get.collection, ctx)?;
            ctx.get_private_multiple(&self.namespace, &get.collection, &get.keys)?
        };
        let values = values.into_iter().map(Option::unwrap_or_default).collect();
        Ok(GetStateMultipleResult { values }.encode_to_vec().into())
    }

    fn get_private_hash(&mut self, get: &GetState, ctx: &mut dyn TxContext) -> Answer {
        self.refuse_in_init()?;
        let hash = ctx.get_private_hash(&self.namespace, &get.collection, &get.key)?;
        Ok(hash.unwrap_or_default())
    }

    fn get_metadata(&mut self, get: &GetStateMetadata, ctx: &mut dyn TxContext) -> Answer {
        let entries = if get.collection.is_empty() {
            ctx.get_state_metadata(&self.namespace, &get.key)?
        } else {
            self.check_read(&get.collection, ctx)?;
            ctx.get_private_metadata(&self.namespace, &get.collection, &get.key)?
        };
        let entries = entries
            .into_iter()
            .map(|(metakey, value)| StateMetadata { metakey, value })
            .collect();
        Ok(StateMetadataResult { entries }.encode_to_vec().into())
    }

    fn put_state(&mut self, put: PutState, ctx: &mut dyn TxContext) -> Answer {
        if put.collection.is_empty() {
            ctx.set_state(&self.namespace, &put.key, put.value)?;
        } else {
            self.check_write(&put.collection, ctx)?;
            ctx.set_private(&self.namespace, &put.collection, &put.key, put.value)?;
        }
        Ok(Bytes::new())
    }

    fn delete_state(&mut self, delete: &DelState, ctx: &mut dyn TxContext) -> Answer {
        if delete.collection.is_empty() {
            ctx.delete_state(&self.namespace, &delete.key)?;
        } else {
            self.check_write(&delete.collection, ctx)?;
            ctx.delete_private(&self.namespace, &delete.collection, &delete.key)?;
        }
        Ok(Bytes::new())
    }

    fn purge(&mut self, delete: &DelState, ctx: &mut dyn TxContext) -> Answer {
        if !capabilities(ctx, &self.channel)?.purge_private_data {
            return Err(
                "purge private data is not enabled, channel application capability of \
                        V2_5 or later is required"
                    .into(),
            );
        }
        if delete.collection.is_empty() {
            return Err("only applicable for private data".into());
        }
        self.check_write(&delete.collection, ctx)?;
        ctx.purge_private(&self.namespace, &delete.collection, &delete.key)?;
        Ok(Bytes::new())
    }

    fn put_metadata(&mut self, put: PutStateMetadata, ctx: &mut dyn TxContext) -> Answer {
        check_metadata_capability(ctx, &self.channel)?;
        let Some(StateMetadata { metakey, value }) = put.metadata else {
            return Err("no metadata in the request".into());
        };
        if put.collection.is_empty() {
            ctx.set_state_metadata(&self.namespace, &put.key, &metakey, value)?;
        } else {
            self.check_write(&put.collection, ctx)?;
            let collection = &put.collection;
            ctx.set_private_metadata(&self.namespace, collection, &put.key, &metakey, value)?;
        }
        Ok(Bytes::new())
    }

    fn write_batch(&mut self, batch: WriteBatchState, ctx: &mut dyn TxContext) -> Answer {
        for record in batch.rec {
            self.write_record(record, ctx)?;
        }
        Ok(Bytes::new())
    }

    fn write_record(&mut self, record: WriteRecord, ctx: &mut dyn TxContext) -> Answer {
        let WriteRecord {
            key,
            value,
            collection,
            metadata,
            r#type,
        } = record;
        match write_record::Type::try_from(r#type) {
            Ok(write_record::Type::PutState) => self.put_state(
                PutState {
                    key,
                    value,
                    collection,
                },
                ctx,
            ),
            Ok(write_record::Type::DelState) => {
                self.delete_state(&DelState { key, collection }, ctx)
            }
            Ok(write_record::Type::PurgePrivateData) => {
                self.purge(&DelState { key, collection }, ctx)
            }
            Ok(write_record::Type::PutStateMetadata) => {
                // Fabric reads absent metadata of a batch as an entry without name and value.
                let metadata = Some(metadata.unwrap_or_default());
                self.put_metadata(
                    PutStateMetadata {
                        key,
                        collection,
                        metadata,
                    },
                    ctx,
                )
            }
            Ok(write_record::Type::Undefined) | Err(_) => Err("unknown operation type".into()),
        }
    }

    fn range(&mut self, get: &GetStateByRange, ctx: &mut dyn TxContext) -> Answer {
        let page = query_metadata(&get.metadata)?;
        let total = self.total_limit(page.as_ref());
        let (handle, paginated) = if !get.collection.is_empty() {
            self.check_read(&get.collection, ctx)?;
            let (start, end) = (&get.start_key, &get.end_key);
            (
                ctx.private_range(&self.namespace, &get.collection, start, end)?,
                false,
            )
        } else if let Some(page) = page.filter(is_paginated) {
            let start = if page.bookmark.is_empty() {
                &get.start_key
            } else {
                &page.bookmark
            };
            (
                ctx.range_page(&self.namespace, start, &get.end_key, page.page_size)?,
                true,
            )
        } else {
            (
                ctx.range(&self.namespace, &get.start_key, &get.end_key)?,
                false,
            )
        };
        self.first_batch(handle, paginated, total, ctx)
    }

    fn rich_query(&mut self, get: &GetQueryResult, ctx: &mut dyn TxContext) -> Answer {
        let page = query_metadata(&get.metadata)?;
        let total = self.total_limit(page.as_ref());
        let (handle, paginated) = if !get.collection.is_empty() {
            self.check_read(&get.collection, ctx)?;
            (
                ctx.private_rich_query(&self.namespace, &get.collection, &get.query)?,
                false,
            )
        } else if let Some(page) = page.filter(is_paginated) {
            let (bookmark, size) = (&page.bookmark, page.page_size);
            (
                ctx.rich_query_page(&self.namespace, &get.query, bookmark, size)?,
                true,
            )
        } else {
            (ctx.rich_query(&self.namespace, &get.query)?, false)
        };
        self.first_batch(handle, paginated, total, ctx)
    }

    fn history(&mut self, get: &GetHistoryForKey, ctx: &mut dyn TxContext) -> Answer {
        let handle = ctx.history(&self.namespace, &get.key)?;
        self.first_batch(handle, false, self.limits.total, ctx)
    }

    fn first_batch(
        &mut self,
        handle: QueryHandle,
        paginated: bool,
        total: i32,
        ctx: &mut dyn TxContext,
    ) -> Answer {
        let id = self.queries.add(ctx, handle, &self.limits)?;
        let response = self
            .queries
            .batch(ctx, &id, paginated, total, &self.limits)?;
        Ok(response.encode_to_vec().into())
    }

    fn query_next(&mut self, next: &QueryStateNext, ctx: &mut dyn TxContext) -> Answer {
        if !self.queries.contains(&next.id) {
            return Err("query iterator not found".into());
        }
        let response = self
            .queries
            .batch(ctx, &next.id, false, self.limits.total, &self.limits)?;
        Ok(response.encode_to_vec().into())
    }

    fn query_close(&mut self, close: &QueryStateClose, ctx: &mut dyn TxContext) -> Answer {
        self.queries.close(ctx, &close.id);
        let response = QueryResponse {
            id: close.id.clone(),
            ..Default::default()
        };
        Ok(response.encode_to_vec().into())
    }

    fn total_limit(&self, page: Option<&QueryMetadata>) -> i32 {
        match page {
            Some(page) if page.page_size > 0 => page.page_size.min(self.limits.total),
            _ => self.limits.total,
        }
    }

    fn prepare_call(
        &self,
        payload: &Bytes,
        ctx: &mut dyn TxContext,
    ) -> Result<ChaincodeCall, ContextError> {
        if !self.channel.is_empty() && !ctx.has_ledger() {
            return Err("could not get valid transaction".into());
        }
        let spec: ChaincodeSpec = decode(payload)?;
        let Some(id) = spec.chaincode_id else {
            return Err("the request names no chaincode".into());
        };
        let (chaincode, channel) = parse_name(&id.name);
        if self.channel.is_empty() && !ctx.is_system_chaincode(chaincode) {
            return Err("could not get valid transaction".into());
        }
        let channel = if channel.is_empty() {
            self.channel.as_str()
        } else {
            channel
        };
        let call = ChaincodeCall {
            chaincode: chaincode.to_owned(),
            channel: channel.to_owned(),
            txid: self.txid.clone(),
            input: spec.input.unwrap_or_default(),
        };
        ctx.check_call(&call)?;
        Ok(call)
    }

    fn refuse_in_init(&self) -> Result<(), ContextError> {
        if self.init {
            return Err("private data APIs are not allowed in chaincode Init()".into());
        }
        Ok(())
    }

    fn check_read(
        &mut self,
        collection: &str,
        ctx: &mut dyn TxContext,
    ) -> Result<(), ContextError> {
        if self.access(collection, ctx)?.read {
            Ok(())
        } else {
            self.denied("read", collection)
        }
    }

    fn check_write(
        &mut self,
        collection: &str,
        ctx: &mut dyn TxContext,
    ) -> Result<(), ContextError> {
        if self.access(collection, ctx)?.write {
            Ok(())
        } else {
            self.denied("write", collection)
        }
    }

    fn denied(&self, what: &str, collection: &str) -> Result<(), ContextError> {
        Err(ContextError(format!(
            "tx creator does not have {what} access permission on privatedata in \
             chaincodeName:{} collectionName: {collection}",
            self.namespace
        )))
    }

    fn access(
        &mut self,
        collection: &str,
        ctx: &mut dyn TxContext,
    ) -> Result<CollectionAccess, ContextError> {
        self.refuse_in_init()?;
        if let Some(access) = self.access.get(collection) {
            return Ok(*access);
        }
        let access = ctx.collection_access(&self.namespace, collection)?;
        self.access.insert(collection.to_owned(), access);
        Ok(access)
    }
}

/// Splits `name:version/channel` into name and channel; Fabric ignores the version.
fn parse_name(full: &str) -> (&str, &str) {
    let (name, channel) = full.split_once('/').unwrap_or((full, ""));
    (
        name.split_once(':').map_or(name, |(name, _version)| name),
        channel,
    )
}

fn capabilities(
    ctx: &dyn TxContext,
    channel: &str,
) -> Result<ApplicationCapabilities, ContextError> {
    ctx.application_capabilities(channel)
        .ok_or_else(|| ContextError(format!("application config does not exist for {channel}")))
}

fn check_metadata_capability(ctx: &dyn TxContext, channel: &str) -> Result<(), ContextError> {
    if capabilities(ctx, channel)?.key_level_endorsement {
        return Ok(());
    }
    Err(
        "key level endorsement is not enabled, channel application capability of V1_3 or later \
         is required"
            .into(),
    )
}

fn is_paginated(page: &QueryMetadata) -> bool {
    page.page_size != 0 || !page.bookmark.is_empty()
}

fn query_metadata(bytes: &Bytes) -> Result<Option<QueryMetadata>, ContextError> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        decode(bytes).map(Some)
    }
}

fn decode<M: Message + Default>(payload: &Bytes) -> Result<M, ContextError> {
    M::decode(payload.clone())
        .map_err(|error| ContextError(format!("unmarshal failed: proto: {error}")))
}
