//! Which addresses the gate may connect to.
//!
//! A name is the service's to point anywhere: at this machine, at the network the host stands in, at the cloud's metadata service. So what
//! is judged is the address, after the name was resolved and before the socket is opened, and the socket is opened to that very address.
//!
//! The tables are IANA's special-purpose registries for IPv4 and IPv6, with the cloud's own addresses added. An IPv6 address that carries
//! an IPv4 address inside is judged by both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ambit_core::guard;

/// What an address is, as far as connecting to it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Globally reachable unicast.
    Public,
    /// Reaches this machine, its networks or a translator. Only for connections with `allow_private`.
    Private(&'static str),
    /// Never a service's address, whatever the connection says.
    Forbidden(&'static str),
}

impl Class {
    /// Whether a connection may open a socket to an address of this class.
    ///
    /// # Errors
    /// The kind of address, as words that follow "is a".
    pub fn admit(self, allow_private: bool) -> Result<(), &'static str> {
        match self {
            Class::Public => Ok(()),
            Class::Private(kind) => {
                if guard!("gate.address-private", allow_private) {
                    Ok(())
                } else {
                    Err(kind)
                }
            }
            Class::Forbidden(kind) => {
                if guard!("gate.address-forbidden", false) {
                    Ok(())
                } else {
                    Err(kind)
                }
            }
        }
    }
}

/// Judges one address.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

/// First and number of leading bits that count, and what is said of addresses inside.
type V4Block = (Ipv4Addr, u32, Class);
type V6Block = (Ipv6Addr, u32, Class);

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u32, class: Class) -> V4Block {
    (Ipv4Addr::new(a, b, c, d), bits, class)
}

/// In order: the first block that holds the address decides.
const V4_BLOCKS: &[V4Block] = &[
    // Cloud metadata. The second is Azure's, public by number and answered by the machine's own host; the third Oracle's; the last Alibaba's.
    v4(169, 254, 169, 254, 32, METADATA),
    v4(168, 63, 129, 16, 32, METADATA),
    v4(192, 0, 0, 192, 32, METADATA),
    v4(100, 100, 100, 200, 32, METADATA),
    v4(0, 0, 0, 0, 8, Class::Forbidden("“this network” address")),
    v4(10, 0, 0, 0, 8, PRIVATE),
    v4(100, 64, 0, 0, 10, Class::Private("carrier-grade NAT address")),
    v4(127, 0, 0, 0, 8, LOOPBACK),
    v4(169, 254, 0, 0, 16, LINK_LOCAL),
    v4(172, 16, 0, 0, 12, PRIVATE),
    v4(192, 0, 0, 0, 24, RESERVED),
    v4(192, 0, 2, 0, 24, DOCUMENTATION),
    v4(192, 88, 99, 0, 24, Class::Forbidden("6to4 relay address")),
    v4(192, 168, 0, 0, 16, PRIVATE),
    v4(198, 18, 0, 0, 15, BENCHMARKING),
    v4(198, 51, 100, 0, 24, DOCUMENTATION),
    v4(203, 0, 113, 0, 24, DOCUMENTATION),
    v4(224, 0, 0, 0, 4, MULTICAST),
    // Broadcast is the last of these.
    v4(240, 0, 0, 0, 4, RESERVED),
];

const METADATA: Class = Class::Forbidden("cloud metadata address");
const PRIVATE: Class = Class::Private("private network address");
const LOOPBACK: Class = Class::Private("loopback address");
const LINK_LOCAL: Class = Class::Private("link-local address");
const BENCHMARKING: Class = Class::Private("benchmarking address");
const RESERVED: Class = Class::Forbidden("reserved address");
const DOCUMENTATION: Class = Class::Forbidden("documentation address");
const MULTICAST: Class = Class::Forbidden("multicast address");

fn classify_v4(address: Ipv4Addr) -> Class {
    V4_BLOCKS
        .iter()
        .find(|(first, bits, _)| {
            let shift = u32::BITS.saturating_sub(*bits);
            u32::from(address).unbounded_shr(shift) == u32::from(*first).unbounded_shr(shift)
        })
        .map_or(Class::Public, |(_, _, class)| *class)
}

const fn v6(segments: [u16; 8], bits: u32, class: Class) -> V6Block {
    let [a, b, c, d, e, f, g, h] = segments;
    (Ipv6Addr::new(a, b, c, d, e, f, g, h), bits, class)
}

