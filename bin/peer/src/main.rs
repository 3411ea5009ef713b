//! The peer binary: `peer node start`, `peer version`.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use selvage_net::config::process_variables;
use selvage_net::{CancellationToken, logging};
use selvage_peer::config::Settings;
use selvage_peer::node::{self, Node, NodeOptions};

/// A Selvage peer, configured by core.yaml as a Hyperledger Fabric peer is.
#[derive(Parser)]
#[command(name = "peer", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Operate the node itself.
    Node(NodeArgs),
    /// Print the version.
    Version,
}

#[derive(Args)]
struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// Start the node with the core.yaml in FABRIC_CFG_PATH and run until it is told to stop.
    Start {
        /// Let developers start chaincode themselves.
        #[arg(long)]
        peer_chaincodedev: bool,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Version => {
            print!("{}", node::version_text());
            ExitCode::SUCCESS
        }
        Command::Node(NodeArgs {
            command: NodeCommand::Start { peer_chaincodedev },
        }) => match start(peer_chaincodedev) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("Error: {}", selvage_peer::report(error.as_ref()));
                ExitCode::FAILURE
            }
        },
    }
}

fn start(chaincode_dev: bool) -> Result<(), Box<dyn std::error::Error>> {
    let variables = process_variables();
    let text = |name: &str| variables.get(name).map_or("", String::as_str);
    let levels = logging::init(text("FABRIC_LOGGING_SPEC"), text("FABRIC_LOGGING_FORMAT"))?;
    let settings = Settings::load(&variables)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let asked = shutdown.clone();
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::spawn(async move {
            let interrupted = tokio::signal::ctrl_c();
            let signal = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupted => "SIGINT",
            };
            tracing::info!("Received signal: {signal}");
            asked.cancel();
        });
        let options = NodeOptions {
            levels,
            chaincode_dev,
        };
        let node = Node::start(settings, options, shutdown).await?;
        node.run().await?;
        Ok(())
    })
}
