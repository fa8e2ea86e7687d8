//! The only source of randomness of the process. Pure code gets random values as arguments.

use ottla_protocol::ids::Uuid;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// A random id for a topic, an incarnation of the broker or a group member.
///
/// Its text does not begin with a hyphen, as in Kafka: tools would take it for an option.
pub fn random_id() -> Uuid {
    loop {
        let id = Uuid::from_random(random_bytes());
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
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

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(_) => return bytes,
            Err(Errno::INTR) => {}
            Err(error) => panic!("the system's random generator does not work: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::random_id;

    #[test]
    fn ids_differ_and_are_no_options() {
        let ids: Vec<String> = (0..1000).map(|_| random_id().to_string()).collect();
        assert!(ids.iter().all(|id| !id.starts_with('-')));
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len());
    }
}
