//! Compiles the `.proto` files without a `protoc` on the machine.

use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    println!("cargo:rerun-if-changed={}", root.display());

    let descriptors = protox::compile(&files, [&root])?;
    let descriptor_file = out.join("fabric.descriptors");
    fs::write(&descriptor_file, descriptors.encode_to_vec())?;
    // `selvage-net` generates its RPC stubs from the same descriptors.
    println!("cargo:descriptors={}", descriptor_file.display());

    // Byte fields share the buffer they were read from, and maps keep their keys in order, because
    // configuration groups are hashed and compared as bytes.
    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .btree_map(["."])
        .include_file("modules.rs");
    config.enum_attribute(".", "#[allow(clippy::enum_variant_names)]");
    config.compile_fds(descriptors)?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
