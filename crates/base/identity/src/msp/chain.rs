//! Certificate chains by the rules of Go's `x509.Verify`, which Fabric's MSP relies on. They are
//! not the rules of TLS: names of hosts do not matter, and time is that of the leaf.

use selvage_crypto::{Certificate, ExtendedKeyUsage};

/// Go gives up after as many signature checks for one certificate.
const MAX_SIGNATURE_CHECKS: usize = 100;

const NAME_CONSTRAINTS: &str = "2.5.29.30";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";

/// The authorities an organisation trusts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) roots: Vec<Certificate>,
    pub(crate) intermediates: Vec<Certificate>,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Leaf,
    Intermediate,
    Root,
}

struct Search<'a> {
    pool: &'a Pool,
    at: i64,
    checks: usize,
    found: Vec<Vec<Certificate>>,
    hint: Option<String>,
}

impl Pool {
    /// The one chain from `certificate` up to a root. The moment it is judged at is one second
    /// after the certificate's own beginning.
    ///
    /// # Errors
    /// A text when there is none or more than one.
    pub(crate) fn unique_chain(
        &self,
        certificate: &Certificate,
    ) -> Result<Vec<Certificate>, String> {
        let invalid = |reason: String| format!("the supplied identity is not valid: {reason}");
        // Go asks for server authentication when the caller names no purpose, and Fabric names none.
        let purposes = [ExtendedKeyUsage::ServerAuth];
        let mut chains = self.chains(certificate, &purposes).map_err(invalid)?;
        match (chains.len(), chains.pop()) {
            (1, Some(chain)) => {
                legacy_name_constraints(&chain).map_err(invalid)?;
                Ok(chain)
            }
            (n, _) => Err(format!(
                "this MSP only supports a single validation chain, got {n}"
            )),
        }
    }

    /// Whether some chain leads from a TLS certificate up to a root, for servers or for clients. As
    /// for identities, it does not matter whether the certificate has ended.
    pub(crate) fn check_tls(&self, certificate: &Certificate) -> Result<(), String> {
        let purposes = [ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ServerAuth];
        self.chains(certificate, &purposes).map(drop)
    }

    fn chains(
        &self,
        leaf: &Certificate,
        purposes: &[ExtendedKeyUsage],
    ) -> Result<Vec<Vec<Certificate>>, String> {
        let at = leaf.not_before().saturating_add(1);
        let mut search = Search {
            pool: self,
            at,
            checks: 0,
            found: Vec::new(),
            hint: None,
        };
        search.acceptable(leaf, Place::Leaf, &[])?;
        if self.roots.contains(leaf) {
            search.found.push(vec![leaf.clone()]);
        } else {
            search.extend(&mut vec![leaf.clone()]);
        }
        if search.found.is_empty() {
            let hint = search
                .hint
                .map(|hint| format!(" (possibly because of \"{hint}\")"));
            let unknown = "x509: certificate signed by unknown authority";
            return Err(format!("{unknown}{}", hint.unwrap_or_default()));
        }
        let serves = |chain: &Vec<Certificate>| purposes.iter().any(|one| is_for(chain, one));
        search.found.retain(serves);
        if search.found.is_empty() {
            return Err("x509: certificate specifies an incompatible key usage".to_owned());
        }
        Ok(search.found)
    }
}

