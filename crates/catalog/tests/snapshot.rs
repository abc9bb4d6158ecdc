//! Compiling resources: what is refused, with its path, and what comes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use bartizan_catalog::{CompileOptions, Credential, Transport};
use bartizan_config::resources::Prefix;
use bartizan_model::{PortalId, ToolClass};
use common::{SERVE, compile, everyone, findings, findings_with, id, server};
use serde_json::{Value, json};

fn with_server(more: Value) -> Value {
    json!({"servers": [server("s", more)]})
}

#[test]
fn p3_one_mistake_one_finding() {
    let long = "n".repeat(351);
    for (more, path, code) in [
        (json!({"hostname": null}), "servers[0]", "server_target"),
        (json!({"command": {"argv": ["x"], "allow_unpinned": true, "sandbox": "none"}}), "servers[0]", "server_target"),
        (json!({"name": long}), "servers[0].name", "too_long"),
        (json!({"hostname": "ftp://x/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "localhost/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http:///mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://user:pw@x/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://user@x/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://x/mcp#f"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://x/m cp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://x/\nmcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://x\\@y/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://x:0/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": "http://x:99999/mcp"}), "servers[0].hostname", "invalid_url"),
        (json!({"hostname": ""}), "servers[0].hostname", "invalid_url"),
        (json!({"auth_type": "bearer"}), "servers[0].auth_credentials", "credentials"),
        (json!({"auth_credentials": "abc"}), "servers[0].auth_credentials", "credentials"),
        (json!({"auth_type": "bearer", "auth_credentials": "a\nb"}), "servers[0].auth_credentials", "credentials"),
        (
            json!({"auth_type": "bearer", "auth_credentials": "{\"headers\":{\"a b\":\"c\"}}"}),
            "servers[0].auth_credentials",
            "credentials",
        ),
        (json!({"classes": {"read": ["a"], "write": ["a"]}}), "servers[0].classes.write[0]", "duplicate_class"),
        (json!({"classes": {"read": ["a", "a"]}}), "servers[0].classes.read[1]", "duplicate_class"),
        (json!({"classes": {"read": [""]}}), "servers[0].classes.read[0]", "missing_name"),
        (
            json!({"updated_tools": [{"name": "a"}, {"name": "a"}]}),
            "servers[0].updated_tools[1].name",
            "duplicate_name",
        ),
        (json!({"updated_tools": [{"name": ""}]}), "servers[0].updated_tools[0].name", "missing_name"),
        (
            json!({"updated_resources": [{"name": "x:y", "alias": "z"}]}),
            "servers[0].updated_resources[0].alias",
            "invalid_alias",
        ),
    ] {
        let found = findings(with_server(more.clone()));
        assert_eq!(found.len(), 1, "{more}: {found:#?}");
        assert_eq!((found[0].path.as_str(), found[0].code), (path, code), "{more}");
        assert!(!found[0].message.contains("pw"), "no part of a secret in a message");
    }
}

#[test]
fn p3_good_urls_compile() {
    for url in [
        "https://mcp.example.com/mcp",
        "HTTPS://mcp.example.com/mcp",
        "http://127.0.0.1:8080/sse",
        "http://[::1]:8080/",
        "https://x.test",
        "https://x.test/a/b?c=d&e=%20",
    ] {
        let snapshot = compile(with_server(json!({"hostname": url})));
        match &snapshot.servers[&id("s")].transport {
            Transport::Http { url: kept } => assert_eq!(&**kept, url),
            Transport::Stdio { .. } => panic!(),
        }
    }
}

#[test]
fn p42_alias_grammar() {
    for good in ["a", "A1", "get-it", "a_b-c", &"x".repeat(40)] {
        compile(with_server(json!({"updated_tools": [{"name": "t", "alias": good}]})));
    }
    for bad in ["", "_a", "a_", "a__b", "a-_b", "-", "a b", "a.b", "ä", "a\n", &"x".repeat(41)] {
        let found = findings(with_server(json!({"updated_tools": [{"name": "t", "alias": bad}]})));
        assert_eq!(found.len(), 1, "{bad:?}");
        assert_eq!((found[0].path.as_str(), found[0].code), ("servers[0].updated_tools[0].alias", "invalid_alias"));
    }
    for entries in [
        json!([{"name": "a", "alias": "x"}, {"name": "b", "alias": "x"}]),
        json!([{"name": "a", "alias": "b"}, {"name": "b"}]),
    ] {
        let found = findings(with_server(json!({"updated_tools": entries})));
        assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), ["duplicate_alias"]);
    }
    compile(with_server(
        json!({"updated_tools": [{"name": "a", "alias": "a"}], "updated_prompts": [{"name": "b", "alias": "a"}]}),
    ));
}

#[test]
fn g12_local_servers_need_the_operators_word() {
    let local = |command: Value| json!({"servers": [{"server_id": "l", "command": command, "policies": everyone()}]});
    let codes = |command: Value, options| -> Vec<&'static str> {
        findings_with(local(command), options).iter().map(|one| one.code).collect()
    };
    let off = CompileOptions { dev: false, hosting: false };
    let dev = CompileOptions { dev: true, hosting: false };
    assert_eq!(codes(json!({"argv": ["x"]}), SERVE), ["unpinned_server", "unsandboxed_server"]);
    assert_eq!(codes(json!({"argv": ["x"], "allow_unpinned": true}), SERVE), ["unsandboxed_server"]);
    assert_eq!(codes(json!({"argv": ["x"], "sandbox": "none"}), SERVE), ["unpinned_server"]);
    assert_eq!(codes(json!({"argv": ["x"], "allow_unpinned": true, "sandbox": "none"}), SERVE), [""; 0]);
    assert_eq!(codes(json!({"argv": ["x"], "allow_unpinned": true, "sandbox": "none"}), off), ["hosting_off"]);
    assert_eq!(codes(json!({"argv": ["x"]}), dev), [""; 0]);
    assert_eq!(codes(json!({"argv": []}), dev), ["empty_command"]);
    assert_eq!(codes(json!({"argv": [" "]}), dev), ["empty_command"]);
    assert_eq!(codes(json!({"argv": ["x", "a\u{0}b"]}), dev), ["nul"]);
    assert_eq!(codes(json!({"argv": ["x"], "env": {"A=B": "c"}}), dev), ["invalid_variable"]);
    assert_eq!(codes(json!({"argv": ["x"], "env": {"": "c"}}), dev), ["invalid_variable"]);
    assert_eq!(codes(json!({"argv": ["x"], "env": {"A": "c\u{0}"}}), dev), ["nul"]);
    assert_eq!(codes(json!({"argv": ["x"], "env_allow": ["A B"]}), dev), ["invalid_variable"]);
    assert_eq!(codes(json!({"argv": ["x"], "cwd": ""}), dev), ["invalid_folder"]);
    let odd = "; rm -rf $(HOME) `x`\n|";
    let snapshot =
        compile(local(json!({"argv": ["x", odd], "allow_unpinned": true, "sandbox": "none", "env": {"K": "v"}})));
    let spec = &snapshot.servers[&id("l")];
    assert!(spec.unpinned && spec.unsandboxed);
    match &spec.transport {
        Transport::Stdio { argv, env, .. } => {
            assert_eq!(argv, &["x", odd]);
            assert_eq!((env[0].0.as_str(), env[0].1.expose().as_str()), ("K", "v"));
        }
        Transport::Http { .. } => panic!(),
    }
    let remote = compile(with_server(json!({})));
    assert!(!remote.servers[&id("s")].unpinned && !remote.servers[&id("s")].unsandboxed);
    let bearer = json!({"servers": [{"server_id": "l", "auth_type": "bearer", "auth_credentials": "t",
        "command": {"argv": ["x"]}, "policies": everyone()}]});
    assert_eq!(findings_with(bearer, dev).iter().map(|one| one.code).collect::<Vec<_>>(), ["credentials"]);
}

