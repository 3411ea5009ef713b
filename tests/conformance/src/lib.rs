//! Tests with real SDKs and bytes written by Fabric