/// As [`V4_BLOCKS`]; what no block holds is public only inside 2000::/3.
const V6_BLOCKS: &[V6Block] = &[
    v6([0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254], 128, METADATA),
    v6([0; 8], 128, Class::Forbidden("unspecified address")),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, LOOPBACK),
    v6(
        [0x0100, 0, 0, 0, 0, 0, 0, 0],
        64,
        Class::Forbidden("discard-only address"),
    ),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Class::Private("unique local address")),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, LINK_LOCAL),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Class::Private("site-local address")),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, MULTICAST),
    v6([0x2001, 0x0002, 0, 0, 0, 0, 0, 0], 48, BENCHMARKING),
    // Protocol assignments: ORCHID, drone identifiers, AMT, anycast of protocols. None is a web service.
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, RESERVED),
    v6([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32, DOCUMENTATION),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, DOCUMENTATION),
    v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Class::Public),
];

fn classify_v6(address: Ipv6Addr) -> Class {
    if let Some(carried) = carried_v4(address) {
        return carried
            .addresses
            .into_iter()
            .flatten()
            .map(classify_v4)
            // A translator or tunnel is reached first, whatever is behind it: at least private.
            .fold(Class::Private(carried.kind), stricter);
    }
    V6_BLOCKS
        .iter()
        .find(|(first, bits, _)| {
            let shift = u128::BITS.saturating_sub(*bits);
            u128::from(address).unbounded_shr(shift) == u128::from(*first).unbounded_shr(shift)
        })
        .map_or(Class::Forbidden("not a global unicast address"), |(_, _, class)| *class)
}

fn stricter(one: Class, other: Class) -> Class {
    match (one, other) {
        (Class::Forbidden(_), _) => one,
        (_, Class::Forbidden(_)) => other,
        // Of two private ones the inner says more: "loopback address" rather than "v4-mapped address".
        (_, Class::Private(_)) => other,
        _ => one,
    }
}

/// IPv4 addresses inside an IPv6 address.
struct Carried {
    kind: &'static str,
    addresses: [Option<Ipv4Addr>; 2],
}

