//! Questions that a person answers before something may happen: one call (W12), or being let in
//! for a while (A16). Durable: a question outlives the process that asked, and its answer is good
//! on every process of the installation.
//!
//! The text of a question is made here, from the real and complete arguments. Must never call
//! anything, nor let anybody answer who has no right to.

mod desk;
mod difference;
mod error;
mod events;
mod feed;
mod link;
mod question;
mod shown;
#[cfg(test)]
mod tests;

pub use desk::{Answer, Approvals, ApprovalsDeps, Decider, LIFE_MS, MOST_PER_HOUR, PASS_MS, Pass, Record, Standing};
pub use error::{AskError, DecideError};
pub use link::{LINK_MS, Opened};
pub use question::{CallQuestion, Details, EntryQuestion, MAX_REASON};
pub use shown::{brief, visible};
