//! Chaincode packages, builds, processes and the shim protocol
