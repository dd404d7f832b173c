//! What a function may connect to: the text of `virga:egress`, and what it decides. Pure.
//!
//! A setting is one word (`none`, `public`, `open`) or a list of places separated by spaces: `host:port`,
//! `.example.com:443` (every name below it), `10.0.0.0/8:5432`, `2001:db8::/32:443`; `public` may be one of the list.
//! A name opens the addresses that Virga itself resolved for it, as long as they are public; what is not public is
//! opened by its address alone, so that a name's owner cannot point into the host's network. A network opens what is
//! not public only if it lies in such a block, and a metadata address only by itself: `0.0.0.0/0:80` is the internet.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::{Block, Class, classify, unwrapped};

/// Places that one list may name.
const RULES: usize = 32;
/// What a public address is that no place of a list opens.
const NOT_LISTED: &str = "not listed";
/// Bytes of a name (RFC 1035, as text).
const NAME: usize = 253;

/// What code may connect to, beside its own loopback and Virga's endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Egress {
    /// Nothing.
    None,
    /// The internet: never the host, its networks or their metadata services.
    #[default]
    Public,
    /// Anything that the host reaches.
    Open,
    /// What is listed.
    Rules(Arc<Rules>),
}

/// A list of places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rules {
    public: bool,
    places: Vec<Place>,
}

/// One place of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    at: At,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    /// In lower case, without a dot at its end.
    Name(String),
    /// With the dot at its start.
    Below(String),
    Block(Block),
}

/// What is decided about a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be connected to.
    Allowed,
    /// It may, if this is an address that Virga resolved for a listed name at that port.
    IfResolved,
    /// It may not, for what it is.
    Refused(&'static str),
}

impl Egress {
    /// What is decided about a destination. `own` says whether it is one of the host's addresses, and is asked about
    /// public ones only.
    pub fn decide(&self, destination: SocketAddr, own: impl FnOnce(IpAddr) -> bool) -> Verdict {
        let rules = match self {
            Self::None => return Verdict::Refused("there is no network"),
            Self::Open => return Verdict::Allowed,
            Self::Public => None,
            Self::Rules(rules) => Some(rules),
        };
        let address = unwrapped(destination.ip());
        let class = classify(address);
        if class == Class::Public && own(address) {
            // It leads to what only the host should reach.
            return Verdict::Refused("an address of the host itself");
        }
        let public = class == Class::Public;
        match rules {
            None if public => Verdict::Allowed,
            None => Verdict::Refused(class.description()),
            Some(rules) if rules.public && public => Verdict::Allowed,
            Some(rules) if rules.lists(address, Some(destination.port()), class) => Verdict::Allowed,
            Some(rules) if public && rules.names_port(destination.port()) => Verdict::IfResolved,
            Some(_) if public => Verdict::Refused(NOT_LISTED),
            Some(_) => Verdict::Refused(class.description()),
        }
    }

    /// Whether this address of a name leads anywhere, at whatever port. The error is what the address is.
    pub fn shows(
        &self,
        name: &str,
        address: IpAddr,
        own: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), &'static str> {
        let address = unwrapped(address);
        match (self, self.decide(SocketAddr::new(address, 0), own)) {
            (_, Verdict::Allowed) => Ok(()),
            (Self::Rules(rules), _) if rules.lists(address, None, classify(address)) => Ok(()),
            (Self::Rules(rules), Verdict::Refused(NOT_LISTED)) if rules.ports_of(name).next().is_some() => {
                Ok(())
            }
            (_, Verdict::Refused(what)) => Err(what),
            (_, Verdict::IfResolved) => Ok(()),
        }
    }

    /// Whether this name may be looked up at all.
    pub fn resolves(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Public | Self::Open => true,
            Self::Rules(rules) => rules.public || rules.ports_of(name).next().is_some(),
        }
    }

    /// The ports at which the addresses of this name are opened by its being listed.
    pub fn ports_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u16> + 'a {
        let rules = if let Self::Rules(rules) = self { Some(rules) } else { None };
        rules.into_iter().flat_map(|rules| rules.ports_of(name))
    }

    /// The names that are listed whole at a port.
    pub fn names_at(&self, port: u16) -> impl Iterator<Item = &str> {
        let places = if let Self::Rules(rules) = self { rules.places.as_slice() } else { &[] };
        places.iter().filter(move |place| place.port == port).filter_map(|place| match &place.at {
            At::Name(name) => Some(name.as_str()),
            At::Below(_) | At::Block(_) => None,
        })
    }

    /// Whether what `wanted` opens is within this, which is the most that is allowed. The error is what is not.
    pub fn permits(&self, wanted: &Self) -> Result<(), String> {
        let (public, places) = match (self, wanted) {
            (Self::Open, _) | (_, Self::None) => return Ok(()),
            (_, Self::Open) => return Err("open".to_owned()),
            (_, Self::Public) => (true, [].as_slice()),
            (_, Self::Rules(rules)) => (rules.public, rules.places.as_slice()),
        };
        let (all, listed) = match self {
            Self::None | Self::Open => (false, [].as_slice()),
            Self::Public => (true, [].as_slice()),
            Self::Rules(most) => (most.public, most.places.as_slice()),
        };
        if public && !all {
            return Err("public".to_owned());
        }
        let within = |place: &&Place| {
            let special = matches!(place.at, At::Block(network) if network.is_special());
            (all && !special) || listed.iter().any(|most| most.covers(place))
        };
        places.iter().find(|place| !within(place)).map_or(Ok(()), |place| Err(place.to_string()))
    }
}

