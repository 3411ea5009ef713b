//! The Selvage service: up, down, bench

fn main() {}