#[test]
fn p1_portal_limits() {
    let portal = |more: Value| {
        let mut value = json!({"id": "p", "policies": everyone()});
        for (key, member) in more.as_object().unwrap() {
            value[key] = member.clone();
        }
        json!({"servers": [server("s", json!({}))], "portals": [value]})
    };
    for good in [
        json!({"name": "n".repeat(350), "description": "é".repeat(512)}),
        json!({"max_tool_name": 32}),
        json!({"max_tool_name": 128}),
        json!({"servers": ["s"], "prefix": "never", "hostname": "mcp.example.com"}),
        json!({"servers": []}),
    ] {
        compile(portal(good));
    }
    for (bad, path, code) in [
        (json!({"name": "é".repeat(351)}), "portals[0].name", "too_long"),
        (json!({"description": "d".repeat(513)}), "portals[0].description", "too_long"),
        (json!({"max_tool_name": 31}), "portals[0].max_tool_name", "out_of_range"),
        (json!({"max_tool_name": 129}), "portals[0].max_tool_name", "out_of_range"),
        (json!({"servers": ["gone"]}), "portals[0].servers[0]", "unknown_server"),
        (json!({"servers": ["s", "s"]}), "portals[0].servers[1]", "duplicate_server"),
        (json!({"hostname": "http://x"}), "portals[0].hostname", "invalid_host"),
        (json!({"hostname": "-x.test"}), "portals[0].hostname", "invalid_host"),
        (json!({"hostname": ""}), "portals[0].hostname", "invalid_host"),
        (json!({"hostname": "x..test"}), "portals[0].hostname", "invalid_host"),
        (json!({"hostname": "x.test/mcp"}), "portals[0].hostname", "invalid_host"),
    ] {
        let found = findings(portal(bad.clone()));
        assert_eq!(found.len(), 1, "{bad}: {found:#?}");
        assert_eq!((found[0].path.as_str(), found[0].code), (path, code));
    }
}

