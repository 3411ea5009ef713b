//! Whom a policy asks for when it asks for an endorsement by an organisation: one of its peers, so
//! that a client's signature alone never endorses.

use selvage_channel::genesis::Material as _;
use selvage_crypto::issue::NodeRole;
use selvage_identity::policy::build::{role_principal, unit_principal};
use selvage_identity::{Msp, MspFiles, MspVersion, OrganizationalUnit};
use selvage_proto::common::MspPrincipal;
use selvage_proto::common::msp_role::MspRoleType;

use super::genesis::{FolderMaterial, MOST};
use super::{Folders, Network, Org, keys};
use crate::error::ManagerError;
use crate::files::read_limited;

/// The principal "a peer of this organisation": by role where organisational units give roles, else
/// by the unit itself.
pub(crate) fn principal(
    network: &Network,
    folders: &Folders,
    org: &Org,
) -> Result<MspPrincipal, ManagerError> {
    let msp = org.msp_id();
    if network.node_ous {
        return Ok(role_principal(&msp, MspRoleType::Peer));
    }
    Ok(unit_principal(&msp, &peer_unit(org, folders)?))
}

/// The organisational unit that an organisation's peers bear, with what names their authority: as
/// every peer of the channel will read it from their certificates.
fn peer_unit(org: &Org, folders: &Folders) -> Result<OrganizationalUnit, ManagerError> {
    let unusable = |reason: String| {
        ManagerError::Driver(format!(
            "the organisation {} cannot be described by its certificates: {reason}",
            org.name
        ))
    };
    let files = FolderMaterial
        .folder(&folders.org(org).join("msp").display().to_string())
        .map_err(unusable)?;
    let definition = MspFiles::new(files).verifying_config(&org.msp_id());
    let definition = definition.map_err(|e| unusable(e.to_string()))?;
    let msp = Msp::new(&definition, MspVersion::V1_4_3).map_err(|e| unusable(e.to_string()))?;
    let first = org.nodes.first();
    let first = first.ok_or_else(|| unusable("it has no peers".to_owned()))?;
    let certificate = keys::only_file(&folders.node(first).join("msp/signcerts"))?;
    let identity = msp
        .identity(&read_limited(&certificate, MOST)?)
        .map_err(|e| unusable(e.to_string()))?;
    identity
        .organizational_units()
        .iter()
        .find(|unit| unit.name == NodeRole::Peer.organizational_unit())
        .cloned()
        .ok_or_else(|| unusable(format!("{} is no peer's", certificate.display())))
}
