//! Compiles the shim. It is C because it stands in for functions of the C library, which in Rust
//! would be unsafe from end to end and would replace those functions in the tests themselves.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/shim.c";
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-env-changed=CC");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let status = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O2", "-std=gnu11"])
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(out.join("shim.so"))
        .arg(source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{compiler} {source}: {status}"),
        Err(error) => panic!("{compiler} does not start, install a C compiler: {error}"),
    }
}
