//! What would help a client whose call failed. It goes into a detail of its own, because messages
//! keep Fabric's words, which programs match.

use crate::endorser::not_joined;

/// How a response ends that the peer made itself because the chaincode went away.
pub(super) const STREAM_TERMINATED: &str = "chaincode stream terminated";

/// The chaincode's process ended; nothing of the call came of it.
const ENDED: &str = "the chaincode's process ended, nothing was written, and the peer starts it \
                     again: try again in a moment; if it keeps ending, the peer's log has what it \
                     printed, under the chaincode's name";
const NO_START: &str = "the chaincode does not start: the peer's log has what it printed, under the \
                        chaincode's name; correct it and deploy it again";
const SLOW_START: &str = "the chaincode is still being built or started: try again in a while; the \
                          peer's log says how far it is (chaincode.startuptimeout)";
const SLOW: &str = "the chaincode did not answer in time: let the call do less, or raise \
                    chaincode.executetimeout of the peer";
const NO_FUNCTION: &str = "the chaincode has no such function: evaluate \
                           org.hyperledger.fabric:GetMetadata, which lists those it has, and call \
                           one of them";
const ARGUMENTS: &str = "the function takes another number of arguments: evaluate \
                         org.hyperledger.fabric:GetMetadata, which lists them, and pass these";

/// No orderer took a transaction.
pub(super) const NOT_ORDERED: &str = "no orderer took the transaction: see whether the orderers run \
                                      and what their logs say, and submit the same transaction \
                                      again; it is committed once at most";

/// A peer could not be asked.
pub(super) const NOT_ANSWERED: &str = "this peer does not answer: see whether it runs and what its \
                                       log says, and try again";

/// Too few peers are known for what a policy asks.
pub(super) const TOO_FEW_PEERS: &str = "the endorsement policy asks for peers that this gateway does \
                                        not know of: see whether those organisations' peers run, \
                                        have joined the channel, and have the chaincode installed \
                                        and its definition approved";

/// The most characters of a name that are repeated.
const LONGEST_NAME: usize = 100;

/// What helps against what a peer or its chaincode said, where that is known. The words are those
/// of Fabric's peer and of the contract APIs for Node, Go and Java.
pub(super) fn about(message: &str) -> Option<&'static str> {
    let says = |words: &str| message.contains(words);
    let pairs = [
        (says(STREAM_TERMINATED) || says("container exited"), ENDED),
        (says("timeout expired while starting chaincode"), SLOW_START),
        (says("timeout expired while executing transaction"), SLOW),
        (says("could not launch chaincode"), NO_START),
        (
            says("a function that does not exist")
                || says("not found in contract")
                || says("Undefined contract method called"),
            NO_FUNCTION,
        ),
        (
            (says("Expected") && says("parameters, but"))
                || says("Incorrect number of params")
                || says("Incorrect number of arguments"),
            ARGUMENTS,
        ),
    ];
    let found = pairs.into_iter().find(|(says, _)| *says);
    found.map(|(_, advice)| advice)
}

/// What helps where no peer can be found for a chaincode.
pub(super) fn nobody(joined: bool, channel: &str, chaincode: &str) -> Option<String> {
    if !joined {
        return not_joined(channel);
    }
    // Whoever asks may have sent anything.
    let chaincode: String = chaincode.chars().take(LONGEST_NAME).collect();
    Some(format!(
        "no peer that this gateway knows of runs a chaincode '{chaincode}' in channel '{channel}': \
         correct the name, or install the chaincode and commit its definition"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let check = |message: &str, expected: Option<&str>| assert_eq!(about(message), expected);
        check("error sending: chaincode stream terminated", Some(ENDED));
        let ended = "could not launch chaincode a:b: chaincode registration failed: container \
                     exited with 1";
        check(ended, Some(ENDED));
        check("could not launch chaincode a:b: error", Some(NO_START));
        let node =
            "chaincode response 500, You've asked to invoke a function that does not exist: X";
        check(node, Some(NO_FUNCTION));
        let go = "chaincode response 500, Function X not found in contract C";
        check(go, Some(NO_FUNCTION));
        let node = "chaincode response 500, Expected 2 parameters, but 1 have been supplied";
        check(node, Some(ARGUMENTS));
        check("chaincode response 500, the asset a does not exist", None);
    }
}
