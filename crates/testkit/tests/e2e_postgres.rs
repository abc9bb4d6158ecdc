//! The same tests with PostgreSQL as the store (row O1): the test kit looks at the name of this program.
//!
//! Everything that starts the product, but for what would only cost time: `e2e_clients`,
//! `e2e_conformance` and `e2e_servers` drive other people's clients and servers over the same
//! calls and keep nothing in the store that these here do not; `e2e_fixture` tests the test kit;
//! `e2e_cluster` and `e2e_upgrade` choose their store themselves. With
//! `BARTIZAN_E2E_STORE=postgres` those run on PostgreSQL as well.

#[path = "e2e_bridge.rs"]
mod bridge;
#[path = "e2e_commands.rs"]
mod commands;
#[path = "e2e_failures.rs"]
mod failures;
#[path = "e2e_faults.rs"]
mod faults;
#[path = "e2e_governance.rs"]
mod governance;
#[path = "e2e_hostile.rs"]
mod hostile;
#[path = "e2e_lifecycle.rs"]
mod lifecycle;
#[path = "e2e_lossless.rs"]
mod lossless;
#[path = "e2e_openings.rs"]
mod openings;
#[path = "e2e_operations.rs"]
mod operations;
#[path = "e2e_record.rs"]
mod record;
#[path = "e2e_reuse.rs"]
mod reuse;
#[path = "e2e_traces.rs"]
mod traces;
