//! The TLS certificates by which a configuration names its consenters.

use bytes::Bytes;
use selvage_channel::ChannelConfig;
use selvage_crypto::{Certificate, in_full, pem};
use selvage_identity::{Msp, check_tls_certificate};

use crate::cluster::consenter_address;

/// A consenter with its certificates, as PEM.
pub(super) struct Shown<'a> {
    pub(super) host: &'a str,
    pub(super) port: u32,
    pub(super) client: &'a Bytes,
    pub(super) server: &'a Bytes,
}

impl Shown<'_> {
    /// Checks that both certificates can be read. The error names the consenter; the beginning is
    /// Fabric's.
    pub(super) fn check(&self) -> Result<(), String> {
        self.read().map(drop)
    }

    /// Checks that both come from the TLS authorities of the configuration's orderer organisations,
    /// too. As in Fabric it does not matter whether they have ended: an update that has nothing to
    /// do with it would have to wait otherwise.
    pub(super) fn check_issued(&self, config: &ChannelConfig) -> Result<(), String> {
        let orgs = config.orderer().into_iter().flat_map(|o| o.orgs().values());
        let msps = config.msp_manager().msps();
        let msps: Vec<&Msp> = orgs
            .filter_map(|org| msps.get(&org.msp_id))
            .map(AsRef::as_ref)
            .collect();
        for (what, certificate) in self.read()? {
            check_tls_certificate(msps.iter().copied(), &certificate).map_err(|error| {
                self.wrong(&format!(
                    "verifying tls {what} cert of {}: {error}; it takes one of a TLS authority of \
                     the channel's orderer organisations",
                    certificate.common_name()
                ))
            })?;
        }
        Ok(())
    }

    fn read(&self) -> Result<[(&'static str, Certificate); 2], String> {
        let read = |what: &'static str, text: &[u8]| {
            let parsing = |reason: &str| self.wrong(&format!("parsing tls {what} cert: {reason}"));
            // Only the first block counts, whatever its label, as for Go.
            let (block, _) = pem::next(text).ok_or_else(|| parsing("no PEM data found in cert"))?;
            match Certificate::from_der(&block.der) {
                Ok(certificate) => Ok((what, certificate)),
                Err(error) => Err(parsing(&in_full(&error))),
            }
        };
        Ok([read("client", self.client)?, read("server", self.server)?])
    }

    fn wrong(&self, reason: &str) -> String {
        let address = consenter_address(self.host, self.port);
        format!("consenter {address} has invalid certificate: {reason}")
    }
}