#[test]
fn p1_without_portals_there_is_a_default_one_with_all_servers() {
    let snapshot = compile(json!({"servers": [server("b", json!({})), server("a", json!({}))]}));
    let portal = &snapshot.portals[&PortalId::parse("default").unwrap()];
    let order: Vec<&str> = portal.servers.iter().map(|server| server.id.as_str()).collect();
    assert_eq!(order, ["b", "a"]);
    assert_eq!((portal.prefix, portal.max_tool_name, portal.show_ungranted), (Prefix::Always, 64, false));
    assert!(portal.has(&id("a")) && !portal.has(&id("c")));
    let named = compile(json!({"servers": [server("b", json!({}))],
        "portals": [{"id": "team", "hostname": "MCP.example.com", "servers": ["b"], "policies": everyone()}]}));
    assert!(!named.portals.contains_key(&PortalId::parse("default").unwrap()));
    assert_eq!(named.portal_hosts["mcp.example.com"].id.as_str(), "team");
}

#[test]
fn all_findings_of_all_resources_come_at_once() {
    let found = findings(json!({
        "servers": [
            server("a", json!({"hostname": "nonsense", "auth_type": "bearer"})),
            server("a", json!({"policies": [{"action": "allow"}]})),
        ],
        "portals": [
            {"id": "p", "servers": ["aa"], "policies": everyone()},
            {"id": "p", "hostname": "x.test", "policies": everyone()},
            {"id": "q", "hostname": "X.test", "policies": everyone()},
        ],
        "policies": [{"id": "", "cedar": "permit("}, {"id": "x", "cedar": "permit(principal, action, resource);"},
                     {"id": "x", "cedar": "permit(principal, action, resource);"}],
        "grants": [
            {"id": "g", "principals": ["everyone"], "server": "nope", "tools": [""]},
            {"id": "g", "principals": ["everyone"], "server": "a", "classes": ["write"], "when": "1 +"},
        ],
        "rate_limits": [
            {"id": "r", "per": []},
            {"id": "r", "per": ["user", "user"], "per_minute": 0, "tools": ["x"]},
            {"id": "t", "per": ["user"], "burst": 5, "server": "b"},
        ],
    }));
    for (path, code) in [
        ("servers[0].hostname", "invalid_url"),
        ("servers[0].auth_credentials", "credentials"),
        ("servers[1].server_id", "duplicate_id"),
        ("servers[1].policies[0]", "empty_include"),
        ("portals[0].servers[0]", "unknown_server"),
        ("portals[1].id", "duplicate_id"),
        ("portals[2].hostname", "duplicate_host"),
        ("policies[0].id", "missing_id"),
        ("policies[0].cedar", "policy_syntax"),
        ("policies[2].id", "duplicate_id"),
        ("grants[0].server", "unknown_server"),
        ("grants[0].tools[0]", "missing_name"),
        ("grants[1].id", "duplicate_id"),
        ("grants[1].when", "policy_syntax"),
        ("rate_limits[0].per", "empty_limit"),
        ("rate_limits[0]", "empty_limit"),
        ("rate_limits[1].id", "duplicate_id"),
        ("rate_limits[1].per", "duplicate_key"),
        ("rate_limits[1].tools", "tools_without_server"),
        ("rate_limits[1].per_minute", "out_of_range"),
        ("rate_limits[2].server", "unknown_server"),
        ("rate_limits[2].burst", "burst_without_rate"),
    ] {
        assert!(found.iter().any(|one| one.path == path && one.code == code), "{path} {code}\n{found:#?}");
    }
}

