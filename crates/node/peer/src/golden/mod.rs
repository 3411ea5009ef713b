//! Recorded traffic of real Fabric peers, played again.

mod client;
mod contract;
mod discovery;
mod doors;
mod endorse;
mod evaluate;
mod gateway;
mod lifecycle;
mod peer;
mod streams;
