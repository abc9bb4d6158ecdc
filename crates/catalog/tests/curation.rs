//! Aliases, descriptions, and what portals show of their servers (rows P2, P42).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::{BTreeMap, HashSet};

use bartizan_catalog::{Kind, Report, ServerLists, Snapshot, View, uri};
use bartizan_model::{PortalId, Principal, PrincipalKind};
use bartizan_wire::RawJson;
use common::{compile, context, everyone, findings, id, lists, names, portal_view, raw, server, tools, user};
use proptest::prelude::*;
use serde_json::{Value, json};

fn shown(raw: &RawJson) -> Value {
    serde_json::from_str(raw.as_str()).unwrap()
}

fn portal(id: &str, more: Value) -> Value {
    let mut value = json!({"id": id, "policies": everyone()});
    for (key, member) in more.as_object().unwrap() {
        value[key] = member.clone();
    }
    value
}

fn read(names: &[&str]) -> Value {
    json!({"classes": {"read": names}})
}

fn prompts(names: &[&str]) -> ServerLists {
    let items = names.iter().map(|name| RawJson::from(&json!({"name": name, "description": "d"})));
    ServerLists::parse(Kind::Prompts, items)
}

fn resources(uris: &[&str]) -> ServerLists {
    let items = uris.iter().map(|uri| RawJson::from(&json!({"uri": uri, "name": "n"})));
    ServerLists::parse(Kind::Resources, items)
}

fn spec_portal<'a>(snapshot: &'a Snapshot, name: &str) -> &'a bartizan_catalog::PortalSpec {
    &snapshot.portals[&PortalId::parse(name).unwrap()]
}

/// Name and description by original name, of tools and of prompts.
fn faces(view: &View) -> [BTreeMap<String, (String, String)>; 2] {
    let face = |raw: &RawJson, original: &str| {
        let value = shown(raw);
        assert_eq!(value["_meta"]["bartizan/origin"]["name"], original);
        let text = |member: &str| value[member].as_str().unwrap().to_owned();
        (original.to_owned(), (text("name"), text("description")))
    };
    [
        view.tools.iter().map(|tool| face(&tool.rendered, &tool.def.name)).collect(),
        view.prompts.iter().map(|prompt| face(&prompt.rendered, &prompt.def.name)).collect(),
    ]
}

const NAMES: [&str; 6] = ["get", "put", "list", "find", "drop", "move"];

