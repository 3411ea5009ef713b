//! The BFT engine: ordering that survives consenters that lie.
//!
//! Of `n` consenters up to `(n - 1) / 3` may do anything at all. The protocol is Tendermint's, in
//! Malachite's implementation: for each block number rounds of proposal, prevote and precommit,
//! until a quorum precommits one block. This crate gives that machine blocks to vote on, keys, a
//! journal and time, as an [`Engine`](selvage_ordering::Engine): inputs in, effects out.
//!
//! With its precommit each consenter sends its signature over the block in Fabric's form, so a
//! decided block carries what peers of Fabric 3 check: a quorum of consenters' signatures. To them
//! and to clients a channel of this engine is a BFT channel like any other; among orderers it
//! speaks a protocol of its own ([`wire`]), so all orderers of a channel have to be of this kind.
//!
//! | here | Fabric |
//! |---|---|
//! | [`Bft`] | `smartbft.BFTChain` |
//! | [`Judge`], [`FilterJudge`] | `smartbft.Verifier` |
//! | [`Keys`] | `smartbft.Signer`, the `Orderers` value |
//! | [`ViewMetadata`] | `smartbftprotos.ViewMetadata` |
//! | [`BftOptions`], `smartbft.Options` | `smartbft.Options` |
//! | `guard` | the write-ahead log's part in `smartbft.View` |
//!
//! Malachite logs every step at level info, under targets that begin with `arc_malachitebft`.

mod ballot;
mod certificates;
mod consenters;
mod context;
mod engine;
mod guard;
mod judge;
mod keys;
mod options;
mod outcome;
mod peers;
mod propose;
mod receive;
mod recent;
mod signed;
mod start;
mod view;
pub mod wire;

pub use engine::Bft;
pub use judge::{FilterJudge, Judge, check_consenters};
pub use keys::{Keys, Verifier};
pub use options::BftOptions;
pub use start::{Start, StartError};
pub use view::ViewMetadata;
