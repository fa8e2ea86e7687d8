//! Randomness of the process: pure code takes it as an argument.

use ottla_protocol::ids::Uuid;

/// A random id, for a topic, a directory, an incarnation of the broker or a member.
#[expect(
    clippy::disallowed_methods,
    reason = "the broker is where randomness enters"
)]
pub fn random_id() -> Uuid {
    Uuid::random().expect("the system's random generator works")
}