fn carried_v4(address: Ipv6Addr) -> Option<Carried> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    let one = |kind, address| {
        Some(Carried {
            kind,
            addresses: [Some(address), None],
        })
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) => one("v4-mapped address", of(g, h)),
        (0, 0, 0, 0, 0xffff, 0) => one("v4-translated address", of(g, h)),
        // `::` and `::1` lie in this block too; they have their own lines.
        (0, 0, 0, 0, 0, 0) if (g, h) != (0, 0) && (g, h) != (0, 1) => one("v4-compatible address", of(g, h)),
        (0x0064, 0xff9b, 0, 0, 0, 0) => one("NAT64 address", of(g, h)),
        // RFC 8215's block is cut up as its network likes: both ends where RFC 6052 puts the IPv4 address are judged.
        (0x0064, 0xff9b, 1, ..) => Some(Carried {
            kind: "NAT64 address",
            addresses: [of(d, (e << 8) | (f >> 8)), of(g, h)]
                .map(|address| (!address.is_unspecified()).then_some(address)),
        }),
        (0x2002, ..) => one("6to4 address", of(b, c)),
        // Teredo: the server as it is, the client with every bit turned.
        (0x2001, 0, ..) => Some(Carried {
            kind: "Teredo address",
            addresses: [Some(of(c, d)), Some(of(!g, !h))],
        }),
        // ISATAP: any prefix, marked in the interface identifier.
        (_, _, _, _, 0 | 0x0200, 0x5efe) => one("ISATAP address", of(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Class) {
        assert_eq!(classify(address.parse().unwrap()), expected, "{address}");
    }

    fn private(kind: &'static str) -> Class {
        Class::Private(kind)
    }

    fn forbidden(kind: &'static str) -> Class {
        Class::Forbidden(kind)
    }

    #[test]
    fn trap_08_blocks_hold_their_first_and_last_address_and_no_neighbour() {
        for (first, last, class) in [
            ("0.0.0.0", "0.255.255.255", forbidden("“this network” address")),
            ("10.0.0.0", "10.255.255.255", PRIVATE),
            ("100.64.0.0", "100.127.255.255", private("carrier-grade NAT address")),
            ("127.0.0.0", "127.255.255.255", LOOPBACK),
            ("169.254.0.0", "169.254.255.255", LINK_LOCAL),
            ("172.16.0.0", "172.31.255.255", PRIVATE),
            ("192.0.0.0", "192.0.0.255", RESERVED),
            ("192.0.2.0", "192.0.2.255", DOCUMENTATION),
            ("192.88.99.0", "192.88.99.255", forbidden("6to4 relay address")),
            ("192.168.0.0", "192.168.255.255", PRIVATE),
            ("198.18.0.0", "198.19.255.255", BENCHMARKING),
            ("198.51.100.0", "198.51.100.255", DOCUMENTATION),
            ("203.0.113.0", "203.0.113.255", DOCUMENTATION),
            ("224.0.0.0", "239.255.255.255", MULTICAST),
            ("240.0.0.0", "255.255.255.255", RESERVED),
        ] {
            check(first, class);
            check(last, class);
            let below = u32::from(first.parse::<Ipv4Addr>().unwrap()).checked_sub(1);
            let above = u32::from(last.parse::<Ipv4Addr>().unwrap()).checked_add(1);
            for outside in [below, above].into_iter().flatten() {
                assert_ne!(classify(Ipv4Addr::from(outside).into()), class, "beside {first}-{last}");
            }
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
        ] {
            check(address, Class::Public);
        }
    }

    #[test]
    fn trap_06_metadata_stays_closed_even_where_private_addresses_are_open() {
        for address in [
            "169.254.169.254",
            "168.63.129.16",
            "192.0.0.192",
            "100.100.100.200",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            check(address, METADATA);
            assert!(classify(address.parse().unwrap()).admit(true).is_err());
        }
    }

    #[test]
    fn ipv6_is_public_only_as_global_unicast() {
        check("2606:4700:4700::1111", Class::Public);
        check("2a00:1450:4001:80e::200e", Class::Public);
        check("::", forbidden("unspecified address"));
        check("::1", LOOPBACK);
        check("100::1", forbidden("discard-only address"));
        check("fc00::1", private("unique local address"));
        check("fdff:ffff::1", private("unique local address"));
        check("fe80::1", LINK_LOCAL);
        check("febf::1", LINK_LOCAL);
        check("fec0::1", private("site-local address"));
        check("ff02::1", MULTICAST);
        check("2001:2::1", BENCHMARKING);
        check("2001:20::1", RESERVED);
        check("2001:1ff::1", RESERVED);
        check("2001:200::1", Class::Public);
        check("2001:db8::1", DOCUMENTATION);
        check("3fff:fff::1", DOCUMENTATION);
        check("5f00::1", forbidden("not a global unicast address"));
        check("4000::1", forbidden("not a global unicast address"));
    }

    #[test]
    fn trap_08_v4_inside_v6_is_judged_again() {
        for (kind, public, loopback, metadata) in [
            (
                "v4-mapped address",
                "::ffff:8.8.8.8",
                "::ffff:127.0.0.1",
                "::ffff:169.254.169.254",
            ),
            (
                "v4-translated address",
                "::ffff:0:8.8.8.8",
                "::ffff:0:127.0.0.1",
                "::ffff:0:169.254.169.254",
            ),
            ("v4-compatible address", "::8.8.8.8", "::127.0.0.1", "::169.254.169.254"),
            (
                "NAT64 address",
                "64:ff9b::8.8.8.8",
                "64:ff9b::127.0.0.1",
                "64:ff9b::169.254.169.254",
            ),
            ("6to4 address", "2002:808:808::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1"),
            (
                "ISATAP address",
                "2606:4700::5efe:8.8.8.8",
                "2606:4700::5efe:127.0.0.1",
                "2606:4700::200:5efe:169.254.169.254",
            ),
        ] {
            check(public, private(kind));
            check(loopback, LOOPBACK);
            check(metadata, METADATA);
        }
        // Client 127.0.0.1 and client 8.8.8.8, each with its bits turned, behind server 8.8.8.8; then a loopback server.
        check("2001:0:808:808:0:0:80ff:fffe", LOOPBACK);
        check("2001:0:808:808:0:0:f7f7:f7f7", private("Teredo address"));
        check("2001:0:7f00:1:0:0:f7f7:f7f7", LOOPBACK);
        // RFC 8215, prefix of 48 bits (the address around the byte of zeros) and of 96.
        check("64:ff9b:1:7f00:0:100::", LOOPBACK);
        check("64:ff9b:1::169.254.169.254", METADATA);
    }

    #[test]
    fn private_is_opened_by_the_connection_alone() {
        assert_eq!(classify([127, 0, 0, 1].into()).admit(false), Err("loopback address"));
        assert_eq!(classify([127, 0, 0, 1].into()).admit(true), Ok(()));
        assert_eq!(classify([8, 8, 8, 8].into()).admit(false), Ok(()));
        assert_eq!(classify([224, 0, 0, 1].into()).admit(true), Err("multicast address"));
    }
}
