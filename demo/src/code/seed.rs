//! The code host's first contents.

use std::collections::BTreeMap;

use super::{Commit, Pull, Repository};

const HOUR: i64 = 3_600_000;

const WEB: [(&str, &str); 4] = [
    (
        "README.md",
        "# shop-web\n\nThe front of the shop. `npm run dev` starts it on port 3000.\n\nReleases: see the wiki page `how-we-release`.\n",
    ),
    (
        "package.json",
        "{\n  \"name\": \"shop-web\",\n  \"private\": true,\n  \"scripts\": { \"dev\": \"vite\", \"test\": \"vitest run\" }\n}\n",
    ),
    (
        "src/basket.ts",
        "import { session } from './session';\n\nexport async function mergeBaskets(guest: string, user: string) {\n  // TODO(alice): renew the cookie before the merge, see WEB-1\n  const items = await session.items(guest);\n  for (const item of items) {\n    await session.add(user, item);\n  }\n}\n",
    ),
    (
        "src/search.ts",
        "export function normalise(query: string): string[] {\n  // Plural forms are not handled, see WEB-3\n  return query.toLowerCase().split(/\\s+/).filter(Boolean);\n}\n",
    ),
];

const ORDERS: [(&str, &str); 3] = [
    ("README.md", "# orders\n\nTakes orders, writes invoices. The only service that may touch invoice numbers.\n"),
    ("Cargo.toml", "[package]\nname = \"orders\"\nversion = \"3.8.1\"\nedition = \"2024\"\n"),
    (
        "src/invoice.rs",
        "/// The next free number. Never reuse one: a void number stays void (FIN-1).\npub fn next_number(last: u64) -> u64 {\n    last + 1\n}\n",
    ),
];

const INFRA: [(&str, &str); 3] = [
    ("README.md", "# infra\n\nMachines, backups and alerts as files.\n"),
    ("backup/nightly.yaml", "schedule: \"15 2 * * *\"\nkeep_days: 35\ntables: [orders, invoices, customers]\n"),
    ("alerts/queue.yaml", "# proposed in OPS-3, not active yet\nalert: OrderQueueOld\nwhen: queue_age_seconds > 600\n"),
];

/// Twelve hex digits that look like the beginning of a commit id.
pub(super) fn commit_id(at_ms: i64, message: &str) -> String {
    let start = 0xcbf2_9ce4_8422_2325_u64 ^ at_ms.unsigned_abs();
    let mixed = message.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{:012x}", mixed & 0xffff_ffff_ffff)
}

fn commits(now_ms: i64, rows: &[(&str, i64, &str)]) -> Vec<Commit> {
    let commit = |(author, age, message): &(&str, i64, &str)| {
        let at_ms = now_ms - age * HOUR;
        Commit { id: commit_id(at_ms, message), author: (*author).to_owned(), at_ms, message: (*message).to_owned() }
    };
    rows.iter().map(commit).collect()
}

fn branches(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pull(
    number: u32,
    author: &str,
    branch: &str,
    state: &'static str,
    created_ms: i64,
    title: &str,
    body: &str,
) -> Pull {
    Pull {
        number,
        title: title.to_owned(),
        body: body.to_owned(),
        author: author.to_owned(),
        branch: branch.to_owned(),
        state,
        created_ms,
        comments: Vec::new(),
    }
}

pub(super) fn repositories(now_ms: i64) -> Vec<Repository> {
    let mut web_pulls = vec![
        pull(118, "dmitri", "perf/lazy-images", "merged", now_ms - 500 * HOUR, "Load images when they are seen", ""),
        pull(
            121,
            "alice",
            "fix/basket-merge",
            "open",
            now_ms - 5 * HOUR,
            "Renew the session cookie before merging baskets",
            "Fixes WEB-1. The guest basket is now read after the cookie was renewed.",
        ),
    ];
    if let Some(open) = web_pulls.last_mut() {
        open.comments.push(("dmitri".to_owned(), "Please add a test for two open tabs.".to_owned()));
    }
    vec![
        Repository {
            name: "shop-web",
            description: "Front of the shop",
            language: "TypeScript",
            files: BTreeMap::from(WEB),
            branches: branches(&["main", "fix/basket-merge", "feature/delivery-date"]),
            commits: commits(
                now_ms,
                &[
                    ("dmitri", 20, "Delivery date: first sketch behind a switch"),
                    ("alice", 44, "Session: split reading from renewing"),
                    ("dmitri", 490, "Merge #118: Load images when they are seen"),
                ],
            ),
            pulls: web_pulls,
        },
        Repository {
            name: "orders",
            description: "Orders and invoices",
            language: "Rust",
            files: BTreeMap::from(ORDERS),
            branches: branches(&["main", "fix/void-numbers"]),
            commits: commits(
                now_ms,
                &[("alice", 70, "Release 3.8.1"), ("bob", 96, "Document that numbers are never reused")],
            ),
            pulls: vec![pull(
                64,
                "bob",
                "fix/void-numbers",
                "open",
                now_ms - 26 * HOUR,
                "Mark invoice numbers of failed refunds as void",
                "For FIN-1. The auditor accepts void numbers.",
            )],
        },
        Repository {
            name: "infra",
            description: "Machines, backups and alerts",
            language: "YAML",
            files: BTreeMap::from(INFRA),
            branches: branches(&["main"]),
            commits: commits(now_ms, &[("dmitri", 12, "Backup: keep 35 days")]),
            pulls: Vec::new(),
        },
    ]
}
