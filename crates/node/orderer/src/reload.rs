//! Certificates that are exchanged while the node runs: whoever renews them only has to replace the
//! files.

use std::time::Duration;

use selvage_net::tls::TlsIdentity;
use selvage_net::{CancellationToken, NetError};

use crate::in_full;
use crate::local_msp::{Files, LocalMsp, Signer};
use crate::tls::read;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What is done with a new certificate.
type Take = Box<dyn Fn(TlsIdentity) + Send>;

/// A certificate with its key, as two files.
struct Pair {
    section: &'static str,
    certificate: String,
    key: String,
    /// What the files held when they were last looked at.
    held: (Vec<u8>, Vec<u8>),
    take: Take,
}

/// The folder with the identity that the node signs with.
struct Identity {
    msp: LocalMsp,
    /// What it held when it was last looked at.
    held: Files,
    signer: Signer,
}

/// What a node watches.
#[derive(Default)]
pub(crate) struct Reload {
    pairs: Vec<Pair>,
    identity: Option<Identity>,
}

impl Reload {
    /// Watches the files that a section of the settings names, which have just been loaded.
    pub(crate) fn watch(&mut self, section: &'static str, files: (&str, &str), take: Take) {
        let (certificate, key) = (files.0.to_owned(), files.1.to_owned());
        let held = contents(&certificate, &key).unwrap_or_default();
        self.pairs.push(Pair {
            section,
            certificate,
            key,
            held,
            take,
        });
    }

    /// Watches the folder whose files gave this identity.
    pub(crate) fn watch_identity(&mut self, msp: LocalMsp, held: Files, signer: Signer) {
        self.identity = Some(Identity { msp, held, signer });
    }

    /// Looks at the files from time to time, until the node stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), NetError> {
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            // Small files, seldom: not worth a thread.
            self.look();
        }
        Ok(())
    }

    /// Takes over what has changed.
    fn look(&mut self) {
        self.pairs.iter_mut().for_each(Pair::look);
        if let Some(identity) = &mut self.identity {
            identity.look();
        }
    }
}

impl Identity {
    fn look(&mut self) {
        let held = match self.msp.read() {
            Ok(held) if held != self.held => held,
            // A file that is missing is being replaced.
            _ => return,
        };
        self.held = held;
        let folder = self.msp.folder().display();
        match self.msp.identity(self.held.clone()) {
            Ok(identity) => {
                if identity.serialized() != self.signer.current().serialized() {
                    self.signer.exchange(identity);
                    tracing::info!("signing with the new certificate in {folder}");
                }
            }
            Err(error) => tracing::warn!(
                "the files in {folder} have changed and cannot be used, the old certificate stays \
                 in force: {}",
                in_full(&error)
            ),
        }
    }
}

impl Pair {
    fn look(&mut self) {
        let held = match contents(&self.certificate, &self.key) {
            Ok(held) if held != self.held => held,
            // A file that is missing is being replaced.
            _ => return,
        };
        self.held = held;
        let (chain, key) = &self.held;
        let section = self.section;
        match TlsIdentity::from_pem(&self.certificate, chain, key) {
            Ok(identity) => {
                (self.take)(identity);
                tracing::info!(
                    section,
                    "took over a new TLS certificate from {}",
                    self.certificate
                );
            }
            // One of the two may have been replaced before the other: then it is tried again.
            Err(error) => tracing::warn!(
                section,
                "the TLS certificate in {} and the key in {} have changed and cannot be used, the \
                 old ones stay in force: {}",
                self.certificate,
                self.key,
                in_full(&error)
            ),
        }
    }
}

fn contents(certificate: &str, key: &str) -> Result<(Vec<u8>, Vec<u8>), crate::OrdererError> {
    Ok((
        read("the TLS certificate", certificate)?,
        read("the TLS private key", key)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use selvage_crypto::issue::{Authority, LeafProfile, Subject, Validity};

    use super::*;

    fn issue(authority: &Authority) -> (String, String) {
        let validity = Validity::ten_years(1_700_000_000);
        let profile = LeafProfile::tls("localhost", &["localhost"], validity);
        let (certificate, key) = authority.issue_new(&profile).unwrap();
        (
            certificate.to_pem(),
            key.to_pkcs8_pem().unwrap().to_string(),
        )
    }

    #[test]
    fn a_new_certificate_is_taken_over_once_its_key_is_there_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key) = (path("server.crt"), path("server.key"));
        let subject = Subject::in_san_francisco("ca".to_owned());
        let validity = Validity::ten_years(1_700_000_000);
        let authority = Authority::new_root(&subject, validity).unwrap();
        let (old, new) = (issue(&authority), issue(&authority));
        std::fs::write(&certificate, &old.0).unwrap();
        std::fs::write(&key, &old.1).unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = taken.clone();
        let mut reload = Reload::default();
        let take = move |identity: TlsIdentity| sink.lock().unwrap().push(identity.leaf_hash());
        reload.watch("General.TLS", (&certificate, &key), Box::new(take));
        let count = |reload: &mut Reload| {
            reload.look();
            taken.lock().unwrap().len()
        };
        assert_eq!(count(&mut reload), 0);
        std::fs::write(&certificate, &new.0).unwrap();
        assert_eq!(count(&mut reload), 0);
        std::fs::remove_file(&key).unwrap();
        assert_eq!(count(&mut reload), 0);
        std::fs::write(&key, &new.1).unwrap();
        assert_eq!(count(&mut reload), 1);
        assert_eq!(count(&mut reload), 1);
    }
}
