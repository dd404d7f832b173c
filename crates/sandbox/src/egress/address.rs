//! What kind of place an address is: pure, and the same for every back end.
//!
//! *Public* is what is left when the special-purpose registries are taken out (RFC 6890 with its successors, as IANA
//! keeps them; multicast). An IPv6 address that carries an IPv4 address is what that one is: it may be delivered
//! there. The clouds' metadata addresses are a class of their own, since listing a range around one does not mean it.
//!
//! Not known here: which addresses are the host's own ([`super::Network::is_own`]), and what a translator in front of
//! the host makes of a public address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The internet.
    Public,
    /// The machine itself.
    Loopback,
    /// Private, link-local, shared, multicast, reserved: by its name in a sentence.
    Special(&'static str),
    /// Where clouds answer with credentials.
    Metadata,
}

impl Class {
    /// Reads after "is".
    pub fn description(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Loopback => "a loopback address",
            Self::Special(name) => name,
            Self::Metadata => "a metadata address",
        }
    }
}

/// The address blocks that are not the internet, and what they are.
const SPECIAL: &[(&str, Class)] = {
    const PRIVATE: Class = Class::Special("a private address");
    const LINK: Class = Class::Special("a link-local address");
    const RESERVED: Class = Class::Special("a reserved address");
    const DOCUMENTATION: Class = Class::Special("an address for documentation");
    const MULTICAST: Class = Class::Special("a multicast address");
    &[
        ("0.0.0.0/8", RESERVED),
        ("10.0.0.0/8", PRIVATE),
        ("100.64.0.0/10", Class::Special("a shared address of a carrier's network")),
        ("127.0.0.0/8", Class::Loopback),
        ("169.254.0.0/16", LINK),
        ("172.16.0.0/12", PRIVATE),
        ("192.0.0.0/24", RESERVED),
        ("192.0.2.0/24", DOCUMENTATION),
        ("192.31.196.0/24", RESERVED),
        ("192.52.193.0/24", RESERVED),
        ("192.88.99.0/24", RESERVED),
        ("192.168.0.0/16", PRIVATE),
        ("192.175.48.0/24", RESERVED),
        ("198.18.0.0/15", Class::Special("an address for benchmarks")),
        ("198.51.100.0/24", DOCUMENTATION),
        ("203.0.113.0/24", DOCUMENTATION),
        ("224.0.0.0/4", MULTICAST),
        ("240.0.0.0/4", RESERVED),
        ("::/128", RESERVED),
        ("::1/128", Class::Loopback),
        ("::/96", RESERVED),
        ("64:ff9b:1::/48", PRIVATE),
        ("100::/64", RESERVED),
        ("100:0:0:1::/64", RESERVED),
        ("2001::/23", RESERVED),
        ("2001:db8::/32", DOCUMENTATION),
        ("2620:4f:8000::/48", RESERVED),
        ("3fff::/20", DOCUMENTATION),
        ("5f00::/16", RESERVED),
        ("fc00::/7", PRIVATE),
        ("fe80::/10", LINK),
        ("fec0::/10", PRIVATE),
        ("ff00::/8", MULTICAST),
    ]
};

/// Where clouds answer with an instance's credentials: AWS, Azure, Google, DigitalOcean and others; AWS's containers;
/// Alibaba; Oracle's and AWS's own IPv6 addresses.
const METADATA: &[&str] = &[
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    // The platform's own address in every virtual network of Azure, of the public range.
    "168.63.129.16",
];

/// What kind of place this is.
pub fn classify(address: IpAddr) -> Class {
    let address = unwrapped(address);
    if METADATA.iter().any(|metadata| metadata.parse() == Ok(address)) {
        return Class::Metadata;
    }
    // The more special block wins: `::1` lies in `::/96`.
    let blocks = SPECIAL.iter().filter_map(|(block, class)| Some((block.parse::<Block>().ok()?, *class)));
    let found = blocks.filter(|(block, _)| block.contains(address)).max_by_key(|(block, _)| block.prefix);
    match (found, address) {
        (Some((_, class)), _) => class,
        (None, IpAddr::V4(_)) => Class::Public,
        // All that is assigned to be reached is in 2000::/3.
        (None, IpAddr::V6(six)) if six.segments()[0] & 0xe000 == 0x2000 => Class::Public,
        (None, IpAddr::V6(_)) => Class::Special("a reserved address"),
    }
}

/// The IPv4 address that an IPv6 address may be delivered to, or itself: mapped (RFC 4291), translated (RFC 6052),
/// 6to4 (RFC 3056).
pub fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let segments = six.segments();
    let four = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => four(high, low),
        [0x2002, high, low, ..] => four(high, low),
        _ => address,
    }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    base: IpAddr,
    prefix: u8,
}

