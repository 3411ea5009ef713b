//! Fabric's wire types, one Rust type per protobuf message, and the bytes that Fabric hashes.
//!
//! The `.proto` files under `proto/` are this project's own; their packages, messages and field
//! numbers are Fabric's wire contract, which a test in `tests/conformance` compares, message by
//! message, with the descriptors inside a published package.
//!
//! Rules that hold for everything here:
//!
//! * `bytes` fields are [`bytes::Bytes`] and share the buffer they were decoded from.
//! * Maps are `BTreeMap`, so that encoding is deterministic.
//! * Decoding drops unknown fields. Whoever signs, hashes or forwards a message keeps the bytes it
//!   received instead of encoding again.

#![allow(missing_docs, unreachable_pub)]

mod wire {
    #![allow(clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/modules.rs"));
}

pub use wire::selvage::ledger as internal;
pub use wire::{
    common, discovery, etcdraft, gateway, google, gossip, kvrwset, lifecycle, msp, orderer, protos,
    queryresult, rwset, transientstore,
};

/// The messages of Fabric's `peer` directory; their protobuf package is called `protos`.
pub use wire::protos as peer;

pub use prost::Message;
pub use prost_types::{Any, Timestamp};

pub mod block;
pub mod tx;

/// The `FileDescriptorSet` of every file in `proto/`, encoded.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/fabric.descriptors"));
