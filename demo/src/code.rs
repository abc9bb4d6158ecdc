//! A code host: repositories, files, commits, branches and pull requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_model::Clock;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::app::{About, Answer, App, Args, Note, Output, Prompt, Reply, Tool, matches, starting_with, tail};
use crate::time::iso;

mod definitions;
mod seed;

/// Bounds of the demo's memory.
const MOST_BRANCHES: usize = 200;
const MOST_PULLS: usize = 1_000;

struct Repository {
    name: &'static str,
    description: &'static str,
    language: &'static str,
    files: BTreeMap<&'static str, &'static str>,
    branches: Vec<String>,
    commits: Vec<Commit>,
    pulls: Vec<Pull>,
}

struct Commit {
    id: String,
    author: String,
    at_ms: i64,
    message: String,
}

struct Pull {
    number: u32,
    title: String,
    body: String,
    author: String,
    branch: String,
    state: &'static str,
    created_ms: i64,
    comments: Vec<(String, String)>,
}

impl Repository {
    fn pull(&self, pull: &Pull) -> Value {
        json!({
            "repository": self.name, "number": pull.number, "title": pull.title, "author": pull.author,
            "branch": pull.branch, "state": pull.state, "created": iso(pull.created_ms),
        })
    }

    fn find_pull(&mut self, args: Args<'_>) -> Result<&mut Pull, String> {
        let number = args.number("number").unwrap_or_default();
        let name = self.name;
        let found = self.pulls.iter_mut().find(|pull| i64::from(pull.number) == number);
        found.ok_or_else(|| format!("{name} has no pull request {number}"))
    }
}

/// The server.
pub(crate) struct CodeHost {
    clock: Arc<dyn Clock>,
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    repositories: Mutex<Vec<Repository>>,
    notes: broadcast::Sender<Note>,
}

