//! The orderer binary: `orderer start` and `orderer version`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use selvage_orderer::node::{COMMIT, VERSION, run};

/// Orders transactions into blocks. Settings come from orderer.yaml in FABRIC_CFG_PATH and from
/// ORDERER_ variables.
#[derive(Parser)]
#[command(name = "orderer", version = VERSION)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the orderer (the default)
    Start,
    /// Show version information
    Version,
}

fn main() -> ExitCode {
    match Arguments::parse().command.unwrap_or(Command::Start) {
        Command::Start => start(),
        Command::Version => {
            let commit = if COMMIT.is_empty() {
                "development build"
            } else {
                COMMIT
            };
            // Scripts know the names that Go gives to architectures.
            let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
            let arch = match arch {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            };
            println!("orderer:\n Version: {VERSION}\n Commit SHA: {commit}\n OS/Arch: {os}/{arch}");
            ExitCode::SUCCESS
        }
    }
}

fn start() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run());
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", selvage_orderer::in_full(&error));
            ExitCode::FAILURE
        }
    }
}
