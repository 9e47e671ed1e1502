//! Where webhooks may go: to addresses that the whole internet has, and to others only if the operator says so. Names are
//! judged by what they resolve to at the moment of connecting, so that no name leads elsewhere than it did when checked.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::NoticeSettings;

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Everybody's.
    Global,
    /// This machine's.
    Loopback,
    /// Of a network that only some see, or of no use (IANA's special-purpose registries).
    Private,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    pub(super) fn is_allowed(self, settings: &NoticeSettings) -> bool {
        match self {
            Self::Global => true,
            Self::Loopback => settings.allow_loopback,
            Self::Private => settings.allow_private,
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            // 0.0.0.0 connects to this machine.
            [0 | 127, ..] => Self::Loopback,
            [10, ..] | [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [192, 0, 0 | 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [224..=255, ..] => {
                Self::Private
            }
            _ => Self::Global,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::Loopback,
            // IPv4 written as IPv6, by way of NAT64, and by 6to4.
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
            [0x2002, high, low, ..] => v4(high, low),
            // Special purposes, among them Teredo; documentation.
            [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] => Self::Private,
            [0x2000..=0x3ffe, ..] => Self::Global,
            _ => Self::Private,
        }
    }
}

/// Resolves names to the addresses that webhooks may go to.
pub(super) struct Resolver {
    pub(super) settings: NoticeSettings,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let settings = self.settings.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| Reach::of(address.ip()).is_allowed(&settings)).collect();
            if allowed.is_empty() {
                return Err(io::Error::other("the name has no address that webhooks may go to").into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_whole_internet_reaches_is_global() {
        let cases = [
            (Reach::Global, "8.8.8.8 172.32.0.1 100.128.0.1 2606:4700::1111 64:ff9b::808:808 ::ffff:8.8.8.8"),
            (Reach::Loopback, "127.0.0.1 127.9.9.9 0.0.0.0 :: ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::"),
            (Reach::Private, "10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 224.0.0.1 255.255.255.255"),
            (Reach::Private, "fc00::1 fe80::1 ff02::1 64:ff9b::a00:1 ::ffff:10.0.0.1 2001:db8::1 2001::1 ::7f00:1"),
        ];
        for (reach, addresses) in cases {
            for address in addresses.split(' ') {
                assert_eq!(Reach::of(address.parse().expect("an address")), reach, "{address}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_leads_nowhere_unless_its_operator_says_so() {
        let found = async |allow_loopback| {
            let resolver = Resolver { settings: NoticeSettings { allow_loopback, ..NoticeSettings::default() } };
            resolver.resolve("localhost".parse().expect("a name")).await.is_ok()
        };
        assert!(!found(false).await);
        assert!(found(true).await);
    }
}
