//! Open iterators of one transaction and the batches in which their results travel.

use std::collections::HashMap;

use bytes::Bytes;
use selvage_proto::Message;
use selvage_proto::peer::{QueryResponse, QueryResponseMetadata, QueryResultBytes};

use super::context::{ContextError, QueryHandle, QueryItem, TxContext};
use super::tx::QueryLimits;

#[derive(Debug)]
struct Open {
    handle: QueryHandle,
    /// Results read but not yet sent: between batches it holds the one read ahead.
    pending: Vec<QueryResultBytes>,
    returned: i32,
}

/// The iterators a transaction has open, by the id its chaincode knows.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    open: HashMap<String, Open>,
    issued: u64,
}

impl Queries {
    /// Registers an iterator and returns its id.
    pub(crate) fn add(
        &mut self,
        ctx: &mut dyn TxContext,
        handle: QueryHandle,
        limits: &QueryLimits,
    ) -> Result<String, ContextError> {
        if self.open.len() >= limits.open_iterators {
            ctx.query_close(handle);
            return Err(ContextError(format!(
                "more than {} iterators are open in this transaction; close iterators after use",
                limits.open_iterators
            )));
        }
        self.issued += 1;
        let id = self.issued.to_string();
        self.open.insert(
            id.clone(),
            Open {
                handle,
                pending: Vec::new(),
                returned: 0,
            },
        );
        Ok(id)
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.open.contains_key(id)
    }

    /// Closes one iterator and returns its bookmark.
    pub(crate) fn close(&mut self, ctx: &mut dyn TxContext, id: &str) -> String {
        self.open
            .remove(id)
            .map_or_else(String::new, |open| ctx.query_close(open.handle))
    }

    /// Closes all iterators, at the end of the transaction.
    pub(crate) fn close_all(&mut self, ctx: &mut dyn TxContext) {
        for (_, open) in self.open.drain() {
            ctx.query_close(open.handle);
        }
    }

    /// The next batch of an iterator (Fabric: `QueryResponseGenerator`).
    ///
    /// Without pagination a batch holds `limits.batch` results, and one more is read to learn
    /// whether the scan goes on; that result, recorded in the read set by now, starts the next
    /// batch. With pagination everything up to `total` comes in one message with a bookmark.
    pub(crate) fn batch(
        &mut self,
        ctx: &mut dyn TxContext,
        id: &str,
        paginated: bool,
        total: i32,
        limits: &QueryLimits,
    ) -> Result<QueryResponse, ContextError> {
        let result = self.fill(ctx, id, paginated, total, limits);
        if !matches!(result, Ok(Some(_))) {
            let bookmark = self.finish(ctx, id);
            return result.map(|_| end_of_scan(id, paginated, bookmark));
        }
        result.map(Option::unwrap_or_default)
    }

    /// Reads until a batch is full. `None` means that the scan has ended.
    fn fill(
        &mut self,
        ctx: &mut dyn TxContext,
        id: &str,
        paginated: bool,
        total: i32,
        limits: &QueryLimits,
    ) -> Result<Option<QueryResponse>, ContextError> {
        let Some(open) = self.open.get_mut(id) else {
            return Err("query iterator not found".into());
        };
        while open.returned < total {
            let Some(item) = ctx.query_next(open.handle)? else {
                return Ok(None);
            };
            let full = !paginated && open.pending.len() == limits.batch;
            let cut = full.then(|| std::mem::take(&mut open.pending));
            open.pending.push(encode(&item));
            open.returned += 1;
            if let Some(results) = cut {
                return Ok(Some(QueryResponse {
                    results,
                    has_more: true,
                    id: id.to_owned(),
                    metadata: Bytes::new(),
                }));
            }
        }
        Ok(None)
    }

    fn finish(&mut self, ctx: &mut dyn TxContext, id: &str) -> Finished {
        let Some(open) = self.open.remove(id) else {
            return Finished::default();
        };
        Finished {
            bookmark: ctx.query_close(open.handle),
            results: open.pending,
            returned: open.returned,
        }
    }
}

#[derive(Debug, Default)]
struct Finished {
    bookmark: String,
    results: Vec<QueryResultBytes>,
    returned: i32,
}

fn end_of_scan(id: &str, paginated: bool, finished: Finished) -> QueryResponse {
    let metadata = if paginated {
        let metadata = QueryResponseMetadata {
            fetched_records_count: finished.returned,
            bookmark: finished.bookmark,
        };
        Bytes::from(metadata.encode_to_vec())
    } else {
        Bytes::new()
    };
    QueryResponse {
        results: finished.results,
        has_more: false,
        id: id.to_owned(),
        metadata,
    }
}

fn encode(item: &QueryItem) -> QueryResultBytes {
    let bytes = match item {
        QueryItem::Kv(kv) => kv.encode_to_vec(),
        QueryItem::Modification(change) => change.encode_to_vec(),
    };
    QueryResultBytes {
        result_bytes: Bytes::from(bytes),
    }
}
