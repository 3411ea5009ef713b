//! The peer binary

fn main() {}
