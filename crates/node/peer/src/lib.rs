//! The peer node: endorser, gateway, validator, lifecycle
