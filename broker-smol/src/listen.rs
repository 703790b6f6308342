//! Addresses to listen on, as people write them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where to listen: `127.0.0.1:1883`, `[::1]:1883`, `localhost:1883` or `:1883`.
///
/// Port 0 lets the system choose a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// One address.
    One(SocketAddr),
    /// `localhost:PORT`: `127.0.0.1` and, where there is IPv6, `[::1]`.
    Localhost(u16),
    /// `:PORT`: all addresses of the machine, `0.0.0.0` and, where there is IPv6,
    /// `[::]`.
    All(u16),
}

impl Listen {
    /// The addresses this stands for.
    #[must_use]
    pub fn addresses(self, ipv6: bool) -> Vec<SocketAddr> {
        let both = |v4: Ipv4Addr, v6: Ipv6Addr, port| {
            let mut addresses = vec![SocketAddr::from((v4, port))];
            if ipv6 {
                addresses.push(SocketAddr::from((v6, port)));
            }
            addresses
        };
        match self {
            Self::One(address) => vec![address],
            Self::Localhost(port) => both(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, port),
            Self::All(port) => both(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, port),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::All(port) => write!(f, ":{port}"),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let port = |text: &str| {
            // u16's own parser takes a plus sign.
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().ok_or(ListenError)
        };
        if let Some(rest) = text.strip_prefix("localhost:") {
            return port(rest).map(Self::Localhost);
        }
        if let Some(rest) = text.strip_prefix(':') {
            return port(rest).map(Self::All);
        }
        text.parse().map(Self::One).map_err(|_| ListenError)
    }
}

/// The text is no [`Listen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenError;

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an address with a port from 0 to 65535, such as 127.0.0.1:1883, [::1]:1883, \
             localhost:1883, or :1883 for all addresses",
        )
    }
}

impl std::error::Error for ListenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown_again() {
        for text in ["127.0.0.1:1883", "[::1]:1883", "localhost:0", ":65535", "0.0.0.0:1"] {
            let listen: Listen = text.parse().expect(text);
            assert_eq!(listen.to_string(), text);
        }
        for text in ["", "1883", ":", ":x", ":+1", ":65536", "host:1883", "::1:1883", "1.2.3.4"] {
            assert_eq!(text.parse::<Listen>(), Err(ListenError), "{text}");
        }
    }

    #[test]
    fn a_bare_port_means_all_addresses_and_localhost_both_families() {
        let show = |listen: Listen, ipv6| {
            listen.addresses(ipv6).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(show(Listen::All(1883), true), ["0.0.0.0:1883", "[::]:1883"]);
        assert_eq!(show(Listen::All(1883), false), ["0.0.0.0:1883"]);
        assert_eq!(show(Listen::Localhost(1), true), ["127.0.0.1:1", "[::1]:1"]);
    }
}
