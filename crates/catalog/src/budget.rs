//! How long results may be (feature row P52).

use std::collections::HashMap;

use bartizan_config::resources::{Curation, LongResults};

use crate::spec::{PortalSpec, ServerSpec};

/// Least budget, tokens: enough for saying that something was cut.
pub(crate) const LEAST: u32 = 50;

/// What one place says about long results.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Says {
    pub(crate) tokens: Option<u32>,
    pub(crate) mode: Option<LongResults>,
}

/// What tools say about themselves, by original name.
#[derive(Debug, Default)]
pub(crate) struct ByTool(HashMap<Box<str>, Says>);

impl ByTool {
    pub(crate) fn new(tools: &[Curation]) -> Self {
        let says = |tool: &Curation| Says { tokens: tool.max_result_tokens, mode: tool.long_results };
        let about = tools.iter().filter(|tool| tool.max_result_tokens.is_some() || tool.long_results.is_some());
        Self(about.map(|tool| (tool.name.as_str().into(), says(tool))).collect())
    }
}

/// The budget of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultBudget {
    /// Tokens, as estimated.
    pub tokens: usize,
    /// What happens to what is longer.
    pub mode: LongResults,
}

impl ServerSpec {
    /// The budget for results of a tool: the least that portal, server and tool allow, handled as
    /// the narrowest of them says. `None` without any.
    pub fn result_budget(&self, portal: Option<&PortalSpec>, tool: &str) -> Option<ResultBudget> {
        let all = [self.budgets.0.get(tool).copied(), Some(self.budget), portal.map(|portal| portal.budget)];
        let all = all.into_iter().flatten();
        let tokens = all.clone().filter_map(|says| says.tokens).min()?;
        let mode = all.into_iter().find_map(|says| says.mode).unwrap_or_default();
        Some(ResultBudget { tokens: usize::try_from(tokens.max(LEAST)).unwrap_or(usize::MAX), mode })
    }

    /// Whether any result of this server may come in pages on a portal.
    pub fn gives_pages(&self, portal: &PortalSpec) -> bool {
        let pages =
            |tool: &str| self.result_budget(Some(portal), tool).is_some_and(|budget| budget.mode == LongResults::Page);
        pages("") || self.budgets.0.keys().any(|tool| pages(tool))
    }
}