impl Block {
    /// One address.
    pub fn single(address: IpAddr) -> Self {
        Self { base: address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether it is one address.
    pub fn is_single(self) -> bool {
        self.prefix == if self.base.is_ipv4() { 32 } else { 128 }
    }

    /// Whether the address is in it. One family never holds the other's.
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                base.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }

    /// Whether the other block lies in it.
    pub fn covers(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    /// Whether it lies in one of the blocks that are not the internet: then its addresses are meant when it is
    /// listed. A wider one means the internet.
    pub fn is_special(self) -> bool {
        SPECIAL.iter().filter_map(|(block, _)| block.parse::<Self>().ok()).any(|block| block.covers(self))
    }
}

impl std::str::FromStr for Block {
    type Err = ();

    /// `ADDRESS` or `ADDRESS/BITS`; bits of the address past the prefix must be zero, as a misread prefix would
    /// otherwise go unseen.
    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((base, prefix)) = text.split_once('/') else {
            return text.parse().map(Self::single).map_err(|_| ());
        };
        let base: IpAddr = base.parse().map_err(|_| ())?;
        let plain = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|_| plain).ok_or(())?;
        let widest = if base.is_ipv4() { 32 } else { 128 };
        let network = Self { base, prefix };
        (prefix <= widest && network.first() == base).then_some(network).ok_or(())
    }
}

impl Block {
    fn first(self) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() & mask))
            }
            IpAddr::V6(base) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() & mask))
            }
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_single() && self.base.is_ipv4() {
            return self.base.fmt(f);
        }
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(class: &str, addresses: &[&str]) {
        for address in addresses {
            let found = classify(address.parse().unwrap());
            assert_eq!(found.description(), class, "{address}");
        }
    }

    #[test]
    fn the_internet() {
        is(
            "a public address",
            &[
                "1.0.0.0",
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "191.255.255.255",
                "192.0.1.0",
                "192.0.3.0",
                "192.88.98.255",
                "192.88.100.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "198.41.0.4",
                "198.51.99.255",
                "198.51.101.0",
                "203.0.112.255",
                "203.0.114.0",
                "223.255.255.255",
                "2001:200::1",
                "2001:4860:4860::8888",
                "2606:4700::1111",
                "2a00::1",
                "2003::1",
                "3ffe::1",
            ],
        );
    }

    #[test]
    fn edges_of_blocks() {
        is(
            "a private address",
            &[
                "10.0.0.0",
                "10.255.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.168.0.0",
                "192.168.255.255",
                "fc00::",
                "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "fec0::",
                "feff::1",
                "64:ff9b:1::a00:1",
            ],
        );
        is("a shared address of a carrier's network", &["100.64.0.0", "100.127.255.255"]);
        is("a loopback address", &["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"]);
        is("a link-local address", &["169.254.0.0", "169.254.255.255", "fe80::", "febf::1"]);
        is(
            "a reserved address",
            &[
                "0.0.0.0",
                "0.255.255.255",
                "192.0.0.0",
                "192.0.0.170",
                "192.88.99.1",
                "240.0.0.0",
                "255.255.255.255",
                "::",
                "::2",
                "::7f00:1",
                "100::1",
                "2001::1",
                "2001:1::1",
                "2001:1ff:ffff::",
                "4000::1",
                "8000::",
                "e000::1",
            ],
        );
        is(
            "an address for documentation",
            &["192.0.2.0", "198.51.100.255", "203.0.113.7", "2001:db8::1", "3fff::1"],
        );
        is("an address for benchmarks", &["198.18.0.0", "198.19.255.255"]);
        is("a multicast address", &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1"]);
        is(
            "a metadata address",
            &["169.254.169.254", "168.63.129.16", "169.254.170.2", "100.100.100.200", "fd00:ec2::254"],
        );
    }

    #[test]
    fn what_carries_an_address_is_that_address() {
        is("a loopback address", &["::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::"]);
        is(
            "a private address",
            &["::ffff:10.0.0.1", "64:ff9b::192.168.1.1", "2002:a00:1::1", "2002:c0a8:101::"],
        );
        is("a metadata address", &["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"]);
        is("a public address", &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]);
        is("a reserved address", &["::ffff:0.0.0.0", "64:ff9b:2::1"]);
    }

    #[test]
    fn every_block_parses_and_is_special() {
        for (block, class) in SPECIAL {
            let network: Block = block.parse().unwrap();
            assert!(network.is_special() && classify(network.base) != Class::Public, "{block} {class:?}");
            assert_eq!(
                network.to_string(),
                if network.is_single() && block.contains('.') {
                    block.replace("/32", "")
                } else {
                    (*block).to_owned()
                }
            );
        }
        assert!(METADATA.iter().all(|address| classify(address.parse().unwrap()) == Class::Metadata));
    }

    #[test]
    fn networks() {
        let network = |text: &str| text.parse::<Block>();
        for bad in [
            "",
            "10",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "a/8",
            "010.0.0.1",
        ] {
            assert!(network(bad).is_err(), "{bad}");
        }
        let ten = network("10.0.0.0/8").unwrap();
        assert!(ten.contains("10.255.0.1".parse().unwrap()) && !ten.contains("11.0.0.0".parse().unwrap()));
        assert!(ten.covers(network("10.1.0.0/16").unwrap()) && !network("10.1.0.0/16").unwrap().covers(ten));
        let all = network("0.0.0.0/0").unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
        assert!(!all.is_special() && ten.is_special() && !network("8.0.0.0/8").unwrap().is_special());
        assert!(network("::/0").unwrap().contains("2a00::1".parse().unwrap()));
        assert!(network("10.0.0.5").unwrap().is_single() && network("2a00::1/128").unwrap().is_single());
    }
}
