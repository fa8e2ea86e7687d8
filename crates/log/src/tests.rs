//! A log as its users see it, over the simulated disk.

mod basics;
mod fixture;
