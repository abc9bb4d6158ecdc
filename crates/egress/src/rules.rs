//! Which addresses may be dialled.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::EgressError;
use crate::url::{Host, parse_host};

/// The rule that blocked an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// 127/8, `::1`.
    Loopback,
    /// RFC 1918, RFC 6598 shared space, RFC 4193 unique local, old site-local.
    Private,
    /// 169.254/16, `fe80::/10`.
    LinkLocal,
    /// Instance metadata services of clouds, wherever they sit.
    Metadata,
    /// Everything else that is not globally routable (RFC 6890 and later registries).
    Reserved,
    /// Multicast and broadcast; never allowed.
    Multicast,
    /// `0.0.0.0/8` and `::`; never allowed.
    Unspecified,
}

impl Rule {
    /// Stable name for logs and refusals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Reserved => "reserved",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Compiled `egress.private_allow`.
#[derive(Debug, Default)]
pub struct AddressRules {
    nets: Vec<IpNet>,
    names: Vec<String>,
    suffixes: Vec<String>,
}

impl AddressRules {
    /// Compiles entries: `10.0.0.0/8`, `127.0.0.1`, `git.internal`, `*.corp.example`.
    ///
    /// # Errors
    /// [`EgressError::Config`] naming the first entry that is none of these.
    pub fn parse(entries: &[String]) -> Result<Self, EgressError> {
        let mut rules = Self::default();
        for entry in entries {
            let text = entry.trim();
            let bad = || EgressError::Config(format!("private_allow: `{entry}` is not a name, address or network"));
            if let Ok(net) = text.parse::<IpNet>() {
                rules.nets.push(canonical_net(net));
            } else if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
                rules.nets.push(IpNet::from(ip.to_canonical()));
            } else if let Some(suffix) = text.strip_prefix("*.") {
                match parse_host(suffix) {
                    Ok(Host::Name(name)) => rules.suffixes.push(format!(".{name}")),
                    _ => return Err(bad()),
                }
            } else {
                match parse_host(text) {
                    Ok(Host::Name(name)) => rules.names.push(name),
                    _ => return Err(bad()),
                }
            }
        }
        Ok(rules)
    }

    /// Decides about one address of a host.
    ///
    /// Public addresses pass. Listed networks pass. A listed name passes loopback and private
    /// addresses only, so that a name cannot be turned into a metadata service by its DNS.
    /// Metadata addresses need an entry for exactly that address. Multicast and unspecified
    /// addresses never pass.
    ///
    /// # Errors
    /// The [`Rule`] that blocks it.
    pub fn check(&self, host: &Host, ip: IpAddr) -> Result<(), Rule> {
        let ip = effective(ip);
        let Some(rule) = classify(ip) else { return Ok(()) };
        let allowed = match rule {
            Rule::Multicast | Rule::Unspecified => false,
            Rule::Metadata => self.nets.iter().any(|net| net.addr() == ip && net.prefix_len() == net.max_prefix_len()),
            Rule::Loopback | Rule::Private => self.net_listed(ip) || self.name_listed(host),
            Rule::LinkLocal | Rule::Reserved => self.net_listed(ip),
        };
        if allowed { Ok(()) } else { Err(rule) }
    }

    fn net_listed(&self, ip: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&ip))
    }

    fn name_listed(&self, host: &Host) -> bool {
        let Host::Name(name) = host else { return false };
        self.names.iter().any(|listed| listed == name)
            || self.suffixes.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix.as_str()))
    }
}

/// `::ffff:10.0.0.0/104` means `10.0.0.0/8`.
fn canonical_net(net: IpNet) -> IpNet {
    match (net.addr().to_canonical(), net) {
        (IpAddr::V4(v4), IpNet::V6(v6)) if v6.prefix_len() >= 96 => {
            IpNet::new(IpAddr::V4(v4), v6.prefix_len() - 96).unwrap_or(net).trunc()
        }
        _ => net.trunc(),
    }
}

