//! A project tracker: projects, issues, comments and small budget requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_model::Clock;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::app::{About, Answer, App, Args, Note, Output, Prompt, Reply, Tool, matches, starting_with, tail};
use crate::time::iso;

mod definitions;
mod seed;

/// Everything the tracker knows.
struct State {
    projects: Vec<Project>,
    issues: Vec<Issue>,
    budgets: Vec<Budget>,
}

struct Project {
    key: &'static str,
    name: &'static str,
    lead: &'static str,
    description: &'static str,
    /// Name, first and last day, goal of the running sprint.
    sprint: (&'static str, &'static str, &'static str, &'static str),
}

struct Issue {
    project: String,
    number: u32,
    title: String,
    body: String,
    state: String,
    priority: String,
    assignee: Option<String>,
    labels: Vec<String>,
    in_sprint: bool,
    created_ms: i64,
    updated_ms: i64,
    comments: Vec<Comment>,
}

struct Comment {
    author: String,
    at_ms: i64,
    body: String,
}

struct Budget {
    project: String,
    amount: i64,
    reason: String,
    at_ms: i64,
}

impl Issue {
    fn key(&self) -> String {
        format!("{}-{}", self.project, self.number)
    }

    fn summary(&self) -> Value {
        json!({
            "key": self.key(), "title": self.title, "state": self.state, "priority": self.priority,
            "assignee": self.assignee, "labels": self.labels, "updated": iso(self.updated_ms),
        })
    }

    fn full(&self) -> Value {
        let mut value = self.summary();
        if let Some(members) = value.as_object_mut() {
            members.insert("project".into(), self.project.as_str().into());
            members.insert("created".into(), iso(self.created_ms).into());
            members.insert("description".into(), self.body.as_str().into());
            members.insert("comments".into(), self.comments.len().into());
        }
        value
    }
}

/// The server.
pub(crate) struct Tracker {
    clock: Arc<dyn Clock>,
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    state: Mutex<State>,
    notes: broadcast::Sender<Note>,
}

