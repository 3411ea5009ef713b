//! Message filters, block cutter and the ordering engine trait
