//! Client for Fabric networks: submit, evaluate, events, administration