impl Tracker {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let state = Mutex::new(seed::state(clock.now_ms()));
        let notes = broadcast::Sender::new(64);
        Self { clock, tools: definitions::tools(), prompts: definitions::prompts(), state, notes }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, key: &str) {
        // Nobody listening is not an error.
        let _ = self.notes.send(Note::Updated(format!("tracker://issues/{key}")));
    }

    fn list_projects(&self) -> Reply {
        let state = self.lock();
        let projects: Vec<Value> = state.projects.iter().map(|project| project_value(&state, project)).collect();
        Output::data(json!({"projects": projects}))
    }

    fn search_issues(&self, args: Args<'_>) -> Reply {
        let state = self.lock();
        let same = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        let found: Vec<&Issue> = state
            .issues
            .iter()
            .filter(|issue| same(args.text("project"), &issue.project))
            .filter(|issue| same(args.text("state"), &issue.state))
            .filter(|issue| args.text("assignee").is_none_or(|who| issue.assignee.as_deref() == Some(who)))
            .filter(|issue| {
                let text = format!("{} {} {} {}", issue.key(), issue.title, issue.body, issue.labels.join(" "));
                args.text("query").is_none_or(|query| matches(query, &text))
            })
            .collect();
        let shown: Vec<Value> = found.iter().take(args.limit()).map(|issue| issue.summary()).collect();
        Output::data(json!({"total": found.len(), "issues": shown}))
    }

    fn get_sprint(&self, args: Args<'_>) -> Reply {
        let state = self.lock();
        let key = args.required("project");
        let Some(project) = state.projects.iter().find(|project| project.key == key) else {
            return Output::error(format!("there is no project {key}"));
        };
        let (name, from, to, goal) = project.sprint;
        let issues = state.issues.iter().filter(|issue| issue.project == key && issue.in_sprint);
        let issues: Vec<Value> = issues.map(Issue::summary).collect();
        Output::data(json!({"name": name, "from": from, "to": to, "goal": goal, "issues": issues}))
    }

    fn list_members(&self) -> Reply {
        let members: Vec<Value> =
            seed::MEMBERS.iter().map(|(user, name, role)| json!({"user": user, "name": name, "role": role})).collect();
        Output::data(json!({"members": members}))
    }

    fn list_budget_requests(&self) -> Reply {
        let state = self.lock();
        let requests: Vec<Value> = state
            .budgets
            .iter()
            .map(|b| json!({"project": b.project, "amount": b.amount, "reason": b.reason, "at": iso(b.at_ms)}))
            .collect();
        Output::data(json!({"currency": "EUR", "requests": requests}))
    }

    /// Runs `work` on an issue, or says that it does not exist.
    fn with_issue(&self, key: &str, work: impl FnOnce(&mut Issue) -> Reply) -> Reply {
        let mut state = self.lock();
        match state.issues.iter_mut().find(|issue| issue.key() == key) {
            Some(issue) => work(issue),
            None => Output::error(format!("there is no issue {key}")),
        }
    }

    fn create_issue(&self, args: Args<'_>) -> Reply {
        let now = self.clock.now_ms();
        let project = args.required("project").to_owned();
        let mut state = self.lock();
        if !state.projects.iter().any(|known| known.key == project) {
            return Output::error(format!("there is no project {project}"));
        }
        if state.issues.len() >= seed::MOST_ISSUES {
            return Output::error("this demo keeps at most 5,000 issues");
        }
        let last = state.issues.iter().filter(|issue| issue.project == project).map(|issue| issue.number).max();
        let issue = Issue {
            project,
            number: last.unwrap_or(0) + 1,
            title: args.required("title").to_owned(),
            body: args.text("description").unwrap_or_default().to_owned(),
            state: "open".to_owned(),
            priority: args.text("priority").unwrap_or("medium").to_owned(),
            assignee: None,
            labels: args.texts("labels"),
            in_sprint: false,
            created_ms: now,
            updated_ms: now,
            comments: Vec::new(),
        };
        let answer = issue.full();
        state.issues.push(issue);
        drop(state);
        let _ = self.notes.send(Note::ResourceList);
        Output::data(answer)
    }

    fn update_issue(&self, args: Args<'_>) -> Reply {
        let now = self.clock.now_ms();
        let key = args.required("issue");
        let reply = self.with_issue(key, |issue| {
            let set = |place: &mut String, name: &str| {
                if let Some(value) = args.text(name) {
                    value.clone_into(place);
                }
            };
            set(&mut issue.title, "title");
            set(&mut issue.body, "description");
            set(&mut issue.state, "state");
            set(&mut issue.priority, "priority");
            issue.updated_ms = now;
            Output::data(issue.full())
        });
        self.changed(key);
        reply
    }

    fn assign_issue(&self, args: Args<'_>) -> Reply {
        let who = args.required("assignee");
        if !seed::MEMBERS.iter().any(|(user, ..)| *user == who) {
            return Output::error(format!("there is no member {who}; list_members shows all"));
        }
        let (key, now) = (args.required("issue"), self.clock.now_ms());
        let reply = self.with_issue(key, |issue| {
            issue.assignee = Some(who.to_owned());
            issue.updated_ms = now;
            Output::data(issue.summary())
        });
        self.changed(key);
        reply
    }

    fn add_comment(&self, args: Args<'_>) -> Reply {
        let (key, now) = (args.required("issue"), self.clock.now_ms());
        let reply = self.with_issue(key, |issue| {
            if issue.comments.len() >= 1000 {
                return Output::error("this issue has 1,000 comments; no more are kept");
            }
            let body = args.required("body").to_owned();
            issue.comments.push(Comment { author: "you".to_owned(), at_ms: now, body });
            issue.updated_ms = now;
            Output::data(json!({"issue": issue.key(), "comments": issue.comments.len()}))
        });
        self.changed(key);
        reply
    }

    fn request_budget(&self, args: Args<'_>) -> Reply {
        let mut state = self.lock();
        let (project, amount) = (args.required("project").to_owned(), args.number("amount").unwrap_or_default());
        if !state.projects.iter().any(|known| known.key == project) {
            return Output::error(format!("there is no project {project}"));
        }
        let answer = json!({"project": project, "amount": amount, "currency": "EUR", "state": "submitted"});
        let reason = args.required("reason").to_owned();
        state.budgets.push(Budget { project, amount, reason, at_ms: self.clock.now_ms() });
        let excess = state.budgets.len().saturating_sub(1000);
        state.budgets.drain(..excess);
        Output::data(answer)
    }

    fn delete_issue(&self, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply {
        let key = args.required("issue");
        let mut state = self.lock();
        let Some(place) = state.issues.iter().position(|issue| issue.key() == key) else {
            return Output::error(format!("there is no issue {key}"));
        };
        match answer {
            Answer::None if can_ask => {
                return Reply::Confirm(format!("Delete {key} with all its comments? This cannot be undone."));
            }
            Answer::No => return Output::text(format!("{key} was kept")),
            Answer::None | Answer::Yes => {}
        }
        state.issues.remove(place);
        drop(state);
        let _ = self.notes.send(Note::ResourceList);
        Output::text(format!("{key} was deleted"))
    }
}

