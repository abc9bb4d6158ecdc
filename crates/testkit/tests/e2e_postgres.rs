//! The same tests with PostgreSQL as the store (row O1): the test kit looks at the name of this program.

#[path = "e2e_bridge.rs"]
mod bridge;
#[path = "e2e_commands.rs"]
mod commands;
#[path = "e2e_governance.rs"]
mod governance;
#[path = "e2e_lifecycle.rs"]
mod lifecycle;
#[path = "e2e_record.rs"]
mod record;
