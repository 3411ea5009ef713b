//! TLS, gRPC servers and clients, block delivery and the operations endpoint.

pub mod services;
