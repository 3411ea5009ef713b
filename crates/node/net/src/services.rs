//! Client and server stubs of every Fabric service, and of the gRPC health protocol.
//!
//! Messages are those of `selvage-proto`; `google.protobuf.Empty` is `()`. A service `FooBar` has
//! the modules `foo_bar_client` and `foo_bar_server`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/discovery.rs"));
include!(concat!(env!("OUT_DIR"), "/gateway.rs"));
include!(concat!(env!("OUT_DIR"), "/gossip.rs"));
include!(concat!(env!("OUT_DIR"), "/orderer.rs"));
include!(concat!(env!("OUT_DIR"), "/protos.rs"));

/// Messages and stubs of `grpc.health.v1`.
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}
