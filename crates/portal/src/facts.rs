//! What the connection proves about a client beside its credential (A3): which device it
//! is and in which country. A header says it only when a trusted proxy sent it.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_config::settings::File;
use bartizan_tls::DeviceCertificate;
use http::HeaderMap;
use http::header::HeaderName;
use ipnet::IpNet;

use crate::admit::is_trusted;
use crate::geo::Countries;
use crate::settings::SettingsError;

/// Longest identity of a device, bytes.
const MAX_DEVICE: usize = 256;

/// Where a client's device and country come from.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFacts {
    trusted: Vec<IpNet>,
    device_header: Option<HeaderName>,
    country_header: Option<HeaderName>,
    pub(crate) countries: Option<Countries>,
}

impl ConnectionFacts {
    /// From the configuration, without the file of countries.
    ///
    /// # Errors
    /// [`SettingsError::Header`] for a name that no header can have.
    pub(crate) fn new(file: &File) -> Result<Self, SettingsError> {
        let name = |given: &Option<String>| {
            let parse = |text: &String| text.parse().map_err(|_| SettingsError::Header(text.clone()));
            given.as_ref().map(parse).transpose()
        };
        Ok(Self {
            trusted: file.trusted_proxies.clone(),
            device_header: name(&file.device_header)?,
            country_header: name(&file.country_header)?,
            countries: None,
        })
    }

    /// The device. Behind a trusted proxy it is what the proxy says, and never the proxy's own certificate; otherwise
    /// what the certificate of the connection says, and never a header. `passed` is what another process of the
    /// installation saw of such a certificate.
    pub(crate) fn device(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        certificate: Option<&DeviceCertificate>,
        passed: Option<Arc<str>>,
        now_ms: i64,
    ) -> Option<Arc<str>> {
        if !is_trusted(peer.to_canonical(), &self.trusted) {
            return certificate.and_then(|certificate| certificate.device(now_ms).cloned()).or(passed);
        }
        let said = single(headers, self.device_header.as_ref()?)?;
        let plain = (1..=MAX_DEVICE).contains(&said.len()) && said.bytes().all(|b| (0x20..0x7f).contains(&b));
        plain.then(|| said.into())
    }

    /// The country: what a trusted proxy says, else where the file of countries has the client's address.
    pub(crate) fn country(&self, peer: IpAddr, client: IpAddr, headers: &HeaderMap) -> Option<Arc<str>> {
        if let Some(name) = &self.country_header
            && is_trusted(peer.to_canonical(), &self.trusted)
            && let Some(country) = single(headers, name).and_then(country_code)
        {
            return Some(country);
        }
        self.countries.as_ref()?.country(client)
    }
}

/// The only value of a header. Several are nobody's word: a client's own may be among them.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => only.to_str().ok().map(str::trim),
        _ => None,
    }
}

/// An ISO 3166-1 alpha-2 code in upper case. `XX` means that it is not known.
pub(crate) fn country_code(text: &str) -> Option<Arc<str>> {
    let code = text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic()) && !text.eq_ignore_ascii_case("XX");
    code.then(|| text.to_ascii_uppercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn facts(trusted: &[&str]) -> ConnectionFacts {
        ConnectionFacts::new(&File {
            trusted_proxies: trusted.iter().map(|net| net.parse().unwrap()).collect(),
            device_header: Some("X-Device".into()),
            country_header: Some("CF-IPCountry".into()),
            ..File::default()
        })
        .unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a3_header_from_an_untrusted_proxy_is_ignored() {
        let said = headers(&[("x-device", "managed"), ("cf-ipcountry", "de")]);
        let facts = facts(&["10.0.0.0/8"]);
        assert_eq!(facts.device(PROXY, &said, None, None, 0).as_deref(), Some("managed"));
        assert_eq!(facts.country(PROXY, CLIENT, &said).as_deref(), Some("DE"));
        assert_eq!(facts.device(CLIENT, &said, None, None, 0), None);
        assert_eq!(facts.country(CLIENT, CLIENT, &said), None);
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(facts.device(mapped, &said, None, None, 0).as_deref(), Some("managed"), "the same proxy");
    }

    /// The attack of the test above succeeds as soon as the list of proxies lets everybody in.
    #[test]
    fn a3_sabotage_trusting_everybody_believes_the_header() {
        let said = headers(&[("x-device", "managed"), ("cf-ipcountry", "de")]);
        let facts = facts(&["0.0.0.0/0"]);
        assert_eq!(facts.device(CLIENT, &said, None, None, 0).as_deref(), Some("managed"));
        assert_eq!(facts.country(CLIENT, CLIENT, &said).as_deref(), Some("DE"));
    }

    #[test]
    fn a3_ambiguous_and_malformed_headers_say_nothing() {
        let facts = facts(&["10.0.0.0/8"]);
        for bad in [&[("x-device", "mine"), ("x-device", "managed")][..], &[("x-device", "")], &[]] {
            assert_eq!(facts.device(PROXY, &headers(bad), None, None, 0), None, "{bad:?}");
        }
        let long = "x".repeat(MAX_DEVICE + 1);
        assert_eq!(facts.device(PROXY, &headers(&[("x-device", &long)]), None, None, 0), None);
        for bad in ["", "D", "DEU", "T1", "XX", "xx", "d\u{e9}", "D E"] {
            let Ok(value) = bad.parse::<http::HeaderValue>() else { continue };
            let mut map = HeaderMap::new();
            map.insert("cf-ipcountry", value);
            assert_eq!(facts.country(PROXY, CLIENT, &map), None, "{bad}");
        }
        assert!(ConnectionFacts::new(&File { device_header: Some("a b".into()), ..File::default() }).is_err());
    }
}
