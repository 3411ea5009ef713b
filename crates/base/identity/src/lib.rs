//! Membership service provider: identities, roles, principals and signature policies.
//!
//! An organisation is an [`Msp`]: authorities it trusts, certificates it revoked, and how to tell
//! clients, peers, orderers and administrators apart. A channel's organisations together are an
//! [`MspManager`], which turns the bytes of a creator or endorser into an [`Identity`]. A
//! [`Policy`] says whose signatures are enough.
//!
//! | here | Fabric |
//! |---|---|
//! | [`Msp`], [`MspVersion`] | `bccspmsp` of the same versions |
//! | [`MspManager`] | MSP manager with its identity cache |
//! | [`Identity::validate`], [`Identity::satisfies`] | `Validate`, `SatisfiesPrincipal` |
//! | [`SignerFault`] | nothing: Fabric does not say |
//! | [`MspFiles`], [`MspFolder`] | an MSP folder: `cacerts`, `signcerts`, `config.yaml`, … |
//! | [`policy::compile`] | `cauthdsl` |
//! | [`policy::dsl::parse`] | `policydsl.FromString` |
//!
//! Nothing here enforces that certificates end: Fabric's MSP judges each at one second after its
//! own beginning, so that old blocks stay valid. Who must enforce it asks
//! [`Identity::expires_at`].
//!
//! Everything found out about an identity (its chain, its validity) is remembered in it, and
//! identities are remembered by the manager: the same creator a thousand times costs one chain.

mod error;
mod fault;
mod files;
mod folder;
mod identity;
mod manager;
mod msp;
pub mod policy;
mod signing;

pub use error::{IdentityError, MspError};
pub use fault::SignerFault;
pub use files::{FileError, MspFiles};
pub use folder::{Contents, MspFolder};
pub use identity::{Identity, OrganizationalUnit};
pub use manager::MspManager;
pub use msp::{Msp, MspVersion, Principal, check_tls_certificate};
pub use policy::{Policy, PolicyError, SignedData};
pub use signing::{SigningIdentity, serialize};
