//! The executable ottla.

fn main() {}
