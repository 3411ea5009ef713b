//! Block delivery: what this peer serves to clients, and how it follows the orderers.

mod filtered;
mod follow;
mod service;

pub use filtered::filtered_block;
pub use follow::{Following, Orderers, follow};
pub use service::DeliverService;

/// The resource that guards whole blocks.
pub const EVENT_BLOCK: &str = "event/Block";
/// The resource that guards filtered blocks.
pub const EVENT_FILTERED_BLOCK: &str = "event/FilteredBlock";
