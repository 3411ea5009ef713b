//! The service: tenants, instances, operations, drivers; it serves the API and the console.
//!
//! Where to look:
//!
//! * [`auth`]: request signatures (SDK-HMAC-SHA256), tokens, passwords;
//! * `store`: the SQLite file behind everything;
//! * `operations`: the engine that creates and deletes instances step by step, and its steps;
//! * `network`: an instance on paper: names, ports, key material, genesis blocks, node
//!   configuration (Fabric's `core.yaml` and `orderer.yaml`);
//! * `driver`: running the nodes; today as supervised child processes;
//! * `nodes`: what is asked of running nodes (Fabric's `peer channel join`, `osnadmin channel
//!   join`, `peer lifecycle chaincode …`);
//! * `chaincode`: zips and packages installed and instantiated, and what the peers have;
//! * `http`: the server; `browser`: the block browser behind it;
//! * [`shell`]: lines that a person copies;
//! * `up` and `control`: what `selvage up`, `selvage down` and `selvage deploy` do.

mod access;
mod advice;
mod archive;
pub mod auth;
mod browser;
mod call;
mod chaincode;
mod clock;
pub mod control;
mod data_dir;
mod driver;
mod error;
mod fabric;
mod files;
mod http;
mod network;
mod nodes;
mod operations;
mod portal;
mod random;
mod sample;
mod service;
pub mod shell;
mod store;
mod up;

pub use access::Access;
pub use call::{Call, CallAnswer, Target, call};
pub use chaincode::{DeployAnswer, DeployRequest, Source, read_source};
pub use data_dir::{DataDir, UpTurn, holder, is_held};
pub use driver::local::Programs;
pub use error::ManagerError;
pub use http::router;
pub use portal::Portal;
pub use sample::{SAMPLE_NAME, SAMPLE_VERSION, Sample};
pub use selvage_net::CancellationToken;
pub use service::{LOG_FILE, Manager, Settings};
pub use up::{GatewayReport, NO_CHAINCODE, UpAnswer, UpReport, UpRequest};
