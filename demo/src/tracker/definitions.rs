//! Tools and prompts of the tracker.

use bartizan_model::ToolClass::{Destructive, Read, Write};
use serde_json::json;

use crate::app::{Prompt, Tool, limit, number, object, one_of, text, texts};

const STATES: [&str; 4] = ["open", "in_progress", "blocked", "done"];
const PRIORITIES: [&str; 4] = ["low", "medium", "high", "urgent"];

pub(super) fn tools() -> Vec<Tool> {
    let mut tools = reading();
    tools.extend(writing());
    tools
}

fn reading() -> Vec<Tool> {
    let issue = || object([("!issue", text("Issue key, e.g. WEB-2"))]);
    vec![
        Tool::new(
            Read,
            "list_projects",
            "List projects",
            "Lists all projects with their key, lead and number of open issues.",
            object([]),
        )
        .returns(json!({"type": "object", "properties": {"projects": {"type": "array"}}, "required": ["projects"]})),
        Tool::new(
            Read,
            "search_issues",
            "Search issues",
            "Finds issues by words in key, title, description or labels, and by project, state and assignee. \
             Without arguments it lists everything.",
            object([
                ("query", text("Words that must all occur")),
                ("project", text("Project key, e.g. WEB")),
                ("state", one_of("Only issues in this state", &STATES)),
                ("assignee", text("User name, e.g. alice")),
                ("limit", limit()),
            ]),
        )
        .returns(json!({"type": "object",
            "properties": {"total": {"type": "integer"}, "issues": {"type": "array"}}, "required": ["total", "issues"]})),
        Tool::new(Read, "get_issue", "Get issue", "Returns one issue with its description.", issue()),
        Tool::new(Read, "list_comments", "List comments", "Returns the comments of an issue, oldest first.", issue()),
        Tool::new(
            Read,
            "get_sprint",
            "Get running sprint",
            "Returns name, dates, goal and issues of a project's running sprint.",
            object([("!project", text("Project key, e.g. WEB"))]),
        ),
        Tool::new(Read, "list_members", "List members", "Lists the people who can be assigned to issues.", object([])),
        Tool::new(
            Read,
            "list_budget_requests",
            "List budget requests",
            "Lists the budget requests submitted so far, in euros.",
            object([]),
        ),
    ]
}

fn writing() -> Vec<Tool> {
    vec![
        Tool::new(
            Write,
            "create_issue",
            "Create issue",
            "Creates an issue in a project and returns its key.",
            object([
                ("!project", text("Project key, e.g. WEB")),
                ("!title", text("One line that says what is wrong or wanted")),
                ("description", text("Details in Markdown")),
                ("priority", one_of("Default: medium", &PRIORITIES)),
                ("labels", texts("Labels, e.g. bug")),
            ]),
        ),
        Tool::new(
            Write,
            "update_issue",
            "Update issue",
            "Changes title, description, state or priority of an issue. Members that are not given stay.",
            object([
                ("!issue", text("Issue key, e.g. WEB-2")),
                ("title", text("New title")),
                ("description", text("New description in Markdown")),
                ("state", one_of("New state", &STATES)),
                ("priority", one_of("New priority", &PRIORITIES)),
            ]),
        ),
        Tool::new(
            Write,
            "assign_issue",
            "Assign issue",
            "Makes a member responsible for an issue.",
            object([("!issue", text("Issue key, e.g. WEB-2")), ("!assignee", text("User name, e.g. alice"))]),
        ),
        Tool::new(
            Write,
            "add_comment",
            "Add comment",
            "Adds a comment to an issue.",
            object([("!issue", text("Issue key, e.g. WEB-2")), ("!body", text("Comment in Markdown"))]),
        ),
        Tool::new(
            Write,
            "request_budget",
            "Request budget",
            "Submits a request for money for a project.",
            object([
                ("!project", text("Project key, e.g. WEB")),
                ("!amount", number("Whole euros", 1, 1_000_000)),
                ("!reason", text("What the money is for")),
            ]),
        ),
        Tool::new(
            Destructive,
            "delete_issue",
            "Delete issue",
            "Deletes an issue with all its comments. This cannot be undone.",
            object([("!issue", text("Issue key, e.g. WEB-2"))]),
        ),
    ]
}

pub(super) fn prompts() -> Vec<Prompt> {
    vec![
        Prompt {
            name: "sprint_report",
            title: "Sprint report",
            description: "A short report of a project's running sprint",
            arguments: vec![("project", "Project key, e.g. WEB", true)],
        },
        Prompt {
            name: "triage",
            title: "Triage",
            description: "Proposes priority and assignee for issues that have none",
            arguments: vec![("project", "Project key, e.g. WEB", true)],
        },
    ]
}