/// The address a packet would end at: IPv4 inside IPv6 is taken out (mapped, and NAT64's
/// well-known prefix), so that a different spelling is not a different rule.
fn effective(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => IpAddr::V4(join(high, low)),
        _ => ip,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

/// The rule an address falls under; `None` for globally routable ones.
fn classify(ip: IpAddr) -> Option<Rule> {
    match ip {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Option<Rule> {
    match ip.octets() {
        // AWS, GCP, Azure, DigitalOcean …; AWS containers and DNS; Alibaba; Oracle; Azure's wire server.
        [169, 254, 169, 254 | 253]
        | [169, 254, 170, 2 | 23]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192]
        | [168, 63, 129, 16] => Some(Rule::Metadata),
        [0, ..] => Some(Rule::Unspecified),
        [127, ..] => Some(Rule::Loopback),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Rule::Private),
        [169, 254, ..] => Some(Rule::LinkLocal),
        [224..=239, ..] | [255, 255, 255, 255] => Some(Rule::Multicast),
        [192, 0, 0 | 2, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 88, 99, _]
        | [192, 175, 48, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Some(Rule::Reserved),
        _ => None,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Option<Rule> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Rule::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Rule::Loopback),
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254]
        | [0xfd20, 0x0ce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => Some(Rule::Metadata),
        [0xff00..=0xffff, ..] => Some(Rule::Multicast),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(Rule::Private),
        [0xfe80..=0xfebf, ..] => Some(Rule::LinkLocal),
        // 2001::/23 (Teredo, benchmarking, ORCHID), documentation, 6to4, 3fff::/20.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Some(Rule::Reserved),
        [0x2000..=0x3fff, ..] => None,
        // Nothing outside 2000::/3 is global unicast.
        _ => Some(Rule::Reserved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(entries: &[&str]) -> AddressRules {
        AddressRules::parse(&entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn verdict(rules: &AddressRules, host: &str, ip: &str) -> Result<(), Rule> {
        rules.check(&parse_host(host).unwrap(), ip.parse().unwrap())
    }

    #[test]
    fn o9_addresses_blocked_by_default() {
        let none = rules(&[]);
        for (ip, rule) in [
            ("127.0.0.1", Rule::Loopback),
            ("127.255.255.254", Rule::Loopback),
            ("0.0.0.0", Rule::Unspecified),
            ("0.1.2.3", Rule::Unspecified),
            ("10.1.2.3", Rule::Private),
            ("172.16.0.1", Rule::Private),
            ("172.31.255.255", Rule::Private),
            ("192.168.1.1", Rule::Private),
            ("100.64.0.1", Rule::Private),
            ("169.254.1.1", Rule::LinkLocal),
            ("169.254.169.254", Rule::Metadata),
            ("169.254.170.2", Rule::Metadata),
            ("100.100.100.200", Rule::Metadata),
            ("192.0.0.192", Rule::Metadata),
            ("168.63.129.16", Rule::Metadata),
            ("192.0.2.1", Rule::Reserved),
            ("198.18.0.1", Rule::Reserved),
            ("198.51.100.7", Rule::Reserved),
            ("203.0.113.7", Rule::Reserved),
            ("192.88.99.1", Rule::Reserved),
            ("240.0.0.1", Rule::Reserved),
            ("224.0.0.1", Rule::Multicast),
            ("255.255.255.255", Rule::Multicast),
            ("::", Rule::Unspecified),
            ("::1", Rule::Loopback),
            ("::ffff:127.0.0.1", Rule::Loopback),
            ("::ffff:a9fe:a9fe", Rule::Metadata),
            ("::127.0.0.1", Rule::Reserved),
            ("64:ff9b::7f00:1", Rule::Loopback),
            ("64:ff9b::a9fe:a9fe", Rule::Metadata),
            ("64:ff9b:1::1", Rule::Reserved),
            ("fe80::1", Rule::LinkLocal),
            ("fc00::1", Rule::Private),
            ("fd00:ec2::254", Rule::Metadata),
            ("fd00:c1::a9fe:a9fe", Rule::Metadata),
            ("fd00:42::42", Rule::Metadata),
            // Their neighbours are ordinary private addresses.
            ("fd00:c1::a9fe:a9ff", Rule::Private),
            ("fd00:42::43", Rule::Private),
            ("fd12:3456::1", Rule::Private),
            ("fec0::1", Rule::Private),
            ("ff02::1", Rule::Multicast),
            ("2001:db8::1", Rule::Reserved),
            ("2001::1", Rule::Reserved),
            ("2002:7f00:1::", Rule::Reserved),
            ("3fff::1", Rule::Reserved),
            ("100::1", Rule::Reserved),
            ("5f00::1", Rule::Reserved),
        ] {
            assert_eq!(verdict(&none, "x.example", ip), Err(rule), "{ip}");
        }
    }

    #[test]
    fn o9_public_addresses_pass() {
        let none = rules(&[]);
        for ip in ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert_eq!(verdict(&none, "x.example", ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn p28_listed_networks_and_names_are_reachable() {
        let some = rules(&["10.0.0.0/8", "127.0.0.1", "git.internal", "*.corp.example", "fd00::/8"]);
        assert_eq!(verdict(&some, "x.example", "10.9.9.9"), Ok(()));
        assert_eq!(verdict(&some, "x.example", "::ffff:10.9.9.9"), Ok(()));
        assert_eq!(verdict(&some, "x.example", "127.0.0.1"), Ok(()));
        assert_eq!(verdict(&some, "x.example", "127.0.0.2"), Err(Rule::Loopback));
        assert_eq!(verdict(&some, "git.internal", "192.168.3.3"), Ok(()));
        assert_eq!(verdict(&some, "a.b.corp.example", "192.168.3.3"), Ok(()));
        assert_eq!(verdict(&some, "GIT.internal", "192.168.3.3"), Ok(()), "names have no case");
        assert_eq!(verdict(&some, "corp.example", "192.168.3.3"), Err(Rule::Private), "the wildcard wants a label");
        assert_eq!(verdict(&some, "evilcorp.example", "192.168.3.3"), Err(Rule::Private));
        assert_eq!(verdict(&some, "x.example", "fd77::1"), Ok(()));
    }

    #[test]
    fn o9_a_listed_name_does_not_open_metadata_or_link_local() {
        let some = rules(&["git.internal", "169.254.0.0/16", "0.0.0.0/0", "fd00::/8"]);
        assert_eq!(verdict(&rules(&["git.internal"]), "git.internal", "169.254.9.9"), Err(Rule::LinkLocal));
        assert_eq!(verdict(&some, "git.internal", "169.254.169.254"), Err(Rule::Metadata));
        for address in ["fd00:ec2::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"] {
            let network = format!("{address}/128");
            for entry in ["fd00::/8", "::/0", "git.internal"] {
                assert_eq!(
                    verdict(&rules(&[entry]), "git.internal", address),
                    Err(Rule::Metadata),
                    "{address} {entry}"
                );
            }
            // Only the address itself, alone or as a network of one, opens it.
            for entry in [address, &network] {
                assert_eq!(verdict(&rules(&[entry]), "m.example", address), Ok(()), "{entry}");
            }
        }
        assert_eq!(verdict(&some, "git.internal", "0.0.0.0"), Err(Rule::Unspecified));
        assert_eq!(verdict(&some, "git.internal", "224.0.0.1"), Err(Rule::Multicast));
        assert_eq!(verdict(&rules(&["169.254.169.254"]), "m.example", "169.254.169.254"), Ok(()));
    }

    #[test]
    fn o9_bad_entries_are_named() {
        for bad in ["", "10.0.0.0/33", "a b", "http://x", "*.", "*", "x/8", "1.2.3", "0x7f.1"] {
            let error = AddressRules::parse(&[bad.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }
}
