//! The service: tenants, instances, operations, drivers; it serves the API and the console.
//!
//! Where to look:
//!
//! * [`auth`]: request signatures (SDK-HMAC-SHA256), tokens, passwords;
//! * `store`: the SQLite file behind everything;
//! * `operations`: the engine that creates and deletes instances step by step, and its steps;
//! * `network`: an instance on paper: names, ports, key material, genesis blocks, node
//!   configuration (Fabric's `core.yaml` and `orderer.yaml`);
//! * `driver`: running the nodes; today as supervised child processes.

pub mod auth;
mod clock;
mod data_dir;
mod driver;
mod error;
mod fabric;
mod files;
mod network;
mod operations;
mod random;
mod store;

pub use data_dir::{DataDir, holder};
pub use driver::local::Programs;
pub use error::ManagerError;
