//! The BCS v2 management API as types and traits
