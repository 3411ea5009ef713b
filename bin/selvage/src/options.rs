//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// A Fabric network and the service around it, in one command.
#[derive(Debug, Parser)]
#[command(name = "selvage", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a network and the service, or find them again
    Up(UpOptions),
    /// Stop what `up` started; the data stays
    Down(DownOptions),
    /// Run the service alone, in the foreground
    #[command(hide = true)]
    Serve(ServeOptions),
    /// Submit a transaction and wait until it is committed
    Invoke(CallOptions),
    /// Call a function that only reads
    Query(CallOptions),
    /// Install a chaincode on every peer and instantiate it, or upgrade it
    Deploy(DeployOptions),
    /// Load a network and say what it did
    Bench(selvage_loadgen::cli::BenchArgs),
}

/// Where everything lies.
#[derive(Debug, Clone, Args)]
pub(crate) struct Data {
    /// Folder for everything the service and its networks keep
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".selvage",
        env = "SELVAGE_DATA"
    )]
    pub(crate) data: PathBuf,
}

/// Where clients reach the nodes unless told otherwise.
pub(crate) const NODE_HOST: &str = "127.0.0.1";

/// How the service listens and what it starts.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Address of console and API [default: 127.0.0.1:30603, or any port when that one is taken]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Serve console and API with TLS, with a certificate of its own
    #[arg(long)]
    pub(crate) tls: bool,
    /// Address at which clients reach the nodes
    #[arg(long, value_name = "HOST", default_value = NODE_HOST)]
    pub(crate) node_host: String,
    /// Address the nodes listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub(crate) node_listen: Option<IpAddr>,
    /// Folder of the programs `peer` and `orderer` [default: that of this program]
    #[arg(long, value_name = "DIR", env = "SELVAGE_BIN")]
    pub(crate) programs: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consensus {
    /// One ordering node
    Solo,
    /// Crash tolerant
    Raft,
    /// Byzantine fault tolerant
    Bft,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sign {
    /// P-256 and SHA-256
    Ecdsa,
    /// SM2 and SM3 (国密); not built yet
    Sm2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sample {
    /// TypeScript
    Node,
    /// Go
    Go,
    /// No chaincode
    #[value(name = "NONE", alias = "none")]
    None,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) service: ServeOptions,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
    /// Return when the network is ready and leave it running
    #[arg(long)]
    pub(crate) detach: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl std::ops::Deref for UpOptions {
    type Target = ServeOptions;

    fn deref(&self) -> &ServeOptions {
        &self.service
    }
}

/// What network is made, when there is none yet.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct NetworkOptions {
    /// How blocks are agreed on [default: solo]
    #[arg(long, value_enum)]
    pub(crate) consensus: Option<Consensus>,
    /// Ordering nodes [default: 1 with solo, 3 with raft, 4 with bft]
    #[arg(long, value_name = "N")]
    pub(crate) orderers: Option<u32>,
    /// Organisations, one peer each [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) orgs: Option<u32>,
    /// Signatures [default: ecdsa]
    #[arg(long, value_enum)]
    pub(crate) sign: Option<Sign>,
    /// Sample chaincode to install [default: node]
    #[arg(long, value_enum)]
    pub(crate) chaincode: Option<Sample>,
    /// Whether the organisational unit in a certificate gives its role, as in Fabric's samples;
    /// without, any certificate of an organisation's authority is a member [default: true]
    #[arg(long, value_name = "true|false", action = ArgAction::Set)]
    pub(crate) node_ous: Option<bool>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DownOptions {
    #[command(flatten)]
    pub(crate) data: Data,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CallOptions {
    #[command(flatten)]
    pub(crate) data: Data,
    /// A connection profile, such as an instance's SDK configuration, instead of the network that
    /// `up` made
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Certificate of the user who calls (PEM) [default: the network's first user]
    #[arg(long, value_name = "FILE", requires = "user_key")]
    pub(crate) user_cert: Option<PathBuf>,
    /// That user's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "user_cert")]
    pub(crate) user_key: Option<PathBuf>,
    /// Channel [default: the network's first]
    #[arg(long)]
    pub(crate) channel: Option<String>,
    /// Chaincode [default: the sample]
    #[arg(long)]
    pub(crate) chaincode: Option<String>,
    /// Function
    pub(crate) function: String,
    /// Its arguments; numbers may be negative, other words that begin with '-' come after '--'
    // Any word with a hyphen (`allow_hyphen_values`) would swallow the options that follow the first
    // argument and send them to the chaincode.
    #[arg(allow_negative_numbers = true)]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// JavaScript or TypeScript
    Node,
    /// Go
    Go,
    /// Java
    Java,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeployOptions {
    #[command(flatten)]
    pub(crate) data: Data,
    /// Name of the chaincode in the channel
    pub(crate) name: String,
    /// Its source folder, a zip of it, or a package made by `peer lifecycle chaincode package`
    pub(crate) path: PathBuf,
    /// Version [default: 1.0, then counted up]
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Language [default: found out]
    #[arg(long, value_enum)]
    pub(crate) lang: Option<Language>,
    /// Channel [default: the network's first]
    #[arg(long)]
    pub(crate) channel: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
        let parse = |line: &str| Options::try_parse_from(line.split(' '));
        let line = "selvage up --detach --json --consensus solo --orgs 3 --sign ecdsa \
                    --chaincode NONE --node-ous false --data /tmp/x";
        let Command::Up(up) = parse(line).expect("a command").command else {
            panic!("another command");
        };
        assert!(up.detach && up.json);
        assert_eq!(up.network.orgs, Some(3));
        assert_eq!(up.network.chaincode, Some(Sample::None));
        assert_eq!(up.network.node_ous, Some(false));
        assert_eq!(up.network.orderers, None);
        assert!(parse("selvage up --consensus raft --orderers 5").is_ok());
        assert!(parse("selvage up --consensus pow").is_err());
        assert!(parse("selvage up --orgs 0").is_err());
        assert!(parse("selvage invoke CreateAsset a b").is_ok());
        let line = "selvage query --profile p.yaml --user-cert c --user-key k ReadAsset a";
        assert!(parse(line).is_ok());
        assert!(parse("selvage query --user-cert c ReadAsset a").is_err());
        let line = "selvage deploy basic ./cc --version 2.0 --lang go --channel c --data /tmp/x";
        let Command::Deploy(deploy) = parse(line).expect("a command").command else {
            panic!("another command");
        };
        assert_eq!(
            (deploy.name.as_str(), deploy.lang),
            ("basic", Some(Language::Go))
        );
        assert_eq!(deploy.version.as_deref(), Some("2.0"));
        assert!(parse("selvage deploy basic").is_err());
        assert!(parse("selvage deploy basic ./cc --lang cobol").is_err());
    }

    #[test]
    fn help_says_what_is_not_built() {
        let mut command = Options::command();
        let up = command.find_subcommand_mut("up").expect("a command");
        let help = up.render_long_help().to_string();
        assert!(help.contains("SM2 and SM3 (国密); not built yet"), "{help}");
    }

    #[test]
    fn arguments_may_be_negative_and_options_may_follow_them() {
        let args = |line: &str| match Options::try_parse_from(line.split(' ')) {
            Ok(Options {
                command: Command::Invoke(call) | Command::Query(call),
            }) => Ok((call.chaincode, call.args)),
            Ok(_) => panic!("another command"),
            Err(error) => Err(error.to_string()),
        };
        let strings = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (line, wanted) in [
            ("selvage invoke Add -5", vec!["-5"]),
            (
                "selvage invoke Add a -5 -1.5 -2e10 b",
                vec!["a", "-5", "-1.5", "-2e10", "b"],
            ),
            (
                "selvage query Add -- -x --chaincode",
                vec!["-x", "--chaincode"],
            ),
        ] {
            let (chaincode, found) = args(line).expect(line);
            assert_eq!((chaincode, found), (None, strings(&wanted)), "{line}");
        }
        let (chaincode, found) =
            args("selvage invoke Add a -5 --chaincode cc -7").expect("options");
        assert_eq!(chaincode.as_deref(), Some("cc"));
        assert_eq!(found, ["a", "-5", "-7"]);
        let error = args("selvage invoke Add a --chaincod cc").expect_err("a typing error");
        assert!(error.contains("--chaincode"), "{error}");
    }
}
