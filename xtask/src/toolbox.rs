//! What the tests need from outside, fetched by itself from the package registries.
//!
//! Everything lies below `target/toolbox/`, each tool in a directory of its own; what is present is not
//! fetched again.

pub mod maven;

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// Where a tool of this name lies.
pub fn directory(tool: &str) -> PathBuf {
    workspace().join("target/toolbox").join(tool)
}
