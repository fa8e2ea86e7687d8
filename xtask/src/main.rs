//! Set-up, generation, tidy checks and the whole gate, as cargo xtask.

fn main() {}