#[test]
fn unknown_servers_come_with_the_likely_one() {
    let found = findings(json!({
        "servers": [server("github", json!({})), server("wiki", json!({}))],
        "portals": [{"id": "p", "servers": ["githb", "other"], "policies": everyone()}],
    }));
    let suggestions: Vec<_> = found.iter().map(|one| one.suggestion.as_deref()).collect();
    assert_eq!(suggestions, [Some("did you mean `github`?"), None]);
}

#[test]
fn what_nobody_may_use_is_a_warning() {
    let snapshot = compile(json!({
        "servers": [server("s", json!({"policies": []})), server("d", json!({"policies": [], "visibility": "public"}))],
        "portals": [{"id": "p"}],
    }));
    let warned: Vec<&str> = snapshot.warnings.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(warned, ["servers[0].policies", "portals[0].policies"]);
}

/// Findings about the credential of one server with these members.
fn credential_findings(more: &Value) -> Vec<String> {
    let mut server = json!({"server_id": "a", "hostname": "https://a.example/mcp"});
    server["policies"] = everyone();
    server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let provider = json!({"id": "idp", "issuer": "https://idp.example", "client_id": "gw", "client_secret": "s"});
    let found = findings(json!({"servers": [server], "identity_providers": [provider]}));
    let ours = found.iter().filter(|finding| finding.code == "credentials");
    ours.map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
}

#[test]
fn p17_every_strategy_says_what_it_needs() {
    let client = json!({"issuer": "https://as.example", "client_id": "c", "client_secret": "s"});
    let with = |kind: &str, more: Value| {
        let mut config = client.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"auth_type": kind, "auth_config": config})
    };
    let aws = json!({
        "service": "bedrock-agentcore", "region": "eu-west-1", "access_key_id": "AKID", "secret_access_key": "k/+=",
    });
    for good in [
        json!({"auth_type": "none"}),
        json!({"auth_type": "static", "auth_credentials": "token"}),
        json!({"auth_type": "oauth_user"}),
        json!({"auth_type": "pat_user"}),
        json!({"auth_type": "pat_user", "auth_config": {"header": "PRIVATE-TOKEN", "help_url": "https://a.example/t?x"}}),
        with("client_credentials", json!({})),
        with("client_credentials", json!({"token_endpoint": "https://as.example/t", "resource": "https://a.example/"})),
        with("token_exchange", json!({"subject_token": "assertion", "audience": "a"})),
        with("entra_obo", json!({"scopes": ["api://x/.default"]})),
        with("id_jag", json!({"subject_token": "refresh_token", "provider": "idp"})),
        json!({"auth_type": "assertion"}),
        json!({"auth_type": "aws_sigv4", "auth_config": aws}),
        json!({"auth_type": "oauth", "on_behalf": false, "auth_config": {"admin_groups": ["platform"]}}),
    ] {
        assert_eq!(credential_findings(&good), [""; 0], "{good}");
    }
    let mut no_key = aws.clone();
    no_key.as_object_mut().unwrap().remove("secret_access_key");
    let mut odd_region = aws.clone();
    odd_region["region"] = "eu/west".into();
    for (bad, part) in [
        (json!({"auth_type": "none", "auth_credentials": "token"}), "set `auth_type: bearer`"),
        (json!({"auth_type": "pat_user", "auth_credentials": "token"}), "auth_credentials"),
        (json!({"auth_type": "pat_user", "auth_config": {"header": "Host"}}), "may not set this header"),
        (json!({"auth_type": "pat_user", "auth_config": {"header": "x\r\ny"}}), "control character"),
        (json!({"auth_type": "pat_user", "auth_config": {"prefix": "a b"}}), "not one word"),
        (json!({"auth_type": "pat_user", "auth_config": {"help_url": "javascript:alert(1)"}}), "not an `https://`"),
        (json!({"auth_type": "pat_user", "auth_config": {"client_id": "c"}}), "no meaning with `auth_type: pat_user`"),
        (json!({"auth_type": "pat_user", "visibility": "public"}), "public server"),
        (json!({"auth_type": "client_credentials"}), "needs `client_id`"),
        (json!({"auth_type": "client_credentials", "auth_config": {"client_id": "c"}}), "needs `client_secret`"),
        (
            json!({"auth_type": "client_credentials", "auth_config": {"client_id": "c", "client_secret": "s"}}),
            "needs `issuer` or `token_endpoint`",
        ),
        (json!({"auth_type": "token_exchange", "auth_config": {"client_id": "c"}}), "needs `issuer` or"),
        (json!({"auth_type": "entra_obo", "auth_config": {"client_id": "c", "scopes": ["x"]}}), "needs `issuer` or"),
        (json!({"auth_type": "id_jag", "auth_config": {"client_id": "c"}}), "needs `issuer` or"),
        (with("client_credentials", json!({"token_endpoint": "http://as.example/t"})), "not an `https://` URL"),
        (with("client_credentials", json!({"token_endpoint": "https://u:p@as.example/t"})), "not an `https://` URL"),
        (with("client_credentials", json!({"token_endpoint": "file:///etc/passwd"})), "not an `https://` URL"),
        (with("client_credentials", json!({"resource": "https://a.example/#x"})), "not an absolute URI"),
        (
            with("client_credentials", json!({"token_endpoint_auth_method": "client_secret_post"})),
            "without `token_endpoint`",
        ),
        (with("client_credentials", json!({"subject_token": "id_token"})), "no meaning"),
        (with("token_exchange", json!({"subject_token": "refresh_token"})), "cannot use this token"),
        (with("token_exchange", json!({"provider": "other"})), "no identity provider of this id"),
        (with("entra_obo", json!({})), "needs `scopes`"),
        (with("id_jag", json!({"subject_token": "access_token"})), "cannot use this token"),
        (json!({"auth_type": "assertion", "auth_config": {"audience": "a b"}}), "not a tag"),
        (json!({"auth_type": "aws_sigv4", "auth_config": no_key}), "needs `secret_access_key`"),
        (json!({"auth_type": "aws_sigv4", "auth_config": odd_region}), "not such a name"),
        (json!({"auth_type": "oauth", "on_behalf": false}), "needs somebody to connect"),
        (json!({"auth_type": "oauth", "auth_config": {"admin_groups": ["platform"]}}), "`admin_groups` are given"),
        (json!({"auth_type": "bearer", "auth_credentials": "t", "on_behalf": false}), "is for `auth_type: oauth`"),
    ] {
        let found = credential_findings(&bad);
        let fits = found.iter().any(|text| text.contains(part)) || part.starts_with("set ");
        assert!(!found.is_empty() && fits, "{bad}: {found:?}");
    }
}

