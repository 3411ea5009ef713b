//! Why a call came to nothing, in words for whoever typed it: the cause and what to do come first,
//! what the peer said comes after them.

use std::path::Path;

use selvage_client::ClientError;

use crate::data_dir::is_held;
use crate::error::ManagerError;

/// A function that contracts made with Fabric's contract API answer with what they can do.
const FUNCTIONS: &str = "org.hyperledger.fabric:GetMetadata";

/// What was tried.
#[derive(Debug)]
pub(crate) struct Tried<'a> {
    /// The folder of the network that was called, unless a connection profile led to it.
    pub(crate) data: Option<&'a Path>,
    pub(crate) channel: &'a str,
    /// The channel that the network or profile names.
    pub(crate) own_channel: Option<&'a str>,
    pub(crate) chaincode: &'a str,
    pub(crate) function: &'a str,
}

/// What is wrong, as far as a peer's words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Channel,
    Chaincode,
    /// Peers use the same words for both when a transaction is endorsed.
    ChannelOrChaincode,
    Function,
}

fn cause_of(text: &str, tried: &Tried<'_>) -> Option<Cause> {
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if has(&["failed to get config for channel", "channel does not exist"]) {
        return Some(Cause::Channel);
    }
    if has(&["No metadata was found for chaincode"]) {
        return Some(match tried.own_channel == Some(tried.channel) {
            true => Cause::Chaincode,
            false => Cause::ChannelOrChaincode,
        });
    }
    if has(&["make sure the chaincode", "no peers available to evaluate"]) {
        return Some(Cause::Chaincode);
    }
    // The contract APIs of Node, Go and Java.
    let go = format!("Function {} not found in contract", tried.function);
    has(&[
        "a function that does not exist",
        &go,
        "Undefined contract method called",
    ])
    .then_some(Cause::Function)
}

impl Tried<'_> {
    fn network(&self) -> String {
        match self.data {
            Some(data) => format!("--data {}", data.display()),
            None => "--profile FILE".to_owned(),
        }
    }

    fn explain(&self, cause: Cause) -> String {
        let (channel, chaincode) = (self.channel, self.chaincode);
        let deploy = match self.data {
            Some(data) => format!(
                "give the name of one that is there with --chaincode (the console lists them), or \
                 deploy it: selvage deploy --data {} --channel {channel} {chaincode} FOLDER",
                data.display()
            ),
            None => "give the name of one that is there with --chaincode".to_owned(),
        };
        let another = match self.own_channel {
            Some(own) if own != channel => {
                format!("give another one with --channel; without it, {own} is taken")
            }
            _ => "give another one with --channel".to_owned(),
        };
        match cause {
            Cause::Channel => format!("the peer is in no channel {channel}; {another}"),
            Cause::Chaincode => {
                format!("there is no chaincode {chaincode} in the channel {channel}; {deploy}")
            }
            Cause::ChannelOrChaincode => format!(
                "there is no channel {channel}, or no chaincode {chaincode} in it; {another}; \
                 for the chaincode, {deploy}"
            ),
            Cause::Function => format!(
                "the chaincode {chaincode} has no function {}; see which it has: selvage query {} \
                 --channel {channel} --chaincode {chaincode} {FUNCTIONS}",
                self.function,
                self.network()
            ),
        }
    }

    /// Nobody answered at the gateway's address.
    fn unreached(&self, said: &str) -> String {
        match self.data {
            Some(data) if !is_held(data) => format!(
                "the network is not running; start it with: selvage up --detach --data {}",
                data.display()
            ),
            Some(data) => format!(
                "the peer does not answer; the service starts it again when it has ended, so try \
                 again in a moment, and see the logs in {} if it stays away ({said})",
                data.join("instances").display()
            ),
            None => format!(
                "the peer that the connection profile names does not answer; see whether its \
                 network runs and the address is right ({said})"
            ),
        }
    }

    /// The failure with cause and remedy, where they are known.
    pub(crate) fn failed(&self, error: &ClientError) -> ManagerError {
        let said = error.text();
        if error.failure().is_some_and(|f| f.unreached) {
            return ManagerError::Driver(self.unreached(&said));
        }
        ManagerError::Driver(match cause_of(&said, self) {
            Some(cause) => format!("{} ({said})", self.explain(cause)),
            None => said,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;
    use selvage_client::Failure;
    use selvage_net::tonic::{Code, Status};

    fn tried<'a>(data: Option<&'a Path>, channel: &'a str) -> Tried<'a> {
        Tried {
            data,
            channel,
            own_channel: Some("channel"),
            chaincode: "basic",
            function: "Creat",
        }
    }

    fn said(message: &str) -> ClientError {
        ClientError::Grpc {
            address: "127.0.0.1:1".to_owned(),
            failure: Box::new(Failure::new(&Status::new(Code::Aborted, message))),
        }
    }

    #[test]
    fn what_peers_say_gets_a_cause_and_a_remedy() {
        let data = Some(Path::new("/d"));
        for (channel, message, wanted) in [
            (
                "other",
                "failed to get config for channel [other]: could not get last config",
                ["no channel other", "without it, channel is taken"],
            ),
            (
                "channel",
                "no combination of peers can be derived which satisfy the endorsement policy: No \
                 metadata was found for chaincode basic in channel channel",
                [
                    "no chaincode basic in the channel channel",
                    "selvage deploy --data /d --channel channel basic FOLDER",
                ],
            ),
            (
                "other",
                "No metadata was found for chaincode basic in channel other",
                ["no channel other, or no chaincode basic", "--channel"],
            ),
            (
                "channel",
                "no peers available to evaluate chaincode basic in channel channel",
                ["no chaincode basic", "--chaincode"],
            ),
            (
                "channel",
                "chaincode response 500, You've asked to invoke a function that does not exist: \
                 Creat",
                ["no function Creat", "GetMetadata"],
            ),
            (
                "channel",
                "Function Creat not found in contract SmartContract",
                ["selvage query --data /d", "--chaincode basic"],
            ),
        ] {
            let text = tried(data, channel).failed(&said(message)).to_string();
            for part in wanted {
                assert!(text.contains(part), "{part:?} is missing in: {text}");
            }
            assert!(text.contains(message), "{text}");
        }
        let own = "the asset asset1 already exists";
        let text = tried(data, "channel").failed(&said(own)).to_string();
        assert_eq!(text, format!("127.0.0.1:1: {own}"));
    }

    #[test]
    fn a_stopped_network_is_told_from_a_peer_that_is_away() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = ClientError::Grpc {
            address: "127.0.0.1:1".to_owned(),
            failure: Box::new(Failure::new(&Status::from_error(Box::new(refused)))),
        };
        let text = |data: Option<&Path>| tried(data, "channel").failed(&error).to_string();
        let path = dir.path();
        let stopped = text(Some(path));
        assert!(stopped.contains("the network is not running"), "{stopped}");
        let remedy = format!("selvage up --detach --data {}", path.display());
        assert!(stopped.ends_with(&remedy), "{stopped}");
        let _held = DataDir::open(path).expect("the folder");
        let away = text(Some(path));
        assert!(away.contains("the peer does not answer"), "{away}");
        assert!(away.contains("connection refused"), "{away}");
        assert!(text(None).contains("connection profile"));
    }
}
