//! The seam through which time, chance and storage enter