impl CodeHost {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let repositories = Mutex::new(seed::repositories(clock.now_ms()));
        let notes = broadcast::Sender::new(64);
        Self { clock, tools: definitions::tools(), prompts: definitions::prompts(), repositories, notes }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Repository>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, args: Args<'_>, work: impl FnOnce(&mut Repository) -> Reply) -> Reply {
        let name = args.required("repository");
        match self.lock().iter_mut().find(|repository| repository.name == name) {
            Some(repository) => work(repository),
            None => Output::error(format!("there is no repository {name}; list_repositories shows all")),
        }
    }

    fn list_repositories(&self) -> Reply {
        let repositories = self.lock();
        let all: Vec<Value> = repositories
            .iter()
            .map(|r| {
                let open = r.pulls.iter().filter(|pull| pull.state == "open").count();
                json!({"name": r.name, "description": r.description, "language": r.language,
                    "branches": r.branches.len(), "open_pull_requests": open})
            })
            .collect();
        Output::data(json!({"repositories": all}))
    }

    fn search_code(&self, args: Args<'_>) -> Reply {
        let repositories = self.lock();
        let mut hits = Vec::new();
        for repository in repositories.iter() {
            if args.text("repository").is_some_and(|wanted| wanted != repository.name) {
                continue;
            }
            for (path, contents) in &repository.files {
                let lines = contents.lines().enumerate().filter(|(_, line)| matches(args.required("query"), line));
                hits.extend(lines.map(|(line, text)| {
                    json!({"repository": repository.name, "path": path, "line": line + 1, "text": text.trim()})
                }));
            }
        }
        hits.truncate(args.limit());
        Output::data(json!({"hits": hits}))
    }

    fn list_pull_requests(&self, args: Args<'_>) -> Reply {
        let repositories = self.lock();
        let state = args.text("state").unwrap_or("open");
        let pulls: Vec<Value> = repositories
            .iter()
            .filter(|r| args.text("repository").is_none_or(|wanted| wanted == r.name))
            .flat_map(|r| r.pulls.iter().filter(|pull| state == "all" || pull.state == state).map(|p| r.pull(p)))
            .collect();
        Output::data(json!({"pull_requests": pulls}))
    }

    fn open_pull_request(&self, args: Args<'_>) -> Reply {
        let created_ms = self.clock.now_ms();
        self.with(args, |repository| {
            let branch = args.required("branch");
            if branch == "main" || !repository.branches.iter().any(|known| known == branch) {
                return Output::error(format!("there is no branch {branch} to propose"));
            }
            if repository.pulls.len() >= MOST_PULLS {
                return Output::error("this demo keeps at most 1,000 pull requests");
            }
            let number = repository.pulls.iter().map(|pull| pull.number).max().unwrap_or(0) + 1;
            let pull = Pull {
                number,
                title: args.required("title").to_owned(),
                body: args.text("body").unwrap_or_default().to_owned(),
                author: "you".to_owned(),
                branch: branch.to_owned(),
                state: "open",
                created_ms,
                comments: Vec::new(),
            };
            let answer = repository.pull(&pull);
            repository.pulls.push(pull);
            Output::data(answer)
        })
    }

    fn merge_pull_request(&self, args: Args<'_>) -> Reply {
        let at_ms = self.clock.now_ms();
        self.with(args, |repository| {
            let pull = match repository.find_pull(args) {
                Ok(pull) if pull.state == "open" => pull,
                Ok(pull) => return Output::error(format!("pull request {} is {}", pull.number, pull.state)),
                Err(problem) => return Output::error(problem),
            };
            pull.state = "merged";
            let message = format!("Merge #{}: {}", pull.number, pull.title);
            let commit = Commit { id: seed::commit_id(at_ms, &message), author: "you".to_owned(), at_ms, message };
            let answer = json!({"repository": repository.name, "commit": commit.id, "message": commit.message});
            repository.commits.insert(0, commit);
            repository.commits.truncate(500);
            Output::data(answer)
        })
    }

    fn create_branch(&self, args: Args<'_>) -> Reply {
        self.with(args, |repository| {
            let name = args.required("branch");
            let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_/.".contains(c)) && name.len() <= 100;
            if !legal || repository.branches.iter().any(|known| known == name) {
                return Output::error(format!("branch {name} exists already or is not a legal name"));
            }
            if repository.branches.len() >= MOST_BRANCHES {
                return Output::error("this demo keeps at most 200 branches per repository");
            }
            repository.branches.push(name.to_owned());
            Output::data(json!({"repository": repository.name, "branch": name}))
        })
    }

    fn delete_branch(&self, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply {
        self.with(args, |repository| {
            let name = args.required("branch");
            let place = repository.branches.iter().position(|known| known == name && known != "main");
            let Some(place) = place else {
                return Output::error(format!("there is no branch {name} that may be deleted"));
            };
            match answer {
                Answer::None if can_ask => {
                    return Reply::Confirm(format!("Delete branch {name} of {}?", repository.name));
                }
                Answer::No => return Output::text(format!("{name} was kept")),
                Answer::None | Answer::Yes => {}
            }
            repository.branches.remove(place);
            Output::text(format!("{name} was deleted"))
        })
    }

    fn run_checks(&self, args: Args<'_>) -> Reply {
        self.with(args, |repository| {
            let branch = args.text("branch").unwrap_or("main");
            if !repository.branches.iter().any(|known| known == branch) {
                return Output::error(format!("there is no branch {branch}"));
            }
            let steps = ["fetch", "build", "unit tests", "lint"].map(str::to_owned).to_vec();
            let structured = json!({"repository": repository.name, "branch": branch, "result": "passed"});
            let text = format!("all checks of {}@{branch} passed", repository.name);
            Reply::Done(Output { text, structured: Some(structured), error: false, steps })
        })
    }
}

impl App for CodeHost {
    fn about(&self) -> About {
        About {
            id: "code",
            name: "demo-code",
            title: "Code host",
            instructions: "Repositories of the web shop. Read a file before you quote it.",
        }
    }

    fn tools(&self) -> &[Tool] {
        &self.tools
    }

