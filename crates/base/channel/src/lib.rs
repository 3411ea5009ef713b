//! Channel configuration: tree, policies, capabilities, ACLs and genesis blocks
