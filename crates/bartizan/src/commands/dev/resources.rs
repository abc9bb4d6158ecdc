//! The configuration of a demo: a file like any other, so that `explain` works on it.

use std::fmt::Write;
use std::net::SocketAddr;

use bartizan_demo::DemoServer;
use bartizan_model::ToolClass;

/// The policy that refuses one tool for certain arguments.
pub(crate) const POLICY: &str = "small-budgets-only";
/// Largest amount it lets through, in euros.
pub(crate) const MOST: u32 = 1000;

/// The file. `key` is missing on purpose: `serve` refuses it.
pub(crate) fn file(listen: SocketAddr, operations: SocketAddr, servers: &[DemoServer]) -> String {
    let mut out = format!(
        "# Written by `bartizan dev`; gone when it ends.\n\
         public_url: http://{listen}\n\
         listen: \"{listen}\"\n\
         operations: {{ listen: \"{operations}\" }}\n\
         store: {{ data_dir: . }}\n\
         egress: {{ private_allow: [127.0.0.1] }}\n\
         limits: {{ drain_wait_ms: 0, drain_deadline_ms: 5000 }}\n\
         servers:\n"
    );
    for server in servers {
        // Writing to a String cannot fail.
        let _ = entry(&mut out, server);
    }
    let _ = write!(
        out,
        "portals:\n\
         \x20 - id: default\n\
         \x20   name: Demo portal\n\
         \x20   policies:\n\
         \x20     - {{ name: everybody, action: allow, include: [{{ everyone: true }}] }}\n\
         grants:\n\
         \x20 - id: team-writes\n\
         \x20   principals: [group:engineering, group:finance]\n\
         \x20   server: tracker\n\
         \x20   tools: [create_issue, add_comment, request_budget]\n\
         policies:\n\
         \x20 - id: {POLICY}\n\
         \x20   description: Budgets above {MOST} euros need a signature, not a tool call.\n\
         \x20   cedar: |\n\
         \x20     forbid(principal, action == Action::\"call_tool\", resource == Tool::\"tracker/request_budget\")\n\
         \x20     when {{ context.args.amount > {MOST} }};\n"
    );
    out
}

fn entry(out: &mut String, server: &DemoServer) -> std::fmt::Result {
    writeln!(out, "  - server_id: {}", server.id)?;
    writeln!(out, "    name: {}", server.name)?;
    writeln!(out, "    hostname: {}", server.url)?;
    writeln!(out, "    policies:")?;
    writeln!(out, "      - {{ name: everybody, action: allow, include: [{{ everyone: true }}] }}")?;
    writeln!(out, "    classes:")?;
    for (key, class) in
        [("read", ToolClass::Read), ("write", ToolClass::Write), ("destructive", ToolClass::Destructive)]
    {
        let tools: Vec<&str> = server.tools_of(class).collect();
        writeln!(out, "      {key}: [{}]", tools.join(", "))?;
    }
    Ok(())
}
