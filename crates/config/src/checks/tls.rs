//! Checks of TLS, device and country facts, and the replica listener (O8, A3, O17).

use crate::checks::is_host;
use crate::diagnostic::Diagnostic;
use crate::settings::File;

/// Longest name of a device, bytes.
const MAX_DEVICE: usize = 256;

pub(super) fn run(file: &File, found: &mut Vec<Diagnostic>) {
    if let (Some(_), Some(url)) = (&file.tls, &file.public_url)
        && url.starts_with("http://")
    {
        let message = "the listener speaks TLS, the public URL begins with `http://`";
        found.push(Diagnostic::new("public_url", "bad_url", message).suggest("write `https://`"));
    }
    if file.client_ca.is_some() && file.tls.is_none() {
        let message = "client certificates are only shown where the listener speaks TLS";
        found.push(Diagnostic::new("client_ca", "needs_tls", message).suggest("set `tls`, or remove `client_ca`"));
    }
    for (name, header) in [("device_header", &file.device_header), ("country_header", &file.country_header)] {
        let Some(header) = header else { continue };
        if !is_header(header) {
            let message = format!("`{}` is not the name of a header", header.chars().take(60).collect::<String>());
            found.push(Diagnostic::new(name, "bad_header", message).suggest("write e.g. `X-Device-Id`"));
        }
        if file.trusted_proxies.is_empty() {
            let message = format!("`{name}` is only believed from `trusted_proxies`, and there are none");
            found.push(Diagnostic::new(name, "no_trusted_proxy", message).suggest("list the proxy's address"));
        }
    }
    for (from, to) in &file.device_names {
        if to.is_empty() || to.len() > MAX_DEVICE || to.chars().any(char::is_control) {
            let message = "the name of a device is empty, too long or has control characters";
            found.push(Diagnostic::new(format!("device_names.{from}"), "bad_device", message));
        }
    }
    cluster(file, found);
}

fn cluster(file: &File, found: &mut Vec<Diagnostic>) {
    let Some(cluster) = &file.cluster else { return };
    let port = cluster.advertise.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if !is_host(&cluster.advertise) || port.is_none() {
        let message = "the address for the other processes is not of the form `host:port`";
        found.push(Diagnostic::new("cluster.advertise", "bad_host", message).suggest("write e.g. `10.0.0.5:7423`"));
    }
    let same = |other: std::net::SocketAddr| {
        cluster.listen.port() != 0
            && cluster.listen.port() == other.port()
            && (cluster.listen.ip() == other.ip()
                || cluster.listen.ip().is_unspecified()
                || other.ip().is_unspecified())
    };
    if file.listen.is_some_and(same) || same(file.operations.listen) {
        let message = "the listener for other processes would share another listener's port";
        found.push(Diagnostic::new("cluster.listen", "same_listener", message).suggest("choose another port"));
    }
    if file.store.url.as_deref().is_none_or(|url| url.starts_with("sqlite:")) {
        let message = "several processes need a database that they share";
        found.push(Diagnostic::new("cluster", "needs_postgres", message).suggest("set `store.url` to `postgres://…`"));
    }
}

/// A token of RFC 9110 section 5.6.2.
fn is_header(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Cluster, Tls};

    fn codes(file: &File) -> Vec<String> {
        let mut found = Vec::new();
        run(file, &mut found);
        found.into_iter().map(|found| format!("{} {}", found.path, found.code)).collect()
    }

    #[test]
    fn o8_tls_settings_that_cannot_work_are_named() {
        assert!(codes(&File::default()).is_empty());
        let file = File { tls: Some(Tls::Internal), public_url: Some("http://a.example".into()), ..File::default() };
        assert_eq!(codes(&file), ["public_url bad_url"]);
        let file = File { client_ca: Some("ca.pem".into()), ..File::default() };
        assert_eq!(codes(&file), ["client_ca needs_tls"]);
        let file =
            File { device_header: Some("X Device".into()), country_header: Some("cc".into()), ..File::default() };
        let wrong = codes(&file);
        assert!(wrong.contains(&"device_header bad_header".to_owned()), "{wrong:?}");
        assert!(wrong.contains(&"country_header no_trusted_proxy".to_owned()), "{wrong:?}");
    }

    #[test]
    fn o17_a_cluster_needs_a_shared_database_and_a_port_of_its_own() {
        let cluster = |listen: &str, advertise: &str| Cluster {
            listen: listen.parse().unwrap(),
            advertise: advertise.to_owned(),
        };
        let mut file = File { cluster: Some(cluster("127.0.0.1:1", "a.example:1")), ..File::default() };
        assert_eq!(codes(&file), ["cluster needs_postgres"]);
        file.store.url = Some("postgres://h/d".into());
        assert!(codes(&file).is_empty());
        for (listen, advertise, code) in [
            ("0.0.0.0:7421", "a:1", "cluster.listen same_listener"),
            ("127.0.0.1:1", "a", "cluster.advertise bad_host"),
            ("127.0.0.1:1", "https://a:1", "cluster.advertise bad_host"),
            ("127.0.0.1:1", ":1", "cluster.advertise bad_host"),
        ] {
            file.cluster = Some(cluster(listen, advertise));
            assert_eq!(codes(&file), [code]);
        }
    }
}
