//! Who is calling: request signatures, tokens, passwords.

pub(crate) mod password;
pub mod signature;
