//! The only source of randomness of the process. Pure code gets random values as arguments.

use ottla_protocol::ids::Uuid;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// A random id for a topic, an incarnation of the broker or a group member.
///
/// As in Kafka, its text does not begin with a hyphen, because tools would read it as an option.
pub fn random_id() -> Uuid {
    loop {
        let id = Uuid::from_random(random_bytes());
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// A [`random_id`] that is none of Kafka's reserved ids: the first hundred, whose text begins with zeros.
pub fn unreserved_id() -> Uuid {
    loop {
        let id = random_id();
        if !id.to_string().starts_with("AAAAAAAAAA") {
            return id;
        }
    }
}

/// A random number, 0 included and negative ones not.
pub fn random_number() -> i32 {
    let [first, second, third, fourth, ..] = random_bytes();
    i32::from_be_bytes([first, second, third, fourth]) & i32::MAX
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
