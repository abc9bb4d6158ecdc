//! File, folder, environment and flags.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::path::Path;

use bartizan_config::{Diagnostic, Environment, Loaded, Override, Severity, load};

const GOOD: &str = "public_url: https://mcp.example.com\nlisten: 127.0.0.1:7420\nkey: { env: MASTER_KEY }\n";

fn with(files: &[(&str, &str)], variables: &[(&str, &str)], flags: &[(&str, &str)]) -> (tempfile::TempDir, Loaded) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let environment: Environment = variables.iter().copied().collect();
    let flags: Vec<Override> = flags
        .iter()
        .map(|(path, value)| Override { path: (*path).into(), value: (*value).into(), origin: format!("--{path}") })
        .collect();
    let loaded = load(&folder.path().join(files[0].0), &environment, &flags).unwrap();
    (folder, loaded)
}

fn codes(loaded: &Loaded) -> Vec<&'static str> {
    loaded.report().problems.iter().map(|problem| problem.code).collect()
}

#[test]
fn u3_environment_is_above_the_file_and_flags_above_both() {
    let file = [("b.yaml", GOOD)];
    let (_folder, loaded) = with(&file, &[], &[]);
    assert_eq!(loaded.file.listen.unwrap().port(), 7420);
    let variables = [("BARTIZAN_LISTEN", "127.0.0.1:7500")];
    let (_folder, loaded) = with(&file, &variables, &[]);
    assert_eq!((loaded.file.listen.unwrap().port(), codes(&loaded)), (7500, vec![]));
    let (_folder, loaded) = with(&file, &variables, &[("listen", "127.0.0.1:7600")]);
    assert_eq!(loaded.file.listen.unwrap().port(), 7600);
}

