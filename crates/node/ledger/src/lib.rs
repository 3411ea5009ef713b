//! The ledger of a channel: the blocks as they came, the state they lead to, and proof of both.
//!
//! A block arrives with the codes its validator gave. The ledger checks what each transaction read
//! against the state ([MVCC](Ledger::commit)), computes the commit hash that peers compare, appends
//! the block to files that are synced, and moves state, history and indexes to the new height in
//! one atomic batch. Before that, chaincode runs on a [`Simulator`] that gives the read/write set
//! in exactly Fabric's bytes. Everything but private data can be rebuilt from the block files.
//!
//! An orderer uses [`BlockStore`] alone.
//!
//! | here | Fabric |
//! |---|---|
//! | [`BlockStore`] | blkstorage (block files and their number index) |
//! | [`Ledger`] | kvledger, ledgermgmt |
//! | [`Simulator`], [`Simulation`] | TxSimulator, TxSimulationResults |
//! | [`QueryExecutor`] | QueryExecutor without a read set |
//! | [`TxRwSet`] | rwsetutil.TxRwSet |
//! | [`History`] | history database, KeyModification |
//! | [`CommitListener`] | commit notifications, state listeners |
//! | [`CollectionSource`] | DeployedChaincodeInfoProvider, BTL policy |
//! | [`Ledger::put_transient`] | transient store |
//!
//! The ledger stores and compares versions; it does not judge identities or policies.

mod blocks;
mod commit;
mod encode;
mod error;
mod events;
mod history;
mod keys;
mod ledger;
mod mvcc;
mod private;
mod query;
mod rwset;
mod simulator;
mod state;
mod store;
mod tx;
mod version;

pub use blocks::{BlockStore, BlockStoreOptions, ChainInfo};
pub use commit::CHANNEL_CONFIG_KEY;
pub use error::{BlockStoreError, LedgerError};
pub use events::{CommitListener, CommittedBlock};
pub use history::History;
pub use ledger::{Ledger, LedgerOptions, StateStorage};
pub use private::PrivateSets;
pub use query::{
    CollectionInfo, CollectionSource, Kv, NoCollections, QueryExecutor, RangeScan, StateReader,
};
pub use rwset::builder::Metadata;
pub use rwset::{CollectionRwSet, NsRwSet, TxRwSet};
pub use simulator::{RangeId, Simulation, Simulator, WrittenKey};
pub use state::StateEntry;
pub use store::StoreError;
pub use tx::{DecodedTx, tx_id_of};
pub use version::Version;