/// What is said of one entry: alias and description at the server, and at the portal.
type Said = (Option<bool>, Option<bool>, Option<bool>, Option<bool>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every mixture of the four words on six entries, for tools and prompts; a portal without
    /// words of its own shows the server's.
    #[test]
    fn p42_the_portals_word_goes_before_the_servers_and_that_before_the_original(
        said in proptest::collection::vec(any::<Said>(), NAMES.len()),
    ) {
        let member = |on: Option<bool>, text: String| on.is_some().then_some(text);
        let (mut at_server, mut at_portal, mut wanted, mut plain) = (vec![], vec![], BTreeMap::new(), BTreeMap::new());
        for (name, (alias, text, own_alias, own_text)) in NAMES.into_iter().zip(said) {
            let alias = member(alias, format!("s-{name}"));
            let text = member(text, format!("server says {name}"));
            let own_alias = member(own_alias, format!("p-{name}"));
            let own_text = member(own_text, format!("portal says {name}"));
            at_server.push(json!({"name": name, "alias": alias, "description": text}));
            if own_alias.is_some() || own_text.is_some() {
                at_portal.push(json!({"server": "s", "name": name, "alias": own_alias, "description": own_text}));
            }
            let face = |alias: Option<&String>, text: Option<&String>| {
                (format!("s_{}", alias.map_or(name, String::as_str)), text.map_or("d", String::as_str).to_owned())
            };
            plain.insert(name.to_owned(), face(alias.as_ref(), text.as_ref()));
            let (alias, text) = (own_alias.as_ref().or(alias.as_ref()), own_text.as_ref().or(text.as_ref()));
            wanted.insert(name.to_owned(), face(alias, text));
        }
        let snapshot = compile(json!({
            "servers": [server("s", json!({
                "classes": {"read": NAMES}, "updated_tools": at_server, "updated_prompts": at_server,
            }))],
            "portals": [
                portal("own", json!({"updated_tools": at_portal, "updated_prompts": at_portal})),
                portal("plain", json!({})),
            ],
        }));
        let lists = lists(&snapshot, vec![("s", tools(&NAMES)), ("s", prompts(&NAMES))]);
        for (portal, wanted) in [("own", &wanted), ("plain", &plain)] {
            let view = portal_view(&snapshot, portal, &user("ann", &[]), &lists);
            let [tools, prompts] = faces(&view);
            prop_assert_eq!(&tools, wanted);
            prop_assert_eq!(&prompts, wanted);
            prop_assert!(view.reports.is_empty());
            for tool in &view.tools {
                prop_assert_eq!(&view.tool(&tool.exposed).unwrap().def.name, &tool.def.name);
            }
        }
    }

    /// Aliases drawn from few words, so that they meet each other and originals: what passes the
    /// checks is unique among aliases and the originals that are named, and what does not is told
    /// at an alias or name. In every view each exposed name leads to one entry, whatever the
    /// server lists.
    #[test]
    fn p42_aliases_are_unique_among_aliases_and_originals(
        server_aliases in proptest::collection::vec(proptest::option::of(0..8_usize), 4),
        portal_aliases in proptest::collection::vec(proptest::option::of(proptest::option::of(0..8_usize)), 4),
        offered in proptest::sample::subsequence((0..8_usize).collect::<Vec<_>>(), 0..8),
        off in 0..8_usize,
    ) {
        let word = |at: usize| format!("w{at}");
        let at_server: Vec<_> = server_aliases.iter().enumerate()
            .map(|(at, alias)| json!({"name": word(at), "alias": alias.map(word), "enabled": at != off})).collect();
        let at_portal: Vec<_> = portal_aliases.iter().enumerate()
            .filter_map(|(at, alias)| {
                alias.map(|alias| json!({"server": "s", "name": word(at + 2), "alias": alias.map(word)}))
            }).collect();
        let all: Vec<_> = (0..8).map(word).collect();
        let value = json!({
            "servers": [server("s", json!({"classes": {"read": all}, "updated_tools": at_server}))],
            "portals": [portal("p", json!({"updated_tools": at_portal}))],
        });
        let originals: HashSet<String> =
            (0..4).map(word).chain(at_portal.iter().map(|entry| entry["name"].as_str().unwrap().to_owned())).collect();
        let unique = |aliases: &[(String, String)], originals: &HashSet<String>| {
            let texts: HashSet<_> = aliases.iter().map(|(_, alias)| alias).collect();
            texts.len() == aliases.len()
                && aliases.iter().all(|(name, alias)| name == alias || !originals.contains(alias))
        };
        let alias_at = |at: usize| {
            let own = at.checked_sub(2).and_then(|at| portal_aliases.get(at).copied().flatten().flatten());
            own.or_else(|| server_aliases.get(at).copied().flatten())
        };
        let servers: Vec<_> =
            server_aliases.iter().enumerate().filter_map(|(at, alias)| Some((word(at), word((*alias)?)))).collect();
        let effective: Vec<_> = (0..8).filter_map(|at| Some((word(at), word(alias_at(at)?)))).collect();
        let good = unique(&servers, &(0..4).map(word).collect()) && unique(&effective, &originals);
        let found = findings(value.clone());
        prop_assert_eq!(found.is_empty(), good, "{:?} {}", found, value);
        for finding in &found {
            prop_assert_eq!(finding.code, "duplicate_alias");
            prop_assert!(finding.path.ends_with(".alias") || finding.path.ends_with(".name"));
        }
        if !good {
            return Ok(());
        }
        let snapshot = compile(value);
        let offered: Vec<_> = offered.into_iter().map(word).collect();
        let offered_names: Vec<&str> = offered.iter().map(String::as_str).collect();
        let lists = lists(&snapshot, vec![("s", tools(&offered_names))]);
        let view = portal_view(&snapshot, "p", &user("ann", &[]), &lists);
        let on = offered.iter().filter(|name| **name != word(off) || off >= 4).count();
        prop_assert_eq!(view.tools.len(), on);
        for tool in &view.tools {
            // Nobody answers to the name of something else that the server has, on or off.
            let name = tool.exposed.strip_prefix("s_").unwrap();
            prop_assert!(name == &*tool.def.name || !offered_names.contains(&name));
            prop_assert_eq!(&view.tool(&tool.exposed).unwrap().def.name, &tool.def.name);
        }
    }

    /// Names are the server's to choose: nothing it calls an entry leads a word to another entry,
    /// or out of its member.
    #[test]
    fn p42_hostile_names_keep_to_themselves(names in proptest::collection::hash_set("\\PC{1,12}|[a-z\"\\\\{}\u{0}\n]{1,6}", 1..6)) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let snapshot = compile(json!({
            "servers": [server("s", json!({
                "classes": {"read": names},
                "updated_tools": [{"name": names[0], "alias": "safe-alias", "description": "}],\"name\":\"x\""}],
            }))],
        }));
        let lists = lists(&snapshot, vec![("s", tools(&names))]);
        let view = portal_view(&snapshot, "default", &user("ann", &[]), &lists);
        for tool in &view.tools {
            let value = shown(&tool.rendered);
            let mine = &*tool.def.name == names[0];
            prop_assert_eq!(&value["name"], &*tool.exposed);
            prop_assert_eq!(&value["_meta"]["bartizan/origin"]["name"], &*tool.def.name);
            prop_assert_eq!(&value["description"], if mine { "}],\"name\":\"x\"" } else { "d" });
            prop_assert_eq!(&*tool.exposed == "s_safe-alias", mine);
        }
    }
}