#[test]
fn u3_environment_reaches_every_kind_of_setting() {
    let variables = [
        ("BARTIZAN_STORE__DATA_DIR", "/data"),
        ("BARTIZAN_AUDIT__MODE", "fast"),
        ("BARTIZAN_HOSTING__ENABLED", "true"),
        ("BARTIZAN_LIMITS__CALL_MS", "5000"),
        ("BARTIZAN_ALLOWED_HOSTS", "[a.example.com, b.example.com]"),
        ("BARTIZAN_KEY__FILE", "/etc/key"),
        ("BARTIZAN_PUBLIC_URL", "https://other.example.com"),
        ("BARTIZAN_TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:4318"),
    ];
    let (_folder, loaded) = with(&[("b.yaml", GOOD)], &variables, &[]);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    let file = loaded.file;
    assert_eq!(file.store.data_dir, Path::new("/data"));
    assert_eq!(file.audit.mode, bartizan_config::settings::AuditMode::Fast);
    assert!(file.hosting.enabled);
    assert_eq!(file.limits.call_ms, 5000);
    assert_eq!(file.allowed_hosts, ["a.example.com", "b.example.com"]);
    assert_eq!(file.key, Some(bartizan_config::settings::KeySource::File("/etc/key".into())));
    assert_eq!(file.public_url.as_deref(), Some("https://other.example.com"));
    assert_eq!(file.telemetry.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4318"));
}

#[test]
fn u3_unknown_variables_are_errors() {
    for (name, hint) in [
        ("BARTIZAN_LISTN", Some("did you mean `BARTIZAN_LISTEN`?")),
        ("BARTIZAN_STORE__DATADIR", Some("did you mean `BARTIZAN_STORE__DATA_DIR`?")),
        ("BARTIZAN_STORE__NOTHING_LIKE_IT", None),
    ] {
        let (_folder, loaded) = with(&[("b.yaml", GOOD)], &[(name, "x")], &[]);
        let report = loaded.report();
        assert_eq!(report.problems.len(), 1, "{name}");
        assert_eq!((report.problems[0].code, report.problems[0].suggestion.as_deref()), ("unknown_variable", hint));
    }
    // Variables of other tools, and of the file itself, are left alone.
    let others = [("BARTIZAN_TOOLS_DIR", "/x"), ("BARTIZAN_LOG", "debug"), ("BARTIZANX", "1")];
    assert_eq!(codes(&with(&[("b.yaml", GOOD)], &others, &[]).1), Vec::<&str>::new());
    let own = GOOD.replace("MASTER_KEY", "BARTIZAN_KEY");
    assert_eq!(codes(&with(&[("b.yaml", &own)], &[("BARTIZAN_KEY", "secret")], &[]).1), Vec::<&str>::new());
}

#[test]
fn u3_a_bad_variable_is_named_and_its_value_is_not_shown() {
    let (_folder, loaded) = with(&[("b.yaml", GOOD)], &[("BARTIZAN_LIMITS__CALL_MS", "hunter2")], &[]);
    let report = loaded.report();
    assert_eq!(report.problems[0].code, "wrong_type");
    assert_eq!(report.problems[0].place.as_ref().unwrap().file, "environment variable BARTIZAN_LIMITS__CALL_MS");
    assert!(!report.to_string().contains("hunter2"));
}

#[test]
fn u3_a_resource_folder_is_merged_in_order() {
    let files = [
        (
            "b.yaml",
            "public_url: https://a.example\nlisten: 127.0.0.1:1\nkey: { env: K }\nresources: conf\n\
          servers:\n  - { server_id: first, hostname: https://a.example/mcp }\n",
        ),
        ("conf/20-b.yaml", "servers:\n  - { server_id: third, hostname: https://c.example/mcp }\n"),
        (
            "conf/10-a.yml",
            "servers:\n  - { server_id: second, hostname: https://b.example/mcp }\nportals:\n  - id: p\n",
        ),
        ("conf/notes.txt", "not: read\n"),
    ];
    let (_folder, loaded) = with(&files, &[], &[]);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    let ids: Vec<&str> = loaded.resources.servers.iter().map(|server| server.server_id.as_str()).collect();
    assert_eq!(ids, ["first", "second", "third"]);
    assert_eq!(loaded.resources.portals.len(), 1);
    assert_eq!(loaded.watch.len(), 2);
}

#[test]
fn u4_findings_of_other_crates_get_the_place_in_the_right_file() {
    let files = [
        ("b.yaml", "resources: conf\nservers:\n  - { server_id: first, hostname: https://a.example/mcp }\n"),
        (
            "conf/a.yaml",
            "servers:\n  - server_id: second\n    hostname: ftp://b.example\n\
          policies:\n  - id: p\n    cedar: |\n      permit(principal, action, resource);\n      forbid(oops);\n",
        ),
    ];
    let (_folder, mut loaded) = with(&files, &[], &[]);
    loaded.add([Diagnostic::new("servers[1].hostname", "bad_url", "not http")], Severity::Error);
    loaded.add([Diagnostic::new("policies[0].cedar", "cedar", "parse error").at(2, 8)], Severity::Error);
    loaded.add([Diagnostic::new("servers[0].nothing.here", "x", "near")], Severity::Warning);
    let report = loaded.report();
    let found = |code: &str| {
        let problem = report.problems.iter().find(|problem| problem.code == code).unwrap();
        let place = problem.place.clone().unwrap();
        (place.file.rsplit('/').next().unwrap().to_owned(), place.line, place.column, problem.snippet.clone().unwrap())
    };
    assert_eq!(found("bad_url"), ("a.yaml".into(), 3, 15, "    hostname: ftp://b.example".into()));
    assert_eq!(found("cedar"), ("a.yaml".into(), 8, 14, "      forbid(oops);".into()));
    assert_eq!(found("x").1, 3);
}

#[test]
fn u4_a_dropped_server_does_not_make_its_references_unknown() {
    let file = format!("{GOOD}servers:\n  - hostname: https://a.example/mcp\n");
    let (_folder, mut loaded) = with(&[("b.yaml", &file)], &[], &[]);
    loaded.add([Diagnostic::new("portals[0].servers[0]", "unknown_server", "no server `a`")], Severity::Error);
    assert_eq!(codes(&loaded), ["missing_key"]);
}

#[test]
fn u3_paths_start_from_the_file() {
    let file = GOOD.replace("{ env: MASTER_KEY }", "{ file: key }") + "egress: { ca_files: [ca.pem, /abs.pem] }\n";
    let (folder, loaded) = with(&[("sub/b.yaml", &file)], &[], &[]);
    let base = folder.path().join("sub");
    assert_eq!(loaded.file.store.data_dir, base.join("bartizan-data"));
    assert_eq!(loaded.file.key, Some(bartizan_config::settings::KeySource::File(base.join("key"))));
    assert_eq!(loaded.file.egress.ca_files, [base.join("ca.pem"), "/abs.pem".into()]);
}

#[test]
fn p4_secrets_are_resolved_by_path() {
    let file = format!(
        "{GOOD}servers:\n  - server_id: a\n    hostname: https://a.example/mcp\n    auth_type: bearer\n    \
         auth_credentials: ${{env:T}}\n  - server_id: b\n    command:\n      argv: [x]\n      env: {{ K: \"${{file:k}}\" }}\n"
    );
    let (_folder, loaded) = with(&[("b.yaml", &file), ("k", "value\n")], &[("T", "token")], &[]);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    assert_eq!(loaded.secrets.get("servers[0].auth_credentials").unwrap().expose(), "token");
    assert_eq!(loaded.secrets.get("servers[1].command.env.K").unwrap().expose(), "value");
    assert!(!format!("{loaded:?}").contains("token\""), "Debug must not show a secret");
}

#[test]
fn a2_secrets_of_providers_and_clients_are_resolved_wherever_they_are_written() {
    let file = format!(
        "{GOOD}resources: more\nidentity_providers:\n  - id: a\n    issuer: https://a.example\n    client_id: g\n    \
         client_secret: ${{env:T}}\n    email_domains: [a.example]\n"
    );
    let more = "identity_providers:\n  - id: b\n    issuer: https://b.example\n    client_id: g\n    \
                client_secret: ${env:U}\n    email_domains: [b.example]\n\
                clients:\n  - client_id: c\n    name: C\n    client_secret: \"${file:k}\"\n";
    let files = [("b.yaml", file.as_str()), ("more/people.yaml", more), ("k", "value\n")];
    let (_folder, loaded) = with(&files, &[("T", "one"), ("U", "two")], &[]);
    assert_eq!(codes(&loaded), Vec::<&str>::new());
    let filled = loaded.filled();
    let secrets: Vec<_> = filled.identity_providers.iter().map(|each| each.client_secret.as_deref()).collect();
    assert_eq!(secrets, [Some("one"), Some("two")]);
    assert_eq!(filled.clients[0].client_secret.as_deref(), Some("value"));
    assert_eq!(loaded.resources.identity_providers[0].client_secret.as_deref(), Some("${env:T}"));
}

#[test]
fn u4_unreadable_files_cannot_be_checked() {
    let environment = Environment::default();
    assert!(load(Path::new("no/such/file.yaml"), &environment, &[]).is_err());
    assert!(load(Path::new("."), &environment, &[]).is_err());
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("b.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    assert!(load(&binary, &environment, &[]).unwrap_err().to_string().contains("UTF-8"));
    std::fs::write(&binary, vec![b'#'; (8 << 20) + 1]).unwrap();
    assert!(load(&binary, &environment, &[]).unwrap_err().to_string().contains("8 MiB"));
}

#[test]
fn u4_hostile_yaml_is_refused_in_bounded_time() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
        d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
        g: [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"
        .to_owned();
    let deep = "[".repeat(100_000);
    let nested = format!("servers: {}{}", "[".repeat(60), "]".repeat(60));
    let keys = (0..5_000).map(|i| format!("k{i}: 1\n")).collect::<String>();
    for text in
        [bomb, deep, nested, keys, "? [a, b]\n: c\n".to_owned(), "<<: *x\n".to_owned(), "!!binary x: y\n".to_owned()]
    {
        let (_folder, loaded) = with(&[("b.yaml", &text)], &[], &[]);
        assert!(loaded.report().has_errors(), "{}", text.chars().take(40).collect::<String>());
    }
}

#[test]
fn an_empty_file_is_an_empty_configuration() {
    for text in ["", "\n", "# nothing\n", "---\n", "\u{feff}"] {
        let (_folder, loaded) = with(&[("b.yaml", text)], &[], &[]);
        assert_eq!(codes(&loaded), Vec::<&str>::new(), "{text:?}");
        assert!(loaded.resources.servers.is_empty());
    }
}

proptest::proptest! {
    #[test]
    fn u4_any_text_gives_a_report(text in "[a-z:\\[\\]{}&*!|>'\"#%@`,?\\- \n\t0-9]{0,200}") {
        let (_folder, loaded) = with(&[("b.yaml", &text)], &[], &[]);
        let _ = loaded.report().to_string();
    }
}