impl Search<'_> {
    fn extend(&mut self, chain: &mut Vec<Certificate>) {
        let pool = self.pool;
        for root in &pool.roots {
            self.consider(chain, root, Place::Root);
        }
        for intermediate in &pool.intermediates {
            self.consider(chain, intermediate, Place::Intermediate);
        }
    }

    fn consider(&mut self, chain: &mut Vec<Certificate>, candidate: &Certificate, place: Place) {
        let Some(child) = chain.last() else { return };
        if child.issuer() != candidate.subject() || already_in(chain, candidate) {
            return;
        }
        self.checks += 1;
        if self.checks > MAX_SIGNATURE_CHECKS {
            return;
        }
        let acceptable = child
            .verify_issued_by(candidate)
            .map_err(|error| error.to_string())
            .and_then(|()| self.acceptable(candidate, place, chain));
        if let Err(reason) = acceptable {
            self.hint.get_or_insert(reason);
            return;
        }
        chain.push(candidate.clone());
        if place == Place::Root {
            self.found.push(chain.clone());
        } else {
            self.extend(chain);
        }
        chain.pop();
    }

    /// Go's `isValid`: what a certificate must be to stand at its place in a chain.
    fn acceptable(
        &self,
        certificate: &Certificate,
        place: Place,
        below: &[Certificate],
    ) -> Result<(), String> {
        if certificate.has_unhandled_critical_extension() {
            return Err("x509: unhandled critical extension".to_owned());
        }
        if self.at < certificate.not_before() || self.at > certificate.not_after() {
            return Err("x509: certificate has expired or is not yet valid".to_owned());
        }
        if place == Place::Intermediate && !certificate.is_ca() {
            return Err("x509: certificate is not authorized to sign other certificates".into());
        }
        if let Some(most) = certificate.path_length()
            && below.len().saturating_sub(1) > usize::from(most)
        {
            return Err("x509: too many intermediates for path length constraint".to_owned());
        }
        let constrained = place != Place::Leaf
            && certificate.extension(NAME_CONSTRAINTS).is_some()
            && below
                .first()
                .is_some_and(|leaf| leaf.extension(SUBJECT_ALT_NAME).is_some());
        if constrained {
            // Refusing is the safe side: accepting without checking the names would not be.
            return Err(
                "name constraints on a certificate with alternative names are not \
                        supported: issue it without them"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// The same authority under another signature is no new link.
fn already_in(chain: &[Certificate], candidate: &Certificate) -> bool {
    chain.iter().any(|one| {
        one.subject() == candidate.subject()
            && one.public_key() == candidate.public_key()
            && one.extension(SUBJECT_ALT_NAME) == candidate.extension(SUBJECT_ALT_NAME)
    })
}

/// A certificate that lists purposes must list this one; so must every authority above it.
fn is_for(chain: &[Certificate], purpose: &ExtendedKeyUsage) -> bool {
    chain.iter().all(|certificate| {
        let listed = certificate.extended_key_usage();
        let serves = |one: &ExtendedKeyUsage| *one == ExtendedKeyUsage::Any || one == purpose;
        listed.is_empty() || listed.iter().any(serves)
    })
}

/// Up to Go 1.14 a common name that looks like a host's was subject to name constraints; Fabric
/// keeps that so that a newer build judges old blocks as before.
fn legacy_name_constraints(chain: &[Certificate]) -> Result<(), String> {
    let Some((leaf, authorities)) = chain.split_first() else {
        return Ok(());
    };
    let named = leaf.extension(SUBJECT_ALT_NAME).is_some();
    if named || !is_hostname(leaf.common_name()) {
        return Ok(());
    }
    if authorities
        .iter()
        .any(|authority| authority.extension(NAME_CONSTRAINTS).is_some())
    {
        return Err(
            "x509: issuer has name constraints but leaf doesn't have a SAN extension".into(),
        );
    }
    Ok(())
}

fn is_hostname(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |(i, part): (usize, &str)| {
        let allowed = |(j, c): (usize, char)| {
            c.is_ascii_alphanumeric() || c == '_' || c == ':' || (c == '-' && j != 0)
        };
        (i == 0 && part == "*") || (!part.is_empty() && part.char_indices().all(allowed))
    };
    !name.is_empty() && name.split('.').enumerate().all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_as_go_sees_them() {
        let check = |name: &str, want: bool| assert_eq!(is_hostname(name), want, "{name}");
        for name in [
            "a",
            "peer0.org1.example.com",
            "*.x",
            "a_b",
            "a:1",
            "x.",
            "1.2.3.4",
        ] {
            check(name, true);
        }
        for name in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "a.*",
            "组织",
            "User1@org1.example.com",
        ] {
            check(name, false);
        }
    }
}