impl Rules {
    /// Whether a network of the list opens an address, at this port or at any.
    fn lists(&self, address: IpAddr, port: Option<u16>, class: Class) -> bool {
        let mut places = self.places.iter().filter(|place| port.is_none_or(|port| place.port == port));
        places.any(|place| match place.at {
            At::Block(network) if network.contains(address) => match class {
                Class::Public => true,
                Class::Metadata => network.is_single(),
                Class::Loopback | Class::Special(_) => network.is_special(),
            },
            _ => false,
        })
    }

    fn names_port(&self, port: u16) -> bool {
        self.places.iter().any(|place| place.port == port && !matches!(place.at, At::Block(_)))
    }

    fn ports_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u16> + 'a {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.places.iter().filter(move |place| place.at.names(name)).map(|place| place.port)
    }
}

impl At {
    fn names(&self, name: &str) -> bool {
        match self {
            Self::Name(listed) => listed.eq_ignore_ascii_case(name),
            Self::Below(end) => {
                let start = name.len().checked_sub(end.len());
                start.is_some_and(|start| {
                    start > 0 && name.get(start..).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
                })
            }
            Self::Block(_) => false,
        }
    }
}

impl Place {
    fn covers(&self, other: &Self) -> bool {
        self.port == other.port
            && match (&self.at, &other.at) {
                (At::Block(most), At::Block(wanted)) => most.covers(*wanted),
                (At::Below(end), At::Below(wanted)) => wanted == end || self.at.names(wanted),
                (most, At::Name(name)) => most.names(name),
                _ => false,
            }
    }
}

impl FromStr for Egress {
    type Err = String;

    /// The error says what is wrong, to follow a colon.
    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            [] => return Err("use none, public, open, or a list of host:port".to_owned()),
            ["none"] => return Ok(Self::None),
            ["public"] => return Ok(Self::Public),
            ["open"] => return Ok(Self::Open),
            _ => {}
        }
        let mut rules = Rules { public: false, places: Vec::new() };
        for word in words {
            match word {
                "public" => rules.public = true,
                "none" | "open" => return Err(format!("{word} stands alone")),
                _ => rules.places.push(word.parse()?),
            }
        }
        if rules.places.len() > RULES {
            return Err(format!("a list has at most {RULES} places"));
        }
        if rules.places.is_empty() {
            return Ok(Self::Public);
        }
        Ok(Self::Rules(Arc::new(rules)))
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("{word}: {what}");
        let (at, port) = word
            .rsplit_once(':')
            .ok_or_else(|| bad("a place is host:port, .domain:port or network/bits:port"))?;
        let plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = port
            .parse()
            .ok()
            .filter(|port| plain && *port > 0)
            .ok_or_else(|| bad("its port is not 1 to 65535"))?;
        let at = if at.contains(['/', ':']) {
            // An IPv6 address without its length could as well be one with a port.
            let network = at.contains('/').then(|| at.parse().ok()).flatten();
            At::Block(network.ok_or_else(|| {
                bad("not a network such as 10.0.0.0/8 or 2001:db8::/32 (the bits after it must be zero)")
            })?)
        } else if let Ok(address) = at.parse::<IpAddr>() {
            At::Block(Block::single(address))
        } else {
            let name = at.to_ascii_lowercase();
            let name = name.strip_suffix('.').unwrap_or(&name);
            check_name(name).map_err(bad)?;
            if name.starts_with('.') { At::Below(name.to_owned()) } else { At::Name(name.to_owned()) }
        };
        Ok(Self { at, port })
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let labels = name.strip_prefix('.').unwrap_or(name);
    if labels.len() > NAME {
        return Err("the name is too long");
    }
    let legal = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !labels.split('.').all(legal) {
        return Err("not a host name");
    }
    // What the C library would read as an address must not look like a name here.
    if labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("not a host name nor an address");
    }
    Ok(())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Name(text) | At::Below(text) => write!(f, "{text}:{}", self.port),
            At::Block(network) => write!(f, "{network}:{}", self.port),
        }
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Public => f.write_str("public"),
            Self::Open => f.write_str("open"),
            Self::Rules(rules) => {
                let mut before = "";
                if rules.public {
                    f.write_str("public")?;
                    before = " ";
                }
                for place in &rules.places {
                    write!(f, "{before}{place}")?;
                    before = " ";
                }
                Ok(())
            }
        }
    }
}