#[test]
fn p42_an_alias_takes_no_name_of_a_tool_that_is_off() {
    let snapshot = compile(json!({
        "servers": [server("s", read(&["get", "admin"]))],
        "portals": [portal("p", json!({"updated_tools": [
            {"server": "s", "name": "get", "alias": "admin2"},
            {"server": "s", "name": "other", "alias": "hidden"},
        ]}))],
    }));
    let all = lists(&snapshot, vec![("s", tools(&["get"]))]);
    assert_eq!(names(&portal_view(&snapshot, "p", &user("ann", &[]), &all)), ["s_admin2"]);
    let off = compile(json!({
        "servers": [server("s", json!({
            "classes": {"read": ["get"]}, "default_disabled": true, "updated_tools": [{"name": "get", "alias": "wipe"}],
        }))],
    }));
    let all = lists(&off, vec![("s", tools(&["wipe", "get"]))]);
    let view = portal_view(&off, "default", &user("ann", &[]), &all);
    assert_eq!(names(&view), ["s_get"]);
    assert!(matches!(&view.reports[..], [Report::AliasTaken { .. }]));
}

#[test]
fn p42_a_description_is_rendered_and_changes_no_pin() {
    let text = r#"{ "description":"theirs", "name":"t" ,"inputSchema":{"type":"object"},"zz":1.0}"#;
    let bare = r#"{"name":"u"}"#;
    let with = |words: Value| {
        compile(json!({"servers": [server("s", json!({"classes": {"read": ["t", "u"]}, "updated_tools": words}))]}))
    };
    let offered = || ServerLists::parse(Kind::Tools, [raw(text), raw(bare)]);
    let plain = with(json!([]));
    let ours = with(json!([
        {"name": "t", "description": "ours \"quoted\"\n", "alias": "other"}, {"name": "u", "description": "new"},
    ]));
    let (before, after) = (lists(&plain, vec![("s", offered())]), lists(&ours, vec![("s", offered())]));
    let before = portal_view(&plain, "default", &user("ann", &[]), &before);
    let view = portal_view(&ours, "default", &user("ann", &[]), &after);
    assert_eq!(shown(&before.tools[0].rendered)["description"], "theirs");
    assert_eq!(
        view.tools[0].rendered.as_str(),
        r#"{ "description":"ours \"quoted\"\n", "name":"s_other" ,"inputSchema":{"type":"object"},"zz":1.0,"_meta":{"bartizan/origin":{"server":"s","name":"t"}}}"#
    );
    assert_eq!(shown(&view.tools[1].rendered)["description"], "new");
    for (one, other) in before.tools.iter().zip(&view.tools) {
        // What is reviewed is what the server said.
        assert_eq!((one.def.pin(), one.def.raw().as_str()), (other.def.pin(), other.def.raw().as_str()));
    }
    // One list, kept for everybody, has each portal's words.
    let two = compile(json!({
        "servers": [server("s", read(&["t"]))],
        "portals": [
            portal("a", json!({"updated_tools": [{"server": "s", "name": "t", "description": "A"}]})),
            portal("b", json!({"updated_tools": [{"server": "s", "name": "t", "description": "B"}]})),
            portal("c", json!({})),
        ],
    }));
    let all = lists(&two, vec![("s", offered())]);
    for (name, said) in [("a", "A"), ("b", "B"), ("c", "theirs"), ("a", "A")] {
        let view = portal_view(&two, name, &user("ann", &[]), &all);
        assert_eq!(shown(&view.tools[0].rendered)["description"], said);
    }
    // The server's own endpoint passes every byte.
    let own = View::build(&ours, None, &user("ann", &[]), &context(0), &after);
    assert_eq!(own.tools[0].rendered.as_str(), text);
}

