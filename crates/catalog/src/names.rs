//! Exposed names (feature rows P12, P13): one table per portal, resolved by lookup,
//! never by splitting.

use std::collections::HashSet;
use std::sync::Arc;

use bartizan_config::resources::Prefix;
use bartizan_model::ServerId;

use crate::digest::sha256_hex;

/// Names of the portal's own tools; no server's tool gets one of them.
pub const RESERVED_NAMES: &[&str] = &[
    "portal_list_servers",
    "portal_toggle_servers",
    "portal_toggle_single_server",
    "portal_request_server",
    "portal_explain",
    "portal_next_page",
];

/// Hex digits of the hash in a changed name.
const DIGITS: usize = 8;

/// Lower-case hex of SHA-256 over server id, NUL and original name.
pub fn name_digest(server: &ServerId, original: &str) -> String {
    sha256_hex(&[server.as_str().as_bytes(), b"\0", original.as_bytes()], 32)
}

/// The exposed name of a tool or prompt that clashes with no other.
///
/// `{server}_{original}`, or the original with `prefix: never`; when that has more than
/// `max` characters, its first `max` − 9 and `_` and eight hex digits of [`name_digest`].
pub fn exposed_name(server: &ServerId, original: &str, prefix: Prefix, max: usize) -> String {
    let plain = plain(server, original, prefix);
    if plain.chars().count() <= max { plain } else { hashed(&plain, &name_digest(server, original), DIGITS, max) }
}

fn plain(server: &ServerId, shown: &str, prefix: Prefix) -> String {
    match prefix {
        Prefix::Always => [server.as_str(), "_", shown].concat(),
        Prefix::Never => shown.to_owned(),
    }
}

/// As much of the name as fits before `_` and some digits of the hash.
fn hashed(plain: &str, digest: &str, digits: usize, max: usize) -> String {
    let room = max.saturating_sub(digits + 1);
    let hash = digest.get(..digits).unwrap_or(digest);
    plain.chars().take(room).chain(['_']).chain(hash.chars()).collect()
}

/// A name given to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: Arc<str>,
    /// The name was shortened or got a hash, so it says less than the original.
    pub(crate) changed: bool,
    /// Another entry had the name already.
    pub(crate) clash: bool,
}

/// Gives names, in the order of creation, so that whoever was first keeps the plain name.
pub(crate) struct Namer {
    used: HashSet<Arc<str>>,
    prefix: Prefix,
    max: usize,
}

impl Namer {
    pub(crate) fn new(prefix: Prefix, max: usize, reserved: &[&str]) -> Self {
        Self { used: reserved.iter().map(|name| Arc::from(*name)).collect(), prefix, max }
    }

    /// The name of one entry. `None` only when even long hashes clash.
    pub(crate) fn give(&mut self, server: &ServerId, original: &str, alias: Option<&str>) -> Option<Given> {
        let plain = plain(server, alias.unwrap_or(original), self.prefix);
        let fits = plain.chars().count() <= self.max;
        if fits && !self.used.contains(plain.as_str()) {
            return Some(self.take(plain, false, false));
        }
        let digest = name_digest(server, original);
        for digits in [DIGITS, 2 * DIGITS, 3 * DIGITS] {
            let name = hashed(&plain, &digest, digits, self.max);
            if !self.used.contains(name.as_str()) {
                return Some(self.take(name, true, fits || digits > DIGITS));
            }
        }
        None
    }

