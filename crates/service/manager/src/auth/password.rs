//! Passwords at rest: Argon2id with the parameters OWASP names for little memory.

use argon2::{Algorithm, Argon2, Params, Version};

use crate::error::ManagerError;
use crate::random;

/// 7 MiB, five passes, one lane: the manager has 60 MB in all.
const MEMORY_KIB: u32 = 7 * 1024;
const PASSES: u32 = 5;
const SCHEME: &str = "argon2id-7168-5-1";

fn derive(password: &str, salt: &[u8]) -> Result<[u8; 32], ManagerError> {
    let fail = |e: argon2::Error| ManagerError::Option(format!("the password cannot be used: {e}"));
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(fail)?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .map_err(fail)?;
    Ok(out)
}

/// The text to store: scheme, salt and hash. Takes tens of milliseconds: not for the async threads.
pub(crate) fn hash(password: &str) -> Result<String, ManagerError> {
    let salt: [u8; 16] = random::bytes();
    Ok(format!(
        "{SCHEME}${}${}",
        hex::encode(salt),
        hex::encode(derive(password, &salt)?)
    ))
}

/// Whether the password is the one that was hashed. Compares in constant time.
pub(crate) fn verify(password: &str, stored: &str) -> Result<bool, ManagerError> {
    let corrupt = |reason: &str| ManagerError::Corrupt {
        what: "password hash",
        reason: reason.to_owned(),
    };
    let mut parts = stored.split('$');
    let (scheme, salt, hash) = (parts.next(), parts.next(), parts.next());
    if scheme != Some(SCHEME) {
        return Err(corrupt("unknown scheme"));
    }
    let decode = |t: Option<&str>| t.and_then(|t| hex::decode(t).ok());
    let (Some(salt), Some(hash)) = (decode(salt), decode(hash)) else {
        return Err(corrupt("no hexadecimal"));
    };
    let real = derive(password, &salt)?;
    let differ = real
        .iter()
        .zip(&hash)
        .fold(real.len() ^ hash.len(), |d, (a, b)| d | usize::from(a ^ b));
    Ok(differ == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_verifies() {
        let stored = hash("Passw0rd!").expect("hash");
        assert!(!stored.contains("Passw0rd"));
        assert!(verify("Passw0rd!", &stored).expect("verify"));
        assert!(!verify("passw0rd!", &stored).expect("verify"));
        assert!(!verify("", &stored).expect("verify"));
        assert_ne!(stored, hash("Passw0rd!").expect("another salt"));
        assert!(verify("x", "plain").is_err());
    }
}
