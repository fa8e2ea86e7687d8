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

/// A random id that is none of Kafka's reserved ones and does not look like an option of a command.
pub fn unreserved_id() -> Uuid {
    loop {
        let id = random_id();
        let text = id.to_string();
        // The first hundred are reserved; they begin with zeros.
        if !text.starts_with('-') && !text.starts_with("AAAAAAAAAA") {
            return id;
        }
    }
}
