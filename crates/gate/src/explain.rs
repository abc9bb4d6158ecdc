//! What each stage would say (feature row U6): the same functions, in the same
//! order, over an exchange that counts, records and forwards nothing.

use std::sync::Arc;

use bartizan_model::ReasonCode;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::call::{GovernedCall, Signals};
use crate::exchange::{Answer, Exchange, Reject};
use crate::gate::Inner;
use crate::pipeline;
use crate::run;
use crate::stages::Stage;

/// One stage and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageVerdict {
    /// Name of the stage.
    pub stage: &'static str,
    /// False for the stage that refuses; nothing follows it.
    pub pass: bool,
    /// Refusal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ReasonCode>,
    /// Deciding rule or limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// False when the caller would only be told "unknown".
    pub visible: bool,
    /// What the stage found, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Runs the stages without effects.
pub(crate) async fn run(gate: &Arc<Inner>, call: GovernedCall) -> Vec<StageVerdict> {
    let (output, _unread) = mpsc::channel(1);
    let mut x = run::exchange(gate, call, output, Arc::new(Signals::default()), true);
    let mut verdicts = Vec::with_capacity(pipeline::ORDER.len());
    for stage in pipeline::ORDER {
        match pipeline::step(stage, &mut x).await {
            Ok(()) => verdicts.push(passed(stage, &x)),
            Err(reject) => {
                verdicts.push(refused(stage, reject));
                break;
            }
        }
    }
    verdicts
}

fn passed(stage: Stage, x: &Exchange) -> StageVerdict {
    let route = x.route.as_ref();
    let rule = (stage == Stage::Authorize).then(|| x.finish.rule.clone()).flatten();
    let detail = match stage {
        Stage::Route => route.map(|route| match route.server() {
            Some(spec) => format!("{} on server {} (class {})", route.name, spec.id, route.class.as_str()),
            None => format!("{}, a tool of the portal", route.name),
        }),
        Stage::Credential => x.identity.as_ref().map(|identity| format!("goes upstream as {identity}")),
        Stage::Intend => {
            route.filter(|route| route.class.needs_grant()).map(|_| "an intent is written first".to_owned())
        }
        Stage::Limit => {
            let ids = super::stages::limit::applicable(x);
            (!ids.is_empty()).then(|| format!("counted by {}", ids.join(", ")))
        }
        _ => None,
    };
    StageVerdict { stage: stage.as_str(), pass: true, code: None, rule, visible: true, detail }
}

fn refused(stage: Stage, reject: Reject) -> StageVerdict {
    StageVerdict {
        stage: stage.as_str(),
        pass: false,
        code: reject.code,
        rule: reject.rule,
        visible: !matches!(reject.answer, Answer::NotFound(_)),
        detail: reject.note,
    }
}
