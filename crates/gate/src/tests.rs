//! Tests of whole calls, against servers of both eras on real sockets.

mod accounts;
mod approvals;
mod bench;
mod budgets;
mod caches;
mod calls;
mod explains;
mod facts;
mod kills;
mod limits;
mod listens;
mod lists;
mod mock;
mod quarantine;
mod records;
mod revocations;
mod rounds;
mod sabotage;
mod scopes;
mod statuses;
mod step_ups;
mod strategies;
mod toggles;
