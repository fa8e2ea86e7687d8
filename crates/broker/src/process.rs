//! What the process has once: clocks, randomness, file descriptors, buffers for reads, loggers.

pub mod clock;
pub mod descriptors;
pub mod held_files;
pub mod log_levels;
pub mod random;
pub mod read_buffers;