    fn take(&mut self, name: String, changed: bool, clash: bool) -> Given {
        let name: Arc<str> = name.into();
        self.used.insert(Arc::clone(&name));
        Given { name, changed, clash }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ServerId {
        ServerId::parse(text).unwrap()
    }

    #[test]
    fn p12_equal_names_get_a_suffix() {
        let mut namer = Namer::new(Prefix::Always, 64, RESERVED_NAMES);
        let first = namer.give(&id("a"), "b_c", None).unwrap();
        let second = namer.give(&id("a_b"), "c", None).unwrap();
        assert_eq!((&*first.name, first.changed, first.clash), ("a_b_c", false, false));
        assert_eq!((&*second.name, second.clash), ("a_b_c_0c1d18f5", true));
    }

    #[test]
    fn p12_the_digest_is_that_of_the_contract() {
        // As `printf 'a_b\0c' | sha256sum` prints it.
        assert_eq!(name_digest(&id("a_b"), "c"), "0c1d18f5e74d278699801b6ec3dc70c50d0b39f72be0181a2c55b9b6822e1529");
    }

    #[test]
    fn p12_names_of_the_portal_itself_are_never_given() {
        let mut namer = Namer::new(Prefix::Always, 64, RESERVED_NAMES);
        let given = namer.give(&id("portal"), "list_servers", None).unwrap();
        assert!(given.name.starts_with("portal_list_servers_") && given.clash);
        let mut bare = Namer::new(Prefix::Never, 64, RESERVED_NAMES);
        assert_ne!(&*bare.give(&id("x"), "portal_explain", None).unwrap().name, "portal_explain");
    }

    #[test]
    fn p12_a_squatted_suffix_is_passed_by() {
        let (early, late) = (id("a"), id("a_b"));
        let digest = name_digest(&late, "c");
        let squat = format!("b_c_{}", &digest[..8]);
        let mut namer = Namer::new(Prefix::Always, 64, &[]);
        namer.give(&early, "b_c", None).unwrap();
        namer.give(&early, &squat, None).unwrap();
        let given = namer.give(&late, "c", None).unwrap();
        assert_eq!(&*given.name, format!("a_b_c_{}", &digest[..16]));
    }

    #[test]
    fn p13_over_long_names_are_cut_and_hashed() {
        let original = "x".repeat(80);
        let name = exposed_name(&id("srv"), &original, Prefix::Always, 64);
        assert_eq!(name, format!("srv_{}_{}", "x".repeat(51), &name_digest(&id("srv"), &original)[..8]));
        assert_eq!(name.chars().count(), 64);
        assert_eq!(exposed_name(&id("srv"), &"x".repeat(60), Prefix::Always, 64).len(), 64);
        assert_eq!(exposed_name(&id("srv"), &"é".repeat(80), Prefix::Always, 64).chars().count(), 64);
        for max in [32, 64, 128] {
            assert_eq!(exposed_name(&id("srv"), &"y".repeat(300), Prefix::Never, max).chars().count(), max);
        }
    }

    /// Names as servers have them: shared stems, long tails, differences at the end.
    fn generated() -> Vec<(ServerId, String)> {
        let servers = ["a", "a_b", "a_b_c", "github", "git-hub", "x".repeat(32).as_str()].map(id);
        (0..10_000_usize)
            .map(|n| {
                let server = servers[n % servers.len()].clone();
                let stem = ["b_c_d_", "get_", "list_all_of_the_things_in_the_repository_", ""][n / 7 % 4];
                (server, format!("{stem}{}{}", "very_long_".repeat(n % 13), n / 3))
            })
            .collect()
    }

    #[test]
    fn p13_ten_thousand_names_do_not_clash_and_are_stable() {
        for max in [32, 64, 128] {
            let run = || {
                let mut namer = Namer::new(Prefix::Always, max, RESERVED_NAMES);
                let mut seen: HashSet<(ServerId, String)> = HashSet::new();
                let mut table = HashMap::new();
                for (server, original) in generated() {
                    if seen.insert((server.clone(), original.clone())) {
                        let given = namer.give(&server, &original, None).unwrap();
                        assert!(given.name.chars().count() <= max, "{}", given.name);
                        assert!(table.insert(given.name, (server, original)).is_none());
                    }
                }
                table
            };
            let (first, second) = (run(), run());
            assert!(first.len() > 9_000, "{}", first.len());
            assert_eq!(first, second);
        }
    }

    proptest! {
        #[test]
        fn p12_every_entry_is_reachable_under_its_own_name(
            entries in proptest::collection::hash_set(
                ("[ab_]{1,3}(-[ab_]{1,2})?", "[abc_]{1,4}|[a_]{60,70}"), 1..60),
            never in any::<bool>(),
            max in 32_usize..=128,
        ) {
            let prefix = if never { Prefix::Never } else { Prefix::Always };
            let mut namer = Namer::new(prefix, max, RESERVED_NAMES);
            let mut table = HashMap::new();
            for (server, original) in &entries {
                let given = namer.give(&id(server), original, None).unwrap();
                prop_assert!(given.name.chars().count() <= max);
                prop_assert!(table.insert(given.name, (server, original)).is_none());
            }
            prop_assert_eq!(table.len(), entries.len());
        }
    }
}
