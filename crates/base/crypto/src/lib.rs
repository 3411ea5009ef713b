//! Cryptographic suites, keys and X.509 certificates
