//! Tools and prompts of the code host.

use bartizan_model::ToolClass::{Destructive, Read, Write};
use serde_json::{Value, json};

use crate::app::{Prompt, Tool, limit, number, object, one_of, text};

fn repository() -> Value {
    text("Repository name, e.g. shop-web")
}

fn pull_number() -> Value {
    number("Number of the pull request", 1, 1_000_000)
}

fn branch() -> Value {
    text("Branch name, e.g. fix/basket-merge")
}

pub(super) fn tools() -> Vec<Tool> {
    let mut tools = reading();
    tools.extend(writing());
    tools
}

fn reading() -> Vec<Tool> {
    vec![
        Tool::new(
            Read,
            "list_repositories",
            "List repositories",
            "Lists all repositories with language and number of open pull requests.",
            object([]),
        ),
        Tool::new(
            Read,
            "list_files",
            "List files",
            "Lists the files on a repository's main branch.",
            object([("!repository", repository())]),
        ),
        Tool::new(
            Read,
            "get_file",
            "Get file",
            "Returns the text of a file on the main branch.",
            object([("!repository", repository()), ("!path", text("Path of the file, e.g. src/basket.ts"))]),
        ),
        Tool::new(
            Read,
            "search_code",
            "Search code",
            "Finds lines that hold all given words.",
            object([
                ("!query", text("Words that must all occur in one line")),
                ("repository", repository()),
                ("limit", limit()),
            ]),
        )
        .returns(json!({"type": "object", "properties": {"hits": {"type": "array"}}, "required": ["hits"]})),
        Tool::new(
            Read,
            "list_commits",
            "List commits",
            "Lists the commits of the main branch, newest first.",
            object([("!repository", repository()), ("limit", limit())]),
        ),
        Tool::new(
            Read,
            "list_pull_requests",
            "List pull requests",
            "Lists pull requests, by default the open ones of all repositories.",
            object([
                ("repository", repository()),
                ("state", one_of("Default: open", &["open", "merged", "closed", "all"])),
            ]),
        ),
        Tool::new(
            Read,
            "get_pull_request",
            "Get pull request",
            "Returns a pull request with its description and comments.",
            object([("!repository", repository()), ("!number", pull_number())]),
        ),
    ]
}

fn writing() -> Vec<Tool> {
    vec![
        Tool::new(
            Write,
            "create_branch",
            "Create branch",
            "Creates a branch from main.",
            object([("!repository", repository()), ("!branch", branch())]),
        ),
        Tool::new(
            Write,
            "open_pull_request",
            "Open pull request",
            "Proposes a branch for main.",
            object([
                ("!repository", repository()),
                ("!branch", branch()),
                ("!title", text("One line")),
                ("body", text("Description in Markdown")),
            ]),
        ),
        Tool::new(
            Write,
            "comment_pull_request",
            "Comment on pull request",
            "Adds a comment to a pull request.",
            object([("!repository", repository()), ("!number", pull_number()), ("!body", text("Comment in Markdown"))]),
        ),
        Tool::new(
            Write,
            "merge_pull_request",
            "Merge pull request",
            "Merges an open pull request into main.",
            object([("!repository", repository()), ("!number", pull_number())]),
        ),
        // Left without annotations on purpose: many real servers say nothing.
        Tool::new(
            Write,
            "run_checks",
            "Run checks",
            "Builds and tests a branch and reports each step as it goes.",
            object([("!repository", repository()), ("branch", branch())]),
        )
        .without_annotations(),
        Tool::new(
            Destructive,
            "delete_branch",
            "Delete branch",
            "Deletes a branch. Commits that are on no other branch are lost.",
            object([("!repository", repository()), ("!branch", branch())]),
        ),
    ]
}

pub(super) fn prompts() -> Vec<Prompt> {
    vec![Prompt {
        name: "review_pull_request",
        title: "Review a pull request",
        description: "Reads a pull request and lists faults by severity",
        arguments: vec![
            ("repository", "Repository name, e.g. shop-web", true),
            ("number", "Number of the pull request", true),
        ],
    }]
}
