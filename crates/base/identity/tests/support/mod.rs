//! Organisations made for a test.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use bytes::Bytes;
use selvage_crypto::issue::{Authority, LeafProfile, NodeRole, Subject, Validity};
use selvage_identity::{
    Msp, MspFiles, MspFolder, MspManager, MspVersion, SignedData, SigningIdentity,
};

pub(crate) const NOW: i64 = 1_735_689_600;

/// An organisation with node roles.
pub(crate) struct Organisation {
    pub(crate) id: String,
    pub(crate) authority: Authority,
    pub(crate) msp: Arc<Msp>,
}

impl Organisation {
    pub(crate) fn new(id: &str) -> Organisation {
        let mut subject = Subject::in_san_francisco(format!("ca.{id}"));
        subject.organization = id.into();
        let authority = Authority::new_root(&subject, Validity::ten_years(NOW)).unwrap();
        let folder = MspFolder {
            root_certificates: vec![authority.certificate().clone()],
            node_roles: true,
            ..MspFolder::default()
        };
        let files = folder
            .files()
            .unwrap()
            .into_iter()
            .map(|(path, b)| (path, b.to_vec()));
        let config = MspFiles::new(files).verifying_config(id).unwrap();
        let msp = Arc::new(Msp::new(&config, MspVersion::V1_4_3).unwrap());
        Organisation {
            id: id.to_owned(),
            authority,
            msp,
        }
    }

    pub(crate) fn signer(&self, name: &str, role: NodeRole) -> SigningIdentity {
        self.issue(&LeafProfile::identity(name, role, Validity::ten_years(NOW)))
    }

    /// Somebody whose certificate has no unit that gives a role.
    pub(crate) fn without_role(&self, name: &str) -> SigningIdentity {
        let mut profile = LeafProfile::identity(name, NodeRole::Client, Validity::ten_years(NOW));
        profile.subject.organizational_units.clear();
        self.issue(&profile)
    }

    fn issue(&self, profile: &LeafProfile) -> SigningIdentity {
        let (certificate, key) = self.authority.issue_new(profile).unwrap();
        SigningIdentity::new(&self.id, certificate.to_pem().as_bytes(), key).unwrap()
    }
}

pub(crate) fn manager(organisations: &[&Organisation]) -> Arc<MspManager> {
    Arc::new(MspManager::new(
        organisations.iter().map(|one| one.msp.clone()),
    ))
}

pub(crate) fn signed(signer: &SigningIdentity, data: &'static [u8]) -> SignedData {
    SignedData {
        data: Bytes::from_static(data),
        identity: signer.serialized(),
        signature: signer.sign(data).into(),
    }
}
