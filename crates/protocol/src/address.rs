//! Addresses of hosts as text.

use std::fmt::Display;

/// `host:port` as it is dialled: an IPv6 address has brackets.
pub fn dialled(host: &str, port: impl Display) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::dialled;

    #[test]
    fn an_ipv6_address_has_brackets() {
        assert_eq!(dialled("b.example", 9092), "b.example:9092");
        assert_eq!(dialled("::1", 93), "[::1]:93");
    }
}
