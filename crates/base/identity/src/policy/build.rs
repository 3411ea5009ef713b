//! The policies everybody uses, in Fabric's protobuf form.

use bytes::Bytes;
use prost::Message;
use selvage_proto::common::msp_principal::Classification;
use selvage_proto::common::msp_role::MspRoleType;
use selvage_proto::common::signature_policy::{NOutOf, Type};
use selvage_proto::common::{
    MspPrincipal, MspRole, OrganizationUnit, SignaturePolicy, SignaturePolicyEnvelope,
};

use crate::OrganizationalUnit;

/// The principal "a member of this organisation in this role".
pub fn role_principal(msp_id: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole {
        msp_identifier: msp_id.to_owned(),
        role: role.into(),
    };
    MspPrincipal {
        principal_classification: Classification::Role.into(),
        principal: role.encode_to_vec().into(),
    }
}

/// The principal "a member of this organisation who bears this organisational unit". Unlike a role
/// it can be asked for where the organisation has no node roles (NodeOUs).
pub fn unit_principal(msp_id: &str, unit: &OrganizationalUnit) -> MspPrincipal {
    let unit = OrganizationUnit {
        msp_identifier: msp_id.to_owned(),
        organizational_unit_identifier: unit.name.clone(),
        certifiers_identifier: Bytes::copy_from_slice(&unit.certifiers),
    };
    MspPrincipal {
        principal_classification: Classification::OrganizationUnit.into(),
        principal: unit.encode_to_vec().into(),
    }
}

/// The principal "exactly this serialised identity".
pub fn identity_principal(serialized: Bytes) -> MspPrincipal {
    let principal_classification = Classification::Identity.into();
    MspPrincipal {
        principal_classification,
        principal: serialized,
    }
}

/// The rule "signed by the principal at this index".
pub fn signed_by(index: i32) -> SignaturePolicy {
    SignaturePolicy {
        r#type: Some(Type::SignedBy(index)),
    }
}

/// The rule "so many of these rules".
pub fn n_out_of(n: i32, rules: Vec<SignaturePolicy>) -> SignaturePolicy {
    SignaturePolicy {
        r#type: Some(Type::NOutOf(NOutOf { n, rules })),
    }
}

/// A rule with its principals.
pub fn envelope(rule: SignaturePolicy, identities: Vec<MspPrincipal>) -> SignaturePolicyEnvelope {
    SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    }
}

/// The policy that everybody satisfies.
pub fn accept_all() -> SignaturePolicyEnvelope {
    envelope(n_out_of(0, Vec::new()), Vec::new())
}

/// The policy that nobody satisfies.
pub fn reject_all() -> SignaturePolicyEnvelope {
    envelope(n_out_of(1, Vec::new()), Vec::new())
}

/// One signature by somebody of this organisation in this role.
pub fn signed_by_role(msp_id: &str, role: MspRoleType) -> SignaturePolicyEnvelope {
    envelope(
        n_out_of(1, vec![signed_by(0)]),
        vec![role_principal(msp_id, role)],
    )
}

/// One signature by a member of this organisation.
pub fn signed_by_msp_member(msp_id: &str) -> SignaturePolicyEnvelope {
    signed_by_role(msp_id, MspRoleType::Member)
}

/// One signature by an administrator of this organisation.
pub fn signed_by_msp_admin(msp_id: &str) -> SignaturePolicyEnvelope {
    signed_by_role(msp_id, MspRoleType::Admin)
}

/// One signature by a client of this organisation.
pub fn signed_by_msp_client(msp_id: &str) -> SignaturePolicyEnvelope {
    signed_by_role(msp_id, MspRoleType::Client)
}

/// One signature by a peer of this organisation.
pub fn signed_by_msp_peer(msp_id: &str) -> SignaturePolicyEnvelope {
    signed_by_role(msp_id, MspRoleType::Peer)
}

/// So many signatures by different ones of these organisations, each by somebody in this role.
/// The organisations are sorted by identifier, as Fabric does.
pub fn signed_by_n_out_of_role(
    n: i32,
    role: MspRoleType,
    msp_ids: &[impl AsRef<str>],
) -> SignaturePolicyEnvelope {
    let mut ids: Vec<&str> = msp_ids.iter().map(AsRef::as_ref).collect();
    ids.sort_unstable();
    let rules = (0i32..).take(ids.len()).map(signed_by).collect();
    let principals = ids.into_iter().map(|id| role_principal(id, role)).collect();
    envelope(n_out_of(n, rules), principals)
}

/// One signature by a member of any of these organisations.
pub fn signed_by_any_member(msp_ids: &[impl AsRef<str>]) -> SignaturePolicyEnvelope {
    signed_by_n_out_of_role(1, MspRoleType::Member, msp_ids)
}

/// One signature by a client of any of these organisations.
pub fn signed_by_any_client(msp_ids: &[impl AsRef<str>]) -> SignaturePolicyEnvelope {
    signed_by_n_out_of_role(1, MspRoleType::Client, msp_ids)
}

/// One signature by a peer of any of these organisations.
pub fn signed_by_any_peer(msp_ids: &[impl AsRef<str>]) -> SignaturePolicyEnvelope {
    signed_by_n_out_of_role(1, MspRoleType::Peer, msp_ids)
}

/// One signature by an administrator of any of these organisations.
pub fn signed_by_any_admin(msp_ids: &[impl AsRef<str>]) -> SignaturePolicyEnvelope {
    signed_by_n_out_of_role(1, MspRoleType::Admin, msp_ids)
}
