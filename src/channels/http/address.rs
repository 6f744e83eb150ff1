//! With which addresses the service connects: server-side request forgery is a URL that makes a server ask its own network, or the
//! machine's metadata service, in somebody else's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anybody's on the internet.
    Public,
    /// Of this machine or network: loopback, RFC 1918, RFC 6598, and unique local ones.
    Private,
    /// Nobody's with whom the service has any business: link-local (where clouds have their metadata), multicast, reserved, for
    /// documentation and measurements, and what leads to IPv4 by another way.
    Never,
}

/// Whose an address is. An IPv4 address within an IPv6 one counts as what it is.
pub(super) fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(address) => reach_of_v4(address),
        IpAddr::V6(address) => reach_of_v6(address),
    }
}

fn reach_of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // Loopback, the private ranges, and those of carriers.
        [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Private,
        // This network, multicast and reserved, link-local, protocol assignments, documentation, 6to4 relays, measurements.
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Reach::Never,
        _ => Reach::Public,
    }
}

/// Global unicast is `2000::/3` and nothing else, so what is not in it need not be listed: NAT64 (`64:ff9b::/96` and
/// `64:ff9b:1::/48`), discard (`100::/64`), segment routing (`5f00::/16`), link-local, multicast.
fn reach_of_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] => Reach::Private,
        // Protocol assignments (Teredo among them), documentation, 6to4.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Never,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reach_expected: Reach, addresses: &str) {
        for address in addresses.split_whitespace() {
            assert_eq!(reach(address.parse().expect(address)), reach_expected, "{address}");
        }
    }

    /// The addresses of Svix's test, and the first and last of each range. `::ffff:0:0:0:1` is public there and never here, as nobody has it.
    #[test]
    fn every_range_ends_where_it_should() {
        check(
            Reach::Private,
            "127.0.0.0 127.0.0.1 127.255.255.255 10.0.0.0 10.254.0.0 10.255.255.255 172.16.0.0 172.16.10.65 172.31.255.255 \
             192.168.0.0 192.168.10.65 192.168.255.255 100.64.0.0 100.100.0.0 100.127.255.255 ::1 fc00:: fd00::1 \
             fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff fd00:ec2::254 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:7f00:1",
        );
        check(
            Reach::Never,
            "0.0.0.0 0.1.2.3 0.255.255.255 169.254.0.0 169.254.45.1 169.254.169.254 169.254.255.255 192.0.0.0 192.0.0.255 \
             192.0.2.0 192.0.2.255 192.88.99.0 192.88.99.255 198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.65 \
             203.0.113.6 224.0.0.0 239.255.255.255 240.0.0.0 250.10.20.30 255.255.255.255 :: ::2 ::7f00:1 0:0:0:ffff::1 \
             ::ffff:0.0.0.1 ::ffff:169.254.169.254 fe80:: fe80::1 febf::1 fec0::1 ff00:: ff02::1 64:ff9b::7f00:1 \
             64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:10::1 2001:1ff::1 2001:db8::1 2002::1 2002:7f00:1::1 \
             2002:a9fe:a9fe::1 3fff::1 3fff:fff::1 4000::1 5f00::1 1fff::1 fbff::1 fe00::1",
        );
        check(
            Reach::Public,
            "1.1.1.1 8.8.8.8 1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 \
             169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 \
             192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 \
             2001:4860:4860::8888 ::ffff:8.8.8.8 2001:200::1 2001:db7::1 2001:db9::1 2000::1 2003::1 2606:4700::1111 3ffe::1 \
             3fff:1000::1",
        );
    }
}
