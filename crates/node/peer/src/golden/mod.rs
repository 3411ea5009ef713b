//! Recorded traffic of real Fabric peers, played again.

mod client;
mod contract;
mod endorse;
mod evaluate;
mod gateway;
mod lifecycle;
mod peer;
mod streams;