#[test]
fn p17_settings_of_a_strategy_are_in_the_version() {
    let version = |kind: &str, config: Value| {
        let server = json!({
            "server_id": "a", "hostname": "https://a.example/mcp", "policies": everyone(),
            "auth_type": kind, "auth_config": config,
        });
        compile(json!({"servers": [server]})).order[0].version.clone()
    };
    let base = json!({"client_id": "c", "client_secret": "s", "token_endpoint": "https://as.example/t"});
    let mut versions = vec![version("client_credentials", base.clone())];
    for (name, value) in [
        ("client_id", "d"),
        ("client_secret", "t"),
        ("token_endpoint", "https://as.example/u"),
        ("resource", "https://a.example"),
        ("audience", "x"),
    ] {
        let mut other = base.clone();
        other[name] = value.into();
        versions.push(version("client_credentials", other));
    }
    let different: std::collections::HashSet<_> = versions.iter().collect();
    assert_eq!(different.len(), versions.len(), "{versions:?}");
    assert!(versions.iter().all(|version| !version.contains("\"s\"")));
}

#[test]
fn p16_oauth_servers_are_checked() {
    let server = |more: Value| {
        let mut server = json!({"server_id": "a", "hostname": "https://a.example/mcp", "auth_type": "oauth"});
        server["policies"] = everyone();
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"servers": [server]})
    };
    let credentials = |value| findings(value).iter().filter(|finding| finding.code == "credentials").count();
    for good in
        [json!({}), json!({"auth_config": {"issuer": "https://as.example/t", "client_id": "c", "scopes": ["x"]}})]
    {
        assert_eq!(credentials(server(good.clone())), 0, "{good}");
    }
    for bad in [
        json!({"auth_credentials": "token"}),
        json!({"visibility": "public"}),
        json!({"auth_config": {"issuer": "https://as.example", "client_secret": "s"}}),
        // The server would choose who is told the secret.
        json!({"auth_config": {"client_id": "c", "client_secret": "s"}}),
        json!({"auth_config": {"client_id": ""}}),
        json!({"auth_config": {"client_id": "a\r\nb"}}),
        json!({"auth_config": {"issuer": "http://as.example"}}),
        json!({"auth_config": {"issuer": "javascript:alert(1)"}}),
        json!({"auth_config": {"issuer": "https://u@as.example"}}),
        json!({"auth_config": {"scopes": ["a b"]}}),
        json!({"auth_type": "bearer", "auth_credentials": "token", "auth_config": {}}),
    ] {
        assert_eq!(credentials(server(bad.clone())), 1, "{bad}");
    }
    // A session or a token of the old settings must not be used with the new ones.
    let version = |more| compile(server(more)).order[0].version.clone();
    let versions = [
        version(json!({})),
        version(json!({"auth_config": {"issuer": "https://as.example"}})),
        version(json!({"auth_config": {"client_id": "https://as.example"}})),
        version(json!({"auth_type": "unauthenticated"})),
    ];
    let different: std::collections::HashSet<_> = versions.iter().collect();
    assert_eq!(different.len(), versions.len(), "{versions:?}");
}