    fn call(&self, name: &str, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply {
        match name {
            "list_repositories" => self.list_repositories(),
            "list_files" => self.with(args, |r| {
                let files: Vec<Value> = r.files.iter().map(|(p, c)| json!({"path": p, "bytes": c.len()})).collect();
                Output::data(json!({"repository": r.name, "files": files}))
            }),
            "get_file" => self.with(args, |r| match r.files.get(args.required("path")) {
                Some(contents) => Output::text(*contents),
                None => Output::error(format!("{} has no file {}", r.name, args.required("path"))),
            }),
            "search_code" => self.search_code(args),
            "list_commits" => self.with(args, |r| {
                let commits = r.commits.iter().take(args.limit());
                let commits: Vec<Value> = commits
                    .map(|c| json!({"id": c.id, "author": c.author, "at": iso(c.at_ms), "message": c.message}))
                    .collect();
                Output::data(json!({"repository": r.name, "commits": commits}))
            }),
            "list_pull_requests" => self.list_pull_requests(args),
            "get_pull_request" => self.with(args, |r| {
                let (body, comments) = match r.find_pull(args) {
                    Ok(pull) => (pull.body.clone(), pull.comments.clone()),
                    Err(problem) => return Output::error(problem),
                };
                let number = args.number("number").unwrap_or_default();
                let summary = r.pulls.iter().find(|p| i64::from(p.number) == number).map(|p| r.pull(p));
                let comments: Vec<Value> =
                    comments.iter().map(|(author, body)| json!({"author": author, "body": body})).collect();
                Output::data(json!({"pull_request": summary, "body": body, "comments": comments}))
            }),
            "create_branch" => self.create_branch(args),
            "open_pull_request" => self.open_pull_request(args),
            "comment_pull_request" => self.with(args, |r| match r.find_pull(args) {
                Ok(pull) if pull.comments.len() < 500 => {
                    pull.comments.push(("you".to_owned(), args.required("body").to_owned()));
                    Output::data(json!({"number": pull.number, "comments": pull.comments.len()}))
                }
                Ok(_) => Output::error("this pull request has 500 comments; no more are kept"),
                Err(problem) => Output::error(problem),
            }),
            "merge_pull_request" => self.merge_pull_request(args),
            "run_checks" => self.run_checks(args),
            "delete_branch" => self.delete_branch(args, can_ask, answer),
            _ => Output::error("not implemented"),
        }
    }

    fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    fn prompt(&self, _name: &str, args: Args<'_>) -> Result<String, String> {
        let name = args.required("repository");
        if !self.lock().iter().any(|repository| repository.name == name) {
            return Err(format!("there is no repository {name}"));
        }
        let number = args.required("number");
        Ok(format!(
            "Review pull request {number} of {name}: read it with get_pull_request, read the files it concerns, and list \
             faults by severity. Do not comment on it before I agree."
        ))
    }

    fn resources(&self) -> Vec<Value> {
        let repositories = self.lock();
        let all = repositories.iter().map(|r| {
            json!({"uri": format!("code://{}/README.md", r.name), "name": format!("{}/README.md", r.name),
                "title": r.description, "mimeType": "text/markdown"})
        });
        all.collect()
    }

    fn templates(&self) -> Vec<Value> {
        vec![json!({"uriTemplate": "code://{repository}/{+path}", "name": "file", "title": "One file",
            "description": "A file of a repository's main branch", "mimeType": "text/plain"})]
    }

    fn read(&self, uri: &str) -> Option<(&'static str, String)> {
        let (name, path) = tail(uri, "code://")?.split_once('/')?;
        let repositories = self.lock();
        let contents = repositories.iter().find(|repository| repository.name == name)?.files.get(path)?;
        let mime = if path.ends_with(".md") { "text/markdown" } else { "text/plain" };
        Some((mime, (*contents).to_owned()))
    }

    fn complete(&self, argument: &str, prefix: &str) -> Vec<String> {
        let repositories = self.lock();
        match argument {
            "repository" => starting_with(prefix, repositories.iter().map(|repository| repository.name)),
            "path" => {
                starting_with(prefix, repositories.iter().flat_map(|repository| repository.files.keys().copied()))
            }
            _ => Vec::new(),
        }
    }

    fn notes(&self) -> broadcast::Receiver<Note> {
        self.notes.subscribe()
    }
}
