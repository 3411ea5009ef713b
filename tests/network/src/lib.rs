//! Tests with real processes
