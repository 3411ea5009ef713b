//! Load generator for any Fabric network
