//! `bartizan serve` (U3).

use std::path::Path;
use std::sync::Arc;

use bartizan_admin::Base;
use bartizan_catalog::CompileOptions;
use bartizan_config::{Environment, Override, render};
use bartizan_model::Secret;
use bartizan_model::event::EventKind;
use bartizan_vault::{KeyRing, Records, Vault};

use crate::cli::Serve;
use crate::commands::check;
use crate::installation::{Places, clock, make_private_folder, read};
use crate::logging;
use crate::node::{Node, NodeInput};
use crate::output::{Done, Failure, OK, Out};
use crate::reload::Reloader;
use crate::run::{self, Ending};
use crate::sign_in::People;
use crate::transport::{self, Names, Transport};

pub(crate) async fn run(arguments: &Serve, out: Out) -> Done {
    logging::start(&Environment::from_process(), "info");
    let path = arguments.config.config.as_path();
    let flags = flags(arguments)?;
    let mut loaded = read(path, &flags)?;
    let snapshot = check::examine(&mut loaded);
    let report = loaded.report();
    if !report.is_empty() {
        let format = if out.json { render::Format::Json } else { render::Format::Text };
        eprint!("{}", render::report(&report, format, false));
    }
    let (Some(snapshot), false) = (snapshot, report.has_errors()) else {
        let first = report.problems.iter().find(|problem| problem.severity == bartizan_config::Severity::Error);
        let code = first.map_or("invalid", |problem| problem.code);
        return Err(Failure::refused(code, format!("{} has errors; nothing was started", path.display())));
    };
    let (Some(public_url), Some(listen), Some(source)) =
        (loaded.file.public_url.clone(), loaded.file.listen, loaded.file.key.clone())
    else {
        return Err(Failure::refused("missing_setting", "public_url, listen and key are required"));
    };
    let keys = KeyRing::from_source(&source).map_err(|error| Failure::refused("bad_key", error.to_string()))?;
    for spec in snapshot.order.iter().filter(|spec| spec.unpinned || spec.unsandboxed) {
        tracing::warn!(server = %spec.id, unpinned = spec.unpinned, unsandboxed = spec.unsandboxed,
            "a local server runs on the operator's word");
    }
    let places = Places::of(&loaded)?;
    make_private_folder(&places.data_dir)?;
    let ending = Ending::new(false)?;
    let reloader = Reloader::new(path, flags, &loaded.watch)?;
    let public = run::bind(listen).await?;
    let operations = run::bind(loaded.file.operations.listen).await?;
    let store = places.open().await?;
    let vault = || {
        let keys = KeyRing::from_source(&source).map_err(|error| Failure::refused("bad_key", error.to_string()))?;
        Vault::new(keys).map_err(|error| Failure::cannot_run("bad_key", error.to_string()))
    };
    let countries = transport::countries(&loaded.file)?;
    let names = Names::new(&public_url, &loaded.file.allowed_hosts);
    let shown = names.clone();
    let records = Records::new(vault()?, store.clone());
    let tls = transport::public(&loaded.file, &records, &clock(), move || shown.all()).await?;
    let address = |listener: &tokio::net::TcpListener, given| listener.local_addr().unwrap_or(given);
    let people = Arc::new(People::default());
    people.take(&loaded.filled());
    // What is wrong with them was found above.
    people.take_scim(loaded.scim_tokens(&Environment::from_process()).unwrap_or_default());
    let record = loaded.file.audit.resolved(&Environment::from_process(), &loaded.base);
    let record = record.map_err(|error| Failure::refused("secret_unresolved", format!("audit: {error}")))?;
    let known = loaded.file.identity_providers.len();
    let provisioning = crate::scim::apply(&store, loaded.file.sign_in.scim.as_ref(), known).await?;
    let options = CompileOptions { dev: false, hosting: loaded.file.hosting.enabled };
    let base = Base::new(loaded.file.clone(), loaded.filled(), options);
    let node = Node::assemble(NodeInput {
        snapshot,
        base,
        store,
        keys,
        audit_dir: places.audit(),
        state: places.state(),
        public_url: public_url.clone(),
        listen: address(&public, listen),
        operations: address(&operations, loaded.file.operations.listen),
        dev_users: Vec::new(),
        demo_users: Vec::new(),
        people,
        record,
        masks: loaded.secrets.values().map(|one| Secret::new(one.expose().clone())).collect(),
        alerts: loaded.filled().alerts,
        clock: clock(),
        tls,
        countries,
        file: loaded.file,
    })?;
    tracing::info!(public_url, listen = %address(&public, listen), "starting");
    if let Some(note) = provisioning {
        node.record(EventKind::Admin, "scim/policy", Some(note)).await;
    }
    // Nobody is served before what the store says is in use.
    node.objects.begin(&node).await.map_err(|error| Failure::cannot_run("bad_store", error.to_string()))?;
    names.follow(&node);
    let others = transport::others(&node, vault()?).await?;
    Box::pin(run::serve(node, public, operations, Some(reloader), ending, Transport { others })).await;
    Ok(OK)
}

fn flags(arguments: &Serve) -> Result<Vec<Override>, Failure> {
    let mut flags = Vec::new();
    let mut add = |path: &str, flag: &str, value: Option<String>| {
        if let Some(value) = value {
            flags.push(Override { path: path.to_owned(), value, origin: format!("flag {flag}") });
        }
    };
    add("listen", "--listen", arguments.listen.clone());
    add("public_url", "--public-url", arguments.public_url.clone());
    add("operations.listen", "--operations", arguments.operations.clone());
    if let Some(folder) = &arguments.data_dir {
        // Paths of the file start from the file's folder, this one from where the user is.
        let wrong = || Failure::cannot_run("bad_argument", "the data folder is not a path that can be used");
        let folder = std::path::absolute(Path::new(folder)).map_err(|_| wrong())?;
        add("store.data_dir", "--data-dir", Some(folder.to_str().ok_or_else(wrong)?.to_owned()));
    }
    Ok(flags)
}