fn project_value(state: &State, project: &Project) -> Value {
    let open = state.issues.iter().filter(|issue| issue.project == project.key && issue.state != "done").count();
    json!({
        "key": project.key, "name": project.name, "lead": project.lead,
        "description": project.description, "open_issues": open,
    })
}

impl App for Tracker {
    fn about(&self) -> About {
        About {
            id: "tracker",
            name: "demo-tracker",
            title: "Project tracker",
            instructions: "Projects, issues and sprints of a small web shop. Search before you create an issue.",
        }
    }

    fn tools(&self) -> &[Tool] {
        &self.tools
    }

    fn call(&self, name: &str, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply {
        match name {
            "list_projects" => self.list_projects(),
            "search_issues" => self.search_issues(args),
            "get_issue" => self.with_issue(args.required("issue"), |issue| Output::data(issue.full())),
            "list_comments" => self.with_issue(args.required("issue"), |issue| {
                let comments: Vec<Value> = issue
                    .comments
                    .iter()
                    .map(|c| json!({"author": c.author, "at": iso(c.at_ms), "body": c.body}))
                    .collect();
                Output::data(json!({"issue": issue.key(), "comments": comments}))
            }),
            "get_sprint" => self.get_sprint(args),
            "list_members" => self.list_members(),
            "list_budget_requests" => self.list_budget_requests(),
            "create_issue" => self.create_issue(args),
            "update_issue" => self.update_issue(args),
            "assign_issue" => self.assign_issue(args),
            "add_comment" => self.add_comment(args),
            "request_budget" => self.request_budget(args),
            "delete_issue" => self.delete_issue(args, can_ask, answer),
            _ => Output::error("not implemented"),
        }
    }

    fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    fn prompt(&self, name: &str, args: Args<'_>) -> Result<String, String> {
        let project = args.required("project");
        if !self.lock().projects.iter().any(|known| known.key == project) {
            return Err(format!("there is no project {project}"));
        }
        Ok(match name {
            "sprint_report" => format!(
                "Write a short report of the running sprint of project {project}: read it with get_sprint, group the \
                 issues by state, name what is blocked and who works on it. No more than 150 words."
            ),
            _ => format!(
                "Go through the open issues of project {project} without assignee (search_issues), propose a priority \
                 and an assignee for each, and wait for my agreement before you change anything."
            ),
        })
    }

    fn resources(&self) -> Vec<Value> {
        let state = self.lock();
        let projects = state.projects.iter().map(|project| {
            json!({"uri": format!("tracker://projects/{}", project.key), "name": project.key, "title": project.name,
                "description": project.description, "mimeType": "application/json"})
        });
        projects.collect()
    }

    fn templates(&self) -> Vec<Value> {
        vec![json!({"uriTemplate": "tracker://issues/{issue}", "name": "issue", "title": "One issue",
            "description": "An issue with its comments, by key", "mimeType": "application/json"})]
    }

    fn read(&self, uri: &str) -> Option<(&'static str, String)> {
        let state = self.lock();
        let value = if let Some(key) = tail(uri, "tracker://projects/") {
            project_value(&state, state.projects.iter().find(|project| project.key == key)?)
        } else {
            let key = tail(uri, "tracker://issues/")?;
            state.issues.iter().find(|issue| issue.key() == key)?.full()
        };
        Some(("application/json", value.to_string()))
    }

    fn complete(&self, argument: &str, prefix: &str) -> Vec<String> {
        let state = self.lock();
        match argument {
            "project" => starting_with(prefix, state.projects.iter().map(|project| project.key)),
            "issue" => {
                let keys: Vec<String> = state.issues.iter().map(Issue::key).collect();
                starting_with(prefix, keys.iter().map(String::as_str))
            }
            _ => Vec::new(),
        }
    }

    fn notes(&self) -> broadcast::Receiver<Note> {
        self.notes.subscribe()
    }
}
