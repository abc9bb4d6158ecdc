//! `bartizan server classify` (G3): asks a server for its tools and proposes classes, as
//! a block to review and paste. It decides nothing and writes nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan_catalog::{Kind, ServerLists, classify};
use bartizan_config::Environment;
use bartizan_config::suggest::nearest;
use bartizan_egress::Egress;
use bartizan_model::ToolClass;
use bartizan_upstream::{ListKind, Target, UpstreamDeps, Upstreams};
use bartizan_wire::{ClientProfile, Revision};
use serde_json::{Value, json};

use crate::commands::check;
use crate::installation::{clock, read_valid};
use crate::logging;
use crate::output::{Done, Failure, OK, Out};

pub(crate) async fn run(config: &Path, server_id: &str, out: Out) -> Done {
    logging::start(&Environment::from_process(), "warn");
    let mut loaded = read_valid(config)?;
    let Some(snapshot) = check::compile(&mut loaded) else {
        eprint!("{}", loaded.report());
        return Err(Failure::cannot_run("invalid", format!("{} has errors", config.display())));
    };
    let spec = snapshot.order.iter().find(|spec| spec.id.as_str() == server_id).ok_or_else(|| {
        let near = nearest(server_id, snapshot.order.iter().map(|spec| spec.id.as_str()));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Failure::refused("unknown_server", format!("there is no server `{server_id}`{hint}"))
    })?;
    let connect = Duration::from_millis(loaded.file.limits.connect_ms);
    let egress = Egress::new(&loaded.file.egress, connect)
        .map_err(|error| Failure::cannot_run("bad_egress", error.to_string()))?;
    let upstreams = Upstreams::new(UpstreamDeps {
        egress,
        limits: loaded.file.limits.clone(),
        clock: clock(),
        child_program: std::env::current_exe().ok(),
        environment: std::env::vars_os().collect(),
    });
    let asks: Arc<str> = "service:bartizan".into();
    let target = Target { spec: Arc::clone(spec), principal: Arc::clone(&asks), caller: asks, authority: None };
    let profile = Arc::new(ClientProfile::plain(Revision::V2025_11_25));
    let listed = upstreams.list(&target, ListKind::Tools, &profile).await;
    upstreams.shutdown().await;
    let listed = listed.map_err(|error| {
        Failure::cannot_run(error.code().as_str(), format!("`{server_id}` cannot be asked: {}", error.note()))
    })?;

    let lists = ServerLists::parse(Kind::Tools, listed.items);
    let proposals = classify::propose(lists.tools.iter().map(Arc::as_ref));
    if lists.unreadable > 0 {
        out.note(&format!("{} definitions cannot be read and are left out", lists.unreadable));
    }
    let tools: Vec<Value> = proposals
        .tools
        .iter()
        .map(|tool| {
            let reviewed = spec.class_of(&tool.name);
            json!({"name": &*tool.name, "class": tool.class.as_str(), "reviewed": reviewed.as_str(),
                "reasons": tool.reasons, "contradicts": tool.contradicts})
        })
        .collect();
    let yaml = proposals.to_yaml();
    out.either(&json!({"server_id": server_id, "tools": tools, "yaml": yaml}), || yaml.clone());
    let unknown = proposals.of(ToolClass::Unknown).count();
    let contradicting = proposals.tools.iter().filter(|tool| tool.contradicts).count();
    out.note(&format!(
        "{} tools, {unknown} undecided, {contradicting} that contradict themselves; review the block before you paste it \
         under the server in {}",
        proposals.tools.len(),
        config.display()
    ));
    Ok(OK)
}
