//! What kind of address an address is: public, local, or never to be dialled (IANA special-purpose registries, RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reachable over the internet.
    Public,
    /// Loopback, private, shared, multicast, unspecified or reserved: only where the operator allows it.
    Local,
    /// Link-local or a cloud's metadata service.
    Never,
}

/// The kind of `ip`. An IPv4 address inside an IPv6 one is judged by itself.
#[must_use]
pub fn kind(ip: IpAddr) -> Kind {
    match ip {
        IpAddr::V4(ip) => kind_v4(ip),
        IpAddr::V6(ip) => kind_v6(ip),
    }
}

/// The IPv4 address that an IPv6 address carries: mapped, compatible, NAT64, 6to4, Teredo's client, ISATAP.
#[must_use]
pub(super) fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    embedded_v4(ip).map(IpAddr::V4)
}

fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(join(high, low)),
        _ => None,
    }
}

fn kind_v4(ip: Ipv4Addr) -> Kind {
    let [a, b, c, d] = ip.octets();
    match [a, b, c, d] {
        // AWS, Google, Azure, DigitalOcean and others; then Alibaba, Oracle, Azure's wire server.
        [169, 254, _, _] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Kind::Never,
        [0 | 10 | 127 | 224..=255, ..] => Kind::Local,
        [100, 64..=127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [198, 18 | 19, ..] => Kind::Local,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => Kind::Local,
        _ => Kind::Public,
    }
}

fn kind_v6(ip: Ipv6Addr) -> Kind {
    let s = ip.segments();
    // Amazon's and Google's metadata services have unique local addresses.
    const AMAZON: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    if ip == AMAZON || ip == GOOGLE || s[0] & 0xffc0 == 0xfe80 {
        return Kind::Never;
    }
    let inner = embedded_v4(ip).map(kind_v4);
    if inner == Some(Kind::Never) {
        return Kind::Never;
    }
    match s {
        // Mapped, and NAT64 with the well-known prefix: really that IPv4 address.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => inner.unwrap_or(Kind::Local),
        // 6to4, Teredo, benchmarking, ORCHID, documentation.
        [0x2002 | 0x3ffe | 0x5f00, ..] | [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Kind::Local,
        // Only 2000::/3 is global unicast; the rest is loopback, unique local, site-local, multicast or not assigned.
        [0x2000..=0x3fff, ..] => inner.unwrap_or(Kind::Public),
        _ => Kind::Local,
    }
}