#[test]
fn p42_mistakes_of_a_portal_are_told_with_their_place() {
    let base = |more: Value| {
        json!({
            "servers": [
                server("s", json!({"updated_tools": [{"name": "a", "alias": "x"}, {"name": "b"}]})),
                server("o", json!({})),
            ],
            "portals": [portal("p", more)],
        })
    };
    let word = |more: Value| {
        let mut entry = json!({"server": "s", "name": "t"});
        for (key, member) in more.as_object().unwrap() {
            entry[key] = member.clone();
        }
        entry
    };
    for (entries, place, code) in [
        (json!([word(json!({"alias": "a b"}))]), "[0].alias", "invalid_alias"),
        (json!([word(json!({"alias": "x".repeat(41)}))]), "[0].alias", "invalid_alias"),
        (json!([word(json!({"alias": "x"}))]), "[0].alias", "duplicate_alias"),
        (json!([word(json!({"alias": "b"}))]), "[0].alias", "duplicate_alias"),
        (
            json!([word(json!({"alias": "y"})), word(json!({"name": "b", "alias": "y"}))]),
            "[1].alias",
            "duplicate_alias",
        ),
        (json!([word(json!({"name": "x"}))]), "[0].name", "duplicate_alias"),
        (json!([word(json!({"name": ""}))]), "[0].name", "missing_name"),
        (json!([word(json!({})), word(json!({}))]), "[1].name", "duplicate_name"),
        (json!([word(json!({"server": "nobody"}))]), "[0].server", "unknown_server"),
        (json!([word(json!({"server": "o"}))]), "[0].server", "not_in_portal"),
        (json!([word(json!({"description": " \n"}))]), "[0].description", "empty_description"),
        (json!([word(json!({"description": "x".repeat(4_097)}))]), "[0].description", "too_long"),
        (json!([word(json!({"description": "a\u{1b}[2J"}))]), "[0].description", "bad_value"),
    ] {
        for list in ["updated_tools", "updated_prompts"] {
            let found = findings(base(json!({"servers": ["s"], list: entries})));
            let of_tools = matches!(code, "duplicate_alias") && list == "updated_prompts" && !place.starts_with("[1]");
            let wanted = (!of_tools).then(|| (format!("portals[0].{list}{place}"), code));
            let told: Vec<_> = found.into_iter().map(|one| (one.path, one.code)).collect();
            assert_eq!(told, wanted.into_iter().collect::<Vec<_>>(), "{entries}");
        }
    }
    // A portal may free an alias, and give it to another entry.
    for entries in [
        json!([word(json!({"name": "a", "alias": "y"})), word(json!({"name": "b", "alias": "x"}))]),
        json!([word(json!({"name": "a", "alias": "a"}))]),
        json!([word(json!({"name": "b", "alias": "free"}))]),
    ] {
        assert_eq!(findings(base(json!({"updated_tools": entries}))), [], "{entries}");
    }
    let long = json!({"updated_tools": [{"name": "t", "description": ""}], "updated_resources": [{"name": "x:y", "description": "d"}]});
    let found = findings(json!({"servers": [server("s", long)]}));
    let told: Vec<_> = found.iter().map(|one| one.code).collect();
    assert_eq!(told, ["empty_description", "invalid_description"]);
}

#[test]
fn p2_a_tool_is_on_in_one_portal_and_off_in_another() {
    let snapshot = compile(json!({
        "servers": [server("s", json!({
            "classes": {"read": ["a", "b", "c"]}, "updated_tools": [{"name": "c", "enabled": false}],
        }))],
        "portals": [
            portal("one", json!({"updated_tools": [{"server": "s", "name": "c", "enabled": true}]})),
            portal("two", json!({
                "updated_tools": [{"server": "s", "name": "a", "enabled": false}],
                "updated_prompts": [{"server": "s", "name": "p", "enabled": false}],
            })),
        ],
    }));
    let lists = lists(&snapshot, vec![("s", tools(&["a", "b", "c"])), ("s", prompts(&["a", "p"]))]);
    let one = portal_view(&snapshot, "one", &user("ann", &[]), &lists);
    let two = portal_view(&snapshot, "two", &user("ann", &[]), &lists);
    // What the server has off stays off, and that is said.
    assert_eq!((names(&one), names(&two)), (vec!["s_a", "s_b"], vec!["s_b"]));
    assert!(
        snapshot
            .warnings
            .iter()
            .any(|one| one.code == "no_effect" && one.path == "portals[0].updated_tools[0].enabled")
    );
    assert_eq!((one.prompts.len(), two.prompts.len()), (2, 1));
    assert!(one.tool("s_a").is_some() && two.tool("s_a").is_none() && two.prompt("s_p").is_none());
}