impl Serialize for Egress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // What was stored before there were rules.
        if text == "host" {
            return Ok(Self::Open);
        }
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(text: &str) -> Egress {
        text.parse().unwrap()
    }

    fn decide(text: &str, destination: &str) -> Verdict {
        egress(text).decide(destination.parse().unwrap(), |_| false)
    }

    #[test]
    fn texts_are_read_and_written() {
        for text in [
            "none",
            "public",
            "open",
            "api.example.com:443",
            ".example.com:443 10.0.0.0/8:5432",
            "public 10.1.2.3:6379 2001:db8::/32:443",
        ] {
            assert_eq!(egress(text).to_string(), text);
            let stored = serde_json::to_string(&egress(text)).unwrap();
            assert_eq!(serde_json::from_str::<Egress>(&stored).unwrap(), egress(text));
        }
        assert_eq!(egress(" API.Example.com.:443  public").to_string(), "public api.example.com:443");
        assert_eq!(serde_json::from_str::<Egress>("\"host\"").unwrap(), Egress::Open);
        assert_eq!(Egress::default(), Egress::Public);
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, said) in [
            ("", "use none"),
            ("moon", "a place is"),
            ("host", "a place is"),
            ("a.b:0", "port"),
            ("a.b:65536", "port"),
            ("a.b:+1", "port"),
            ("a.b:", "port"),
            ("open a.b:1", "stands alone"),
            ("none public", "stands alone"),
            ("10.0.0.1/8:1", "network"),
            ("2001:db8::1:443", "network"),
            ("10.0.0.0/33:1", "network"),
            ("1.2.3:80", "not a host name"),
            ("a..b:80", "not a host name"),
            ("..b:80", "not a host name"),
            (":80", "not a host name"),
            ("a b:80", "a place is"),
        ] {
            let error = text.parse::<Egress>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        let many: Vec<String> = (0..40).map(|n| format!("h{n}:1")).collect();
        assert!(many.join(" ").parse::<Egress>().is_err());
    }

    #[test]
    fn words_decide() {
        use Verdict::{Allowed, Refused};
        for special in
            ["127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", "[::ffff:10.0.0.1]:80", "[fd00::1]:80"]
        {
            assert!(matches!(decide("public", special), Refused(_)), "{special}");
            assert_eq!(decide("open", special), Allowed);
        }
        for public in ["1.1.1.1:443", "[2606:4700::1]:443", "[::ffff:1.1.1.1]:25"] {
            assert_eq!(decide("public", public), Allowed);
            assert!(matches!(decide("none", public), Refused(_)));
        }
        let own = egress("public").decide("1.1.1.1:80".parse().unwrap(), |_| true);
        assert_eq!(own, Refused("an address of the host itself"));
    }

    #[test]
    fn lists_decide() {
        use Verdict::{Allowed, IfResolved, Refused};
        let list = "db.example.com:5432 .example.org:443 10.0.0.0/8:5432 1.1.1.0/24:53 0.0.0.0/0:80";
        assert_eq!(decide(list, "10.9.9.9:5432"), Allowed);
        assert_eq!(decide(list, "10.9.9.9:5433"), Refused("a private address"));
        assert_eq!(decide(list, "1.1.1.1:53"), Allowed);
        assert_eq!(decide(list, "[::ffff:1.1.1.1]:53"), Allowed);
        assert_eq!(decide(list, "8.8.8.8:53"), Refused("not listed"));
        assert_eq!(decide(list, "8.8.8.8:443"), IfResolved);
        assert_eq!(decide(list, "8.8.8.8:5432"), IfResolved);
        // A name never opens what is not public, and all of IPv4 is the internet.
        assert_eq!(decide(list, "192.168.0.1:443"), Refused("a private address"));
        assert_eq!(decide(list, "8.8.8.8:80"), Allowed);
        for inside in ["10.0.0.1:80", "127.0.0.1:80", "169.254.169.254:80", "192.168.1.1:80"] {
            assert!(matches!(decide(list, inside), Refused(_)), "{inside}");
        }
        let own = |text: &str| egress(text).decide("1.1.1.1:80".parse().unwrap(), |_| true);
        assert!(matches!(own("1.1.1.1:80"), Refused(_)));
        assert!(matches!(own("public 1.1.1.1:80"), Refused(_)));
    }

    #[test]
    fn metadata_is_meant_only_by_itself() {
        for list in ["169.254.0.0/16:80", "100.64.0.0/10:80", "fc00::/7:80", "fd00:ec2::/32:80"] {
            for metadata in ["169.254.169.254:80", "100.100.100.200:80", "[fd00:ec2::254]:80"] {
                assert!(matches!(decide(list, metadata), Verdict::Refused(_)), "{list} {metadata}");
            }
        }
        assert_eq!(decide("169.254.169.254:80", "169.254.169.254:80"), Verdict::Allowed);
    }

    #[test]
    fn names_are_matched_whole() {
        let list = egress("db.example.com:5432 .example.org:443 .example.org:80");
        let ports = |name: &str| list.ports_of(name).collect::<Vec<_>>();
        assert_eq!(ports("DB.example.com."), [5432]);
        assert_eq!(ports("a.b.Example.org"), [443, 80]);
        for other in ["example.org", "notexample.org", "x.db.example.com", "example.com", "", "."] {
            assert!(ports(other).is_empty() && !list.resolves(other), "{other}");
        }
        assert_eq!(list.names_at(5432).collect::<Vec<_>>(), ["db.example.com"]);
        assert!(egress("public").resolves("any") && !egress("none").resolves("any"));
        assert!(egress("public 10.0.0.0/8:1").resolves("any") && !egress("10.0.0.0/8:1").resolves("any"));
    }

    #[test]
    fn the_most_that_is_allowed() {
        let permits = |most: &str, wanted: &str| egress(most).permits(&egress(wanted));
        for (most, wanted) in [
            ("open", "open"),
            ("open", "169.254.169.254:80"),
            ("public", "public"),
            ("public", "none"),
            ("public", "a.b:1 8.0.0.0/8:80 0.0.0.0/0:80"),
            ("none", "none"),
            ("public 10.0.0.0/8:5432", "public 10.1.0.0/16:5432"),
            ("a.b:1 .c.d:2", "x.c.d:2 a.b:1"),
            (".c.d:2", ".e.c.d:2"),
        ] {
            assert_eq!(permits(most, wanted), Ok(()), "{most} / {wanted}");
        }
        for (most, wanted, beyond) in [
            ("public", "open", "open"),
            ("none", "public", "public"),
            ("none", "a.b:1", "a.b:1"),
            ("a.b:1", "public", "public"),
            ("public", "a.b:1 10.0.0.0/8:5432", "10.0.0.0/8:5432"),
            ("public 10.0.0.0/8:5432", "10.0.0.0/8:5433", "10.0.0.0/8:5433"),
            ("public 10.1.0.0/16:1", "10.0.0.0/8:1", "10.0.0.0/8:1"),
            ("a.b:1", "a.b:2", "a.b:2"),
            (".c.d:2", "c.d:2", "c.d:2"),
            ("public 10.0.0.0/8:1", "open", "open"),
        ] {
            assert_eq!(permits(most, wanted), Err(beyond.to_owned()), "{most} / {wanted}");
        }
    }
}
