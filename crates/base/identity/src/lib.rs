//! Membership service provider: identities, roles, principals and signature policies
