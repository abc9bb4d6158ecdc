//! A writer of tiny MaxMind DB files: format 2.0, IPv6 tree, 24-bit records.

use std::net::IpAddr;

/// A database in which networks (`192.0.2.0/24`, `2001:db8::/32`) have countries.
///
/// # Panics
/// When a network cannot be parsed.
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a mistake in the test itself")]
pub fn countries(networks: &[(&str, &str)]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    // Each node: two records; None is "not found".
    let mut nodes: Vec<[Record; 2]> = vec![[Record::Nothing; 2]];
    for (network, code) in networks {
        let (address, length) = network.split_once('/').unwrap();
        let (bits, length) = match address.parse::<IpAddr>().unwrap() {
            // IPv4 addresses are in ::/96.
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 96 + length.parse::<u32>().unwrap()),
            IpAddr::V6(v6) => (u128::from(v6), length.parse::<u32>().unwrap()),
        };
        let at = data.len();
        let mut inner = map(1);
        inner.extend(text("iso_code"));
        inner.extend(text(code));
        data.extend(map(1));
        data.extend(text("country"));
        data.extend(inner);
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from((bits >> (127 - depth)) & 1 == 1);
            if depth + 1 == length {
                nodes[node][side] = Record::Data(at);
            } else if let Record::Node(next) = nodes[node][side] {
                node = next;
            } else {
                nodes.push([Record::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[node][side] = Record::Node(next);
                node = next;
            }
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match record {
            Record::Nothing => count,
            Record::Node(node) => *node,
            Record::Data(at) => count + 16 + at,
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(map(9));
    for (name, value) in [
        ("binary_format_major_version", uint(5, 2)),
        ("binary_format_minor_version", uint(5, 0)),
        ("build_epoch", extended(2, &1_700_000_000_u64.to_be_bytes())),
        ("database_type", text("Test-Country")),
        ("description", [map(1), text("en"), text("test")].concat()),
        ("ip_version", uint(5, 6)),
        ("languages", vec![0x01, 0x04, 0x42, b'e', b'n']),
        ("node_count", [vec![0xc4], u32::try_from(count).unwrap().to_be_bytes().to_vec()].concat()),
        ("record_size", uint(5, 24)),
    ] {
        file.extend(text(name));
        file.extend(value);
    }
    file
}

#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

fn map(entries: u8) -> Vec<u8> {
    vec![(7 << 5) | entries]
}

/// At most 28 bytes.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![(2 << 5) | u8::try_from(text.len()).unwrap_or(28).min(28)];
    bytes.extend(text.bytes());
    bytes
}

/// One byte of an unsigned number of a basic type.
fn uint(kind: u8, value: u8) -> Vec<u8> {
    vec![(kind << 5) | 1, value]
}

/// A type beyond 7: its number minus 7 follows the control byte.
fn extended(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(bytes.len()).unwrap_or(0), kind];
    out.extend(bytes);
    out
}
