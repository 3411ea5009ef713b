//! TLS of the listeners, and the client roots that follow the channels' configurations.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use selvage_net::tls::{
    CertificateDer, ClientAuth, ClientRoots, ServerTls, TlsIdentity, certificates_from_pem,
};

use crate::config::Tls;
use crate::error::OrdererError;
use crate::registrar::Registrar;

/// TLS of one endpoint, and the roots it accepts clients by.
pub(crate) struct EndpointTls {
    pub(crate) server: ServerTls,
    pub(crate) roots: Arc<ClientRoots>,
    /// The roots that the settings name.
    configured: Vec<CertificateDer<'static>>,
}

pub(crate) fn read(what: &'static str, path: &str) -> Result<Vec<u8>, OrdererError> {
    fs::read(path).map_err(|source| OrdererError::File {
        what,
        path: Path::new(path).to_owned(),
        hint: match source.kind() {
            std::io::ErrorKind::NotFound => "the file does not exist; correct the path",
            std::io::ErrorKind::PermissionDenied => {
                "this user may not read it; run the orderer as its owner"
            }
            _ => "see the cause",
        },
        source,
    })
}

impl EndpointTls {
    /// Reads the files that a section names; none where TLS is off. Where clients need no
    /// certificate, the endpoint either takes any (`verified` false, as Fabric's gRPC listeners do)
    /// or checks those that come (`verified` true, as Fabric's HTTP endpoints do).
    pub(crate) fn load(
        section: &'static str,
        settings: &Tls,
        verified: bool,
    ) -> Result<Option<Self>, OrdererError> {
        if !settings.enabled {
            return Ok(None);
        }
        let chain = read("the TLS certificate", &settings.certificate)?;
        let key = read("the TLS private key", &settings.private_key)?;
        let failed = |source| OrdererError::Tls { section, source };
        let identity =
            TlsIdentity::from_pem(&settings.certificate, &chain, &key).map_err(failed)?;
        let mut configured = Vec::new();
        for path in &settings.client_root_cas {
            let pem = read("a TLS client root", path)?;
            configured.extend(certificates_from_pem(path, &pem).map_err(failed)?);
        }
        let roots = ClientRoots::new(configured.clone());
        let auth = match (settings.client_auth_required, verified) {
            (true, _) => ClientAuth::Require(roots.clone()),
            (false, true) => ClientAuth::Optional(roots.clone()),
            (false, false) => ClientAuth::Request,
        };
        let server =
            ServerTls::new(identity, auth).with_time_shift(settings.tls_handshake_time_shift.0);
        Ok(Some(Self {
            server,
            roots,
            configured,
        }))
    }

    /// Takes over the TLS authorities of every organisation of every channel, beside those that the
    /// settings name.
    pub(crate) fn follow(&self, registrar: &Registrar) {
        let mut roots = self.configured.clone();
        for config in registrar.configs() {
            for msp in config.msp_manager().msps().values() {
                let authorities = msp
                    .tls_root_certificates()
                    .iter()
                    .chain(msp.tls_intermediate_certificates());
                roots.extend(authorities.map(|c| CertificateDer::from(c.der().to_vec())));
            }
        }
        roots.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        roots.dedup();
        let usable = self.roots.replace(roots);
        tracing::debug!(usable, "took over the TLS client roots of the channels");
    }
}
