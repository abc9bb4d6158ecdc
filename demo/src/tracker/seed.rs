//! The tracker's first contents.

use super::{Budget, Comment, Issue, Project, State};

/// Bound of the demo's memory.
pub(super) const MOST_ISSUES: usize = 5_000;

/// User name, name, role.
pub(super) const MEMBERS: [(&str, &str, &str); 5] = [
    ("alice", "Alice Moreau", "engineer"),
    ("bob", "Bob Lindqvist", "finance partner"),
    ("carol", "Carol Osei", "support lead"),
    ("dmitri", "Dmitri Halvorsen", "engineer"),
    ("esra", "Esra Yalın", "product owner"),
];

const HOUR: i64 = 3_600_000;

/// Project, title, description, state, priority, assignee, labels, in sprint, age in hours.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static [&'static str],
    bool,
    i64,
);

const ISSUES: [Row; 14] = [
    (
        "WEB",
        "Basket empties after sign-in",
        "Guests lose their basket when they sign in on the payment page. Seen on \
      Safari and Firefox. The basket id of the guest session is not merged.",
        "in_progress",
        "urgent",
        Some("alice"),
        &["bug", "checkout"],
        true,
        30,
    ),
    (
        "WEB",
        "Show delivery date on product pages",
        "Support gets about 40 questions a week about delivery dates. Show \
      the earliest date next to the price.",
        "open",
        "high",
        Some("dmitri"),
        &["feature"],
        true,
        130,
    ),
    (
        "WEB",
        "Search ignores plural forms",
        "\"lamps\" finds 3 products, \"lamp\" finds 41.",
        "open",
        "medium",
        None,
        &["bug", "search"],
        false,
        400,
    ),
    (
        "WEB",
        "Images on the home page are not lazy",
        "First load transfers 6.2 MB on a phone.",
        "done",
        "medium",
        Some("alice"),
        &["performance"],
        true,
        520,
    ),
    (
        "WEB",
        "Cookie banner covers the basket button",
        "On screens below 360 px the banner cannot be closed.",
        "blocked",
        "high",
        Some("dmitri"),
        &["bug", "mobile"],
        true,
        75,
    ),
    (
        "WEB",
        "Gift cards",
        "Sell gift cards of 25, 50 and 100 euros. Needs a decision about expiry.",
        "open",
        "low",
        None,
        &["feature"],
        false,
        900,
    ),
    (
        "OPS",
        "Nightly backup took 5 h 40",
        "Usually 50 minutes. It overlaps with the morning import.",
        "in_progress",
        "high",
        Some("dmitri"),
        &["backup"],
        true,
        20,
    ),
    (
        "OPS",
        "Rotate the certificate of the warehouse API",
        "Expires at the end of the month.",
        "open",
        "urgent",
        Some("alice"),
        &["security"],
        true,
        48,
    ),
    (
        "OPS",
        "Alert when a queue is older than 10 minutes",
        "The order queue stood still for an hour on Saturday and \
      nobody noticed.",
        "open",
        "high",
        None,
        &["monitoring"],
        false,
        160,
    ),
    (
        "OPS",
        "Remove the old staging machines",
        "Two machines still run and cost 310 euros a month.",
        "done",
        "low",
        Some("dmitri"),
        &["cost"],
        false,
        1100,
    ),
    (
        "FIN",
        "Invoice numbers skip after a refund",
        "The auditor asked about 17 missing numbers in the third quarter.",
        "in_progress",
        "high",
        Some("bob"),
        &["invoices", "audit"],
        true,
        210,
    ),
    (
        "FIN",
        "Monthly export for the tax office",
        "CSV, one file per country, by the fifth working day.",
        "open",
        "medium",
        Some("bob"),
        &["export"],
        true,
        340,
    ),
    (
        "FIN",
        "Currency rounding in Swiss orders",
        "Totals differ by up to 0.04 francs.",
        "open",
        "medium",
        None,
        &["bug"],
        false,
        610,
    ),
    (
        "FIN",
        "Approve travel budgets above 1,000 euros in the tracker",
        "Today this is a spreadsheet.",
        "open",
        "low",
        None,
        &["process"],
        false,
        720,
    ),
];

/// Project and number of the issue, author, text, age in hours.
const COMMENTS: [(&str, u32, &str, &str, i64); 7] = [
    ("WEB", 1, "carol", "Six customers wrote since Monday, two of them cancelled.", 28),
    ("WEB", 1, "alice", "Found it: the merge runs before the session cookie is renewed. Fix is in review.", 6),
    ("WEB", 5, "dmitri", "Blocked: legal wants to see the new text first.", 50),
    ("OPS", 1, "dmitri", "The orders table doubled in size after the import of the archive.", 12),
    ("OPS", 2, "alice", "The new certificate is ordered.", 26),
    ("FIN", 1, "bob", "Refunds draw a number and give it back when they fail. That is the gap.", 100),
    ("FIN", 1, "esra", "Please keep the numbers and mark them void, the auditor accepts that.", 90),
];

pub(super) fn state(now_ms: i64) -> State {
    let projects = vec![
        Project {
            key: "WEB",
            name: "Web shop",
            lead: "esra",
            description: "The shop at the front: catalogue, basket, checkout",
            sprint: ("Sprint 42", "2026-11-16", "2026-11-27", "Nobody loses a basket any more"),
        },
        Project {
            key: "OPS",
            name: "Operations",
            lead: "dmitri",
            description: "Servers, backups, monitoring and certificates",
            sprint: ("November II", "2026-11-16", "2026-11-27", "Quiet nights"),
        },
        Project {
            key: "FIN",
            name: "Finance systems",
            lead: "bob",
            description: "Invoices, exports and budgets",
            sprint: ("Q4 close", "2026-11-09", "2026-12-04", "An audit without questions"),
        },
    ];
    let mut issues: Vec<Issue> = Vec::with_capacity(ISSUES.len());
    for (project, title, body, state, priority, assignee, labels, in_sprint, age) in ISSUES {
        let number = issues.iter().filter(|issue| issue.project == project).map(|issue| issue.number).max();
        issues.push(Issue {
            project: project.to_owned(),
            number: number.unwrap_or(0) + 1,
            title: title.to_owned(),
            body: body.to_owned(),
            state: state.to_owned(),
            priority: priority.to_owned(),
            assignee: assignee.map(str::to_owned),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            in_sprint,
            created_ms: now_ms - age * HOUR,
            updated_ms: now_ms - age * HOUR / 2,
            comments: Vec::new(),
        });
    }
    for (project, number, author, body, age) in COMMENTS {
        let at_ms = now_ms - age * HOUR;
        if let Some(issue) = issues.iter_mut().find(|issue| issue.project == project && issue.number == number) {
            issue.comments.push(Comment { author: author.to_owned(), at_ms, body: body.to_owned() });
        }
    }
    let budgets = vec![Budget {
        project: "OPS".to_owned(),
        amount: 480,
        reason: "Second disk for the backup machine".to_owned(),
        at_ms: now_ms - 200 * HOUR,
    }];
    State { projects, issues, budgets }
}