/// Two portals and a third without bundles; the bundle is edited between two snapshots.
fn bundled(tools: &[&str], more: Value) -> Snapshot {
    let mut bundle = json!({"id": "office", "name": "Office", "tools": [{"server": "s", "tools": tools}]});
    for (key, member) in more.as_object().unwrap() {
        bundle[key] = member.clone();
    }
    compile(json!({
        "servers": [server("s", read(&["a", "b", "c"])), server("o", read(&["z"]))],
        "bundles": [bundle, {"id": "rest", "tools": [{"server": "o", "tools": ["z", "never listed"], "resources": true}]}],
        "portals": [
            portal("one", json!({"bundles": ["office"]})),
            portal("two", json!({
                "bundles": ["rest", "office"], "updated_tools": [{"server": "s", "name": "c", "enabled": false}],
            })),
            portal("all", json!({})),
            portal("none", json!({"bundles": [], "updated_tools": [{"server": "s", "name": "b", "enabled": true}]})),
        ],
    }))
}

fn seen(snapshot: &Snapshot, portal: &str, who: &Principal) -> Vec<String> {
    let lists = lists(snapshot, vec![("s", tools(&["a", "b", "c"])), ("o", tools(&["z"]))]);
    names(&portal_view(snapshot, portal, who, &lists)).into_iter().map(str::to_owned).collect()
}

#[test]
fn p2_an_edit_of_a_bundle_shows_in_both_portals() {
    let ann = user("ann", &[]);
    let before = bundled(&["a"], json!({}));
    assert_eq!(seen(&before, "one", &ann), ["s_a"]);
    assert_eq!(seen(&before, "two", &ann), ["s_a", "o_z"]);
    let after = bundled(&["b", "c"], json!({}));
    assert_ne!(before.version, after.version);
    assert_eq!(seen(&after, "one", &ann), ["s_b", "s_c"]);
    // The portal's own word goes before its bundles.
    assert_eq!(seen(&after, "two", &ann), ["s_b", "o_z"]);
    for snapshot in [&before, &after] {
        assert_eq!(seen(snapshot, "all", &ann), ["s_a", "s_b", "s_c", "o_z"]);
        // No bundle is not every tool.
        assert_eq!(seen(snapshot, "none", &ann), ["s_b"]);
    }
}

#[test]
fn p2_a_bundle_of_a_group_is_for_its_members() {
    let snapshot = bundled(&["a"], json!({"groups": ["sales", "ops"]}));
    let (member, other) = (user("ann", &["eng", "ops"]), user("ben", &["eng", "sales-old"]));
    assert_eq!(seen(&snapshot, "one", &member), ["s_a"]);
    assert!(seen(&snapshot, "one", &other).is_empty());
    assert_eq!(seen(&snapshot, "two", &other), ["o_z"]);
    // The server is no more there than its tools, and the own endpoint of nobody else changes.
    let lists = lists(&snapshot, vec![("s", tools(&["a"])), ("o", tools(&["z"]))]);
    let servers = |who: &Principal| -> Vec<String> {
        let view = portal_view(&snapshot, "two", who, &lists);
        view.servers.iter().map(|server| server.id.to_string()).collect()
    };
    assert_eq!((servers(&member), servers(&other)), (vec!["s".into(), "o".into()], vec!["o".to_owned()]));
    let two = spec_portal(&snapshot, "two");
    assert!(two.opens(&id("s"), &member) && !two.opens(&id("s"), &other) && !two.opens(&id("nobody"), &member));
    // Claims of nobody in particular count for nothing.
    let anonymous = Principal::new(PrincipalKind::Anonymous, "anonymous", ["ops".into()]);
    assert!(!two.opens(&id("s"), &anonymous) && !seen(&snapshot, "one", &anonymous).contains(&"s_a".to_owned()));
    assert!(seen(&bundled(&["a"], json!({"groups": []})), "one", &member).is_empty());
}

