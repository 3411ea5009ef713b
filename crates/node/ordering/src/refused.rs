//! Why engines do not listen to a message of another consenter.

use std::fmt;

/// Why a message of another consenter was refused. Each is a reason under which a node counts
/// refusals, so there are few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// It came from nobody that the configuration names, or claims to come from this node.
    Stranger,
    /// It is larger than any message may be.
    TooLarge,
    /// It does not read.
    Malformed,
    /// It is of another version of the engine's protocol.
    Version,
    /// It names another sender than the node it came from.
    Forged,
    /// It is meant for another node.
    Misdirected,
    /// It reads, but cannot be true.
    Impossible,
    /// It is about a block that was decided long ago.
    Stale,
    /// It is about a round too far away to keep it.
    TooFar,
    /// The sender has too much waiting here for the next block.
    TooMany,
    /// A signature is not its claimed author's.
    Signature,
    /// Its author signed something else in the same place before.
    Equivocation,
    /// A proposed block is not one that may come next.
    Block,
}

impl Refused {
    /// The reason's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Forged => "forged",
            Self::Misdirected => "misdirected",
            Self::Impossible => "impossible",
            Self::Stale => "stale",
            Self::TooFar => "too_far",
            Self::TooMany => "too_many",
            Self::Signature => "signature",
            Self::Equivocation => "equivocation",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stranger => "its sender is no consenter",
            Self::TooLarge => "it is too large",
            Self::Malformed => "it cannot be read",
            Self::Version => "it is of another version",
            Self::Forged => "it names another sender",
            Self::Misdirected => "it is meant for another node",
            Self::Impossible => "it cannot be true",
            Self::Stale => "it is about a block decided long ago",
            Self::TooFar => "it is about a round far ahead",
            Self::TooMany => "too many of its sender's wait already",
            Self::Signature => "a signature is wrong",
            Self::Equivocation => "its author signed something else before",
            Self::Block => "the block it proposes may not come next",
        })
    }
}