#[test]
fn p4_credentials_reach_the_specification() {
    let snapshot = compile(json!({"servers": [
        server("t", json!({"auth_type": "bearer", "auth_credentials": "abc"})),
        server("h", json!({"auth_type": "bearer", "auth_credentials": "{\"headers\":{\"X-Key\":\"k\",\"X-Two\":\"2\"}}"})),
        server("n", json!({})),
    ]}));
    let headers = |name: &str| match &snapshot.servers[&id(name)].credential {
        Credential::Headers(list) => {
            list.iter().map(|(name, value)| (name.clone(), value.expose().clone())).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    assert_eq!(headers("t"), [("authorization".to_owned(), "Bearer abc".to_owned())]);
    assert_eq!(headers("h").len(), 2);
    assert!(headers("n").is_empty());
    assert!(!format!("{:?}", snapshot.servers).contains("abc"));
}

#[test]
fn versions_follow_what_sessions_depend_on() {
    let version = |more: Value| compile(with_server(more)).servers[&id("s")].version.to_string();
    let base = version(json!({}));
    assert_eq!(base, version(json!({})));
    assert_eq!(base, version(json!({"name": "other", "status": "disabled", "classes": {"read": ["x"]}})));
    assert_ne!(base, version(json!({"hostname": "http://localhost/other/mcp"})));
    let token = |token: &str| version(json!({"auth_type": "bearer", "auth_credentials": token}));
    assert_ne!(token("one"), token("two"));
    assert_eq!(token("one"), token("one"));
    assert_eq!(token("one").split('-').next(), token("two").split('-').next(), "the open part does not tell secrets");
    assert_ne!(base, token("one"));
    let local = |command: Value| {
        let value = json!({"servers": [{"server_id": "s", "command": command, "policies": everyone()}]});
        compile(value).servers[&id("s")].version.to_string()
    };
    let command = |argv: Value, value: &str| {
        local(json!({"argv": argv, "env": {"K": value}, "allow_unpinned": true, "sandbox": "none"}))
    };
    assert_ne!(command(json!(["a", "b"]), "v"), command(json!(["ab"]), "v"));
    assert_ne!(command(json!(["a"]), "v"), command(json!(["a"]), "w"));
    assert_eq!(command(json!(["a"]), "v"), command(json!(["a"]), "v"));
}

#[test]
fn snapshot_versions_follow_content_but_not_secrets() {
    let version = |value: Value| compile(value).version;
    let one = with_server(json!({"auth_type": "bearer", "auth_credentials": "one"}));
    let two = with_server(json!({"auth_type": "bearer", "auth_credentials": "two"}));
    assert_eq!(version(one.clone()), version(two));
    assert_ne!(version(one), version(with_server(json!({"classes": {"read": ["x"]}}))));
}

#[test]
fn g3_classes_and_switches_are_looked_up() {
    let snapshot = compile(with_server(json!({
        "classes": {"read": ["r"], "write": ["w"], "destructive": ["d"]},
        "updated_tools": [{"name": "off", "enabled": false}, {"name": "r", "alias": "reader"}],
        "updated_prompts": [{"name": "p", "enabled": false}],
    })));
    let spec = &snapshot.servers[&id("s")];
    assert_eq!(
        ["r", "w", "d", "new"].map(|name| spec.class_of(name)),
        [ToolClass::Read, ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown]
    );
    assert!(!spec.tool_enabled("off") && spec.tool_enabled("new") && !spec.prompt_enabled("p"));
    assert_eq!((spec.tool_alias("r"), spec.tool_alias("w")), (Some("reader"), None));
}
