//! Deciding which transactions of a block take effect, and what the block changes.

mod ops;
mod ranges;
mod updates;
mod validate;

pub(crate) use updates::{Update, Updates};
pub(crate) use validate::{Purge, Tx, Validated, validate};
