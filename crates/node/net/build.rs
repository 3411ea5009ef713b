//! Generates the RPC stubs from the descriptors that `selvage-proto` compiled, so that no message
//! type exists twice.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use prost_types::FileDescriptorSet;

/// Packages whose messages live in `selvage-proto` under the same name.
const PACKAGES: &[&str] = &[
    "common",
    "discovery",
    "etcdraft",
    "gateway",
    "gossip",
    "kvrwset",
    "lifecycle",
    "msp",
    "orderer",
    "protos",
    "queryresult",
    "rwset",
    "transientstore",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = env::var("DEP_SELVAGE_PROTO_DESCRIPTORS")?;
    println!("cargo:rerun-if-changed={path}");
    println!("cargo:rerun-if-changed=proto");
    let mut descriptors = FileDescriptorSet::decode(fs::read(path)?.as_slice())?;
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let health = protox::compile(["grpc/health/v1/health.proto"], [&root])?;
    descriptors.file.extend(health.file);

    let mut builder = tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .build_transport(false)
        .extern_path(".google.rpc", "::selvage_proto::google::rpc")
        .extern_path(".selvage.ledger", "::selvage_proto::internal");
    for package in PACKAGES {
        builder = builder.extern_path(format!(".{package}"), format!("::selvage_proto::{package}"));
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("methods.rs"), methods(&descriptors))?;
    builder.compile_fds(descriptors)?;
    Ok(())
}

/// Every method: its path, its service and name as metrics have them, and whether it has streams.
fn methods(descriptors: &FileDescriptorSet) -> String {
    let mut table = String::from("&[\n");
    for file in &descriptors.file {
        for service in &file.service {
            let full = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let streams = method.client_streaming() || method.server_streaming();
                table.push_str(&format!(
                    "    (\"/{full}/{0}\", \"{1}\", \"{0}\", {streams}),\n",
                    method.name(),
                    full.replace('.', "_"),
                ));
            }
        }
    }
    table.push(']');
    table
}
