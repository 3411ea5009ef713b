//! Recorded traffic of real Fabric peers, played again.

mod contract;
mod endorse;
mod evaluate;
mod peer;
