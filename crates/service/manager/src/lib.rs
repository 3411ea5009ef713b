//! Tenants, instances, operations, drivers; serves the console
