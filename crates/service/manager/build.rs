//! Builds again when the console appears or changes: `rust-embed` looks only while compiling.

fn main() {
    println!("cargo:rerun-if-changed=../../../web/dist");
}
