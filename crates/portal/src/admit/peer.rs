//! The client's address behind trusted proxies (O10).

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The address of the client: the peer's, or when the peer is a trusted proxy, the
/// last entry of `X-Forwarded-For` that is not itself a trusted proxy. An entry that
/// is not an address ends the search at the last address that could be read.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut address = peer.to_canonical();
    if !is_trusted(address, trusted) {
        return address;
    }
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(text) = value.to_str() else { return address };
        for entry in text.rsplit(',') {
            let Some(found) = parse(entry.trim()) else { return address };
            address = found;
            if !is_trusted(address, trusted) {
                return address;
            }
        }
    }
    address
}

pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn parse(entry: &str) -> Option<IpAddr> {
    let plain = entry.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    plain.or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn from(peer: &str, values: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn o10_forwarded_addresses_count_only_from_trusted_peers() {
        let proxies = &["10.0.0.0/8", "::1/128"];
        assert_eq!(from("192.0.2.9", &["198.51.100.1"], proxies), "192.0.2.9");
        assert_eq!(from("10.0.0.1", &["198.51.100.1"], proxies), "198.51.100.1");
        assert_eq!(from("::ffff:10.0.0.1", &["198.51.100.1"], proxies), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &[], proxies), "10.0.0.1");
        // Only what trusted proxies added counts; the client's own entry is further left.
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"], proxies), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.2"], proxies), "198.51.100.1");
        assert_eq!(from("::1", &["[2001:db8::1]:443"], proxies), "2001:db8::1");
        assert_eq!(from("10.0.0.1", &["198.51.100.1:1234"], proxies), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["unknown"], proxies), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["9.9.9.9, bogus, 10.0.0.7"], proxies), "10.0.0.7");
        assert_eq!(from("10.0.0.1", &["198.51.100.1"], &[]), "10.0.0.1");
    }
}
