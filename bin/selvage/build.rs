//! Carries the sample chaincode's source inside the program, so that `selvage up` needs no other
//! file than the programs themselves.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Folders of built things, which are no source.
const BUILT: [&str; 4] = ["node_modules", "dist", "target", "vendor"];

fn main() -> io::Result<()> {
    let examples = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?)
        .join("../../examples");
    let mut code = String::new();
    for (name, folder) in [("NODE", "chaincode-typescript"), ("GO", "chaincode-go")] {
        let root = examples.join(folder);
        println!("cargo:rerun-if-changed={}", root.display());
        let mut files = Vec::new();
        if root.is_dir() {
            collect(&root, &root, &mut files)?;
        }
        files.sort();
        writeln!(code, "pub(crate) static {name}: &[(&str, &[u8])] = &[")
            .map_err(io::Error::other)?;
        for (relative, path) in files {
            writeln!(code, "    ({relative:?}, include_bytes!({path:?})),")
                .map_err(io::Error::other)?;
        }
        writeln!(code, "];").map_err(io::Error::other)?;
    }
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    fs::write(out.join("samples.rs"), code)
}

fn collect(root: &Path, folder: &Path, out: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.starts_with('.') || BUILT.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, out)?;
        } else {
            let relative = path.strip_prefix(root).map_err(io::Error::other)?;
            let absolute = path.canonicalize()?;
            out.push((
                relative.to_string_lossy().replace('\\', "/"),
                absolute.to_string_lossy().into_owned(),
            ));
        }
    }
    Ok(())
}
