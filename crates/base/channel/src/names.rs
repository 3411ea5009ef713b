//! Names in a configuration: which characters they may have, and the keys Fabric gives a meaning.

/// The longest channel id and element name, in bytes.
pub const MAX_NAME_BYTES: usize = 249;

/// The root group.
pub const CHANNEL: &str = "Channel";
/// The group of the ordering service, below the root.
pub const ORDERER: &str = "Orderer";
/// The group of the organisations that run chaincode, below the root.
pub const APPLICATION: &str = "Application";
/// The group that only the system channels of Fabric 1 and 2 had.
pub(crate) const CONSORTIUMS: &str = "Consortiums";

/// Value: what the nodes must be able to do.
pub const CAPABILITIES: &str = "Capabilities";
/// Value of an organisation: its membership service.
pub const MSP: &str = "MSP";
/// Value of an orderer organisation: its nodes' addresses.
pub const ENDPOINTS: &str = "Endpoints";
/// Value of an application organisation: the peers others may reach it by.
pub const ANCHOR_PEERS: &str = "AnchorPeers";
/// Value of the application group: which policy guards which resource.
pub const ACLS: &str = "ACLs";
/// Value of the orderer group: the BFT consenters.
pub const ORDERERS: &str = "Orderers";
/// Value of the orderer group: limits of one block.
pub const BATCH_SIZE: &str = "BatchSize";
/// Value of the orderer group: how long a batch waits.
pub const BATCH_TIMEOUT: &str = "BatchTimeout";
/// Value of the orderer group: the consensus engine and its settings.
pub const CONSENSUS_TYPE: &str = "ConsensusType";
/// Value of the orderer group: how many channels a system channel allowed.
pub(crate) const CHANNEL_RESTRICTIONS: &str = "ChannelRestrictions";
/// Value of the root group: addresses of orderers, up to channel capability V2_0.
pub const ORDERER_ADDRESSES: &str = "OrdererAddresses";
/// Value of the root group: the hash of blocks.
pub(crate) const HASHING_ALGORITHM: &str = "HashingAlgorithm";
/// Value of the root group: the shape of the hash over block data.
pub(crate) const BLOCK_DATA_HASHING_STRUCTURE: &str = "BlockDataHashingStructure";
/// Value of the root group: a leftover of system channels.
pub(crate) const CONSORTIUM: &str = "Consortium";

/// Policy name: may read.
pub const READERS: &str = "Readers";
/// Policy name: may write.
pub const WRITERS: &str = "Writers";
/// Policy name: may administer; also the usual modification policy.
pub const ADMINS: &str = "Admins";
/// Policy name of the orderer group: whose signatures make a block valid.
pub const BLOCK_VALIDATION: &str = "BlockValidation";

/// `/Channel/Readers`
pub const CHANNEL_READERS: &str = "/Channel/Readers";
/// `/Channel/Writers`
pub const CHANNEL_WRITERS: &str = "/Channel/Writers";
/// `/Channel/Application/Readers`
pub const APPLICATION_READERS: &str = "/Channel/Application/Readers";
/// `/Channel/Application/Writers`
pub const APPLICATION_WRITERS: &str = "/Channel/Application/Writers";
/// `/Channel/Application/Admins`
pub const APPLICATION_ADMINS: &str = "/Channel/Application/Admins";
/// `/Channel/Orderer/Admins`
pub const ORDERER_ADMINS: &str = "/Channel/Orderer/Admins";
/// `/Channel/Orderer/Readers`
pub const ORDERER_READERS: &str = "/Channel/Orderer/Readers";
/// `/Channel/Orderer/Writers`
pub const ORDERER_WRITERS: &str = "/Channel/Orderer/Writers";
/// `/Channel/Orderer/BlockValidation`
pub const ORDERER_BLOCK_VALIDATION: &str = "/Channel/Orderer/BlockValidation";

/// Why a name is not allowed. The texts are Fabric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("{kind} ID illegal, cannot be empty")]
    Empty {
        /// `channel` or `config`.
        kind: &'static str,
    },
    /// More than [`MAX_NAME_BYTES`].
    #[error("{kind} ID illegal, cannot be longer than {MAX_NAME_BYTES}")]
    TooLong {
        /// `channel` or `config`.
        kind: &'static str,
    },
    /// `.` and `..`.
    #[error("name '{0}' for config ID is not allowed")]
    Reserved(String),
    /// A character outside the allowed ones.
    #[error("'{0}' contains illegal characters")]
    Characters(String),
}

/// Checks a channel id: `[a-z][a-z0-9.-]*`, at most [`MAX_NAME_BYTES`].
pub fn check_channel_id(id: &str) -> Result<(), NameError> {
    check_length(id, "channel")?;
    let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let bytes = id.as_bytes();
    if bytes[0].is_ascii_lowercase() && bytes[1..].iter().copied().all(tail) {
        return Ok(());
    }
    Err(NameError::Characters(id.to_owned()))
}

/// Checks the name of a group, value or policy: `[a-zA-Z0-9.-]+`, not `.` or `..`.
pub(crate) fn check_element_name(name: &str) -> Result<(), NameError> {
    check_length(name, "config")?;
    if name == "." || name == ".." {
        return Err(NameError::Reserved(name.to_owned()));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    if name.bytes().all(allowed) {
        return Ok(());
    }
    Err(NameError::Characters(name.to_owned()))
}

fn check_length(name: &str, kind: &'static str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { kind });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, channel: bool, element: bool) {
        assert_eq!(check_channel_id(id).is_ok(), channel, "channel {id:?}");
        assert_eq!(check_element_name(id).is_ok(), element, "element {id:?}");
    }

    #[test]
    fn names_follow_fabrics_rules() {
        check("", false, false);
        check(&"a".repeat(249), true, true);
        check(&"a".repeat(250), false, false);
        check(".", false, false);
        check("..", false, false);
        check("a.b-c", true, true);
        check("Foo", false, true);
        check("0a", false, true);
        check("-a", false, true);
        check("foo_bar", false, false);
        check("8foo", false, true);
        check("foo.bar", true, true);
        check("foo$bar", false, false);
        check("föö", false, false);
        check("Upper/Case", false, false);
    }
}
