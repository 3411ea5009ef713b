//! Repository checks that need no network: `cargo xtask tidy`.

use std::path::PathBuf;
use std::process::ExitCode;

mod tidy;

const USAGE: &str = "usage: cargo xtask tidy [--no-lints]

  tidy        crate arrows, library owners, licences, named paths, source rules, formatting, lints
  --no-lints  leaves out rustfmt and clippy, the two slow ones";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let with_lints = match words.as_slice() {
        ["tidy"] => true,
        ["tidy", "--no-lints"] => false,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match tidy::run(&root(), with_lints) {
        Ok(findings) if findings.is_empty() => {
            println!("tidy: nothing to mend");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in &findings {
                eprintln!("tidy: {finding}");
            }
            eprintln!("tidy: {} to mend", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error}");
            ExitCode::from(2)
        }
    }
}

/// The top of the checkout: this package lies in `tools/xtask`.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map_or(here.clone(), PathBuf::from)
}
