//! The processes of one installation (feature row O17): who lives and where, in the
//! store, and the connections to them. What passes between them is whole requests, whose
//! credentials the process that gets them checks itself; this crate never decides about
//! a request, and never sends one twice.

mod link;
mod members;

pub use members::{Cluster, ClusterDeps};
