//! Block store, state with MVCC, history and private data