#[test]
fn p2_names_through_bundles_are_the_same_for_everybody() {
    let snapshot = compile(json!({
        "servers": [server("a", read(&["b_c"])), server("a_b", read(&["c"]))],
        "bundles": [
            {"id": "x", "groups": ["g"], "tools": [{"server": "a", "tools": ["b_c"]}]},
            {"id": "y", "tools": [{"server": "a_b", "tools": ["c"]}]},
        ],
        "portals": [portal("p", json!({"bundles": ["x", "y"]}))],
    }));
    let lists = lists(&snapshot, vec![("a", tools(&["b_c"])), ("a_b", tools(&["c"]))]);
    let of = |who: &Principal| -> Vec<String> {
        names(&portal_view(&snapshot, "p", who, &lists)).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(of(&user("ann", &["g"])), ["a_b_c", "a_b_c_0c1d18f5"]);
    assert_eq!(of(&user("ben", &[])), ["a_b_c_0c1d18f5"]);
}

#[test]
fn p2_resources_come_through_a_bundle_all_or_none() {
    let snapshot = bundled(&["a"], json!({}));
    let lists = lists(&snapshot, vec![("s", resources(&["x:1"])), ("o", resources(&["x:2"]))]);
    let view = portal_view(&snapshot, "two", &user("ann", &[]), &lists);
    let open: Vec<_> = view.resources.iter().map(|resource| resource.server.id.as_str()).collect();
    assert_eq!(open, ["o"]);
    // Nor can what is not listed be read.
    assert!(view.route_uri(&uri::wrap(&id("s"), "x:1")).is_none());
    assert!(view.route_uri(&uri::wrap(&id("o"), "x:7")).is_some());
    let all = portal_view(&snapshot, "all", &user("ann", &[]), &lists);
    assert_eq!(all.resources.len(), 2);
    let two = spec_portal(&snapshot, "two");
    let may = |server: &str| snapshot.servers[&id(server)].resources_for(Some(two), &user("ann", &[]));
    assert!(!may("s") && may("o") && snapshot.servers[&id("s")].resources_for(None, &user("ann", &[])));
}

#[test]
fn p2_a_bundle_grants_nothing() {
    let snapshot = compile(json!({
        "servers": [server("s", json!({"classes": {"write": ["w"]}}))],
        "bundles": [{"id": "b", "tools": [{"server": "s", "tools": ["w"]}]}],
        "portals": [portal("p", json!({"bundles": ["b"]}))],
        "grants": [{"id": "g", "principals": ["user:ann"], "server": "s", "classes": ["write"]}],
    }));
    let lists = lists(&snapshot, vec![("s", tools(&["w"]))]);
    assert_eq!(portal_view(&snapshot, "p", &user("ann", &[]), &lists).tools.len(), 1);
    assert!(portal_view(&snapshot, "p", &user("ben", &[]), &lists).tools.is_empty());
}

#[test]
fn p2_mistakes_in_bundles_are_told_with_their_place() {
    let found = findings(json!({
        "servers": [server("s", json!({}))],
        "bundles": [
            {"id": "office", "tools": [{"server": "t", "tools": ["a"]}, {"server": "s", "tools": ["", "x", "x"]}]},
            {"id": "office"}, {"id": "", "groups": [" "], "name": "n".repeat(351)},
        ],
        "portals": [portal("p", json!({"bundles": ["offce", "office", "office"]}))],
    }));
    let mut told: Vec<_> = found.iter().map(|one| (one.path.as_str(), one.code)).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("bundles[0].tools[0].server", "unknown_server"),
            ("bundles[0].tools[1].tools[0]", "missing_name"),
            ("bundles[0].tools[1].tools[2]", "duplicate_name"),
            ("bundles[1].id", "duplicate_id"),
            ("bundles[2].groups[0]", "missing_name"),
            ("bundles[2].id", "missing_id"),
            ("bundles[2].name", "too_long"),
            ("portals[0].bundles[0]", "unknown_bundle"),
            ("portals[0].bundles[2]", "duplicate_bundle"),
        ]
    );
    let hint = found.iter().find(|one| one.code == "unknown_bundle").unwrap();
    assert_eq!(hint.suggestion.as_deref(), Some("did you mean `office`?"));
}
