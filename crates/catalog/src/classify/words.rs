//! Words of tool names and what they say.

/// What a word, or a name, says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing.
    None,
    /// A verb that reads.
    Read(String),
    /// A verb that creates or changes.
    Write(String),
    /// A verb that removes.
    Destructive(String),
    /// A verb that runs whatever it is given.
    Runs(String),
    /// Two verbs that do not go together.
    Mixed(String, String),
}

const READ: &[&str] = &[
    "get",
    "list",
    "search",
    "find",
    "read",
    "fetch",
    "show",
    "describe",
    "view",
    "lookup",
    "count",
    "check",
    "inspect",
    "explain",
    "compare",
    "diff",
    "browse",
    "retrieve",
    "status",
    "summarize",
    "analyze",
    "analyse",
    "validate",
    "verify",
    "preview",
    "ping",
    "echo",
    "whoami",
    "convert",
    "calculate",
    "discover",
    "stat",
    "ls",
    "cat",
    "grep",
    "history",
    "info",
    "scan",
    "detect",
    "estimate",
    "export",
];

const WRITE: &[&str] = &[
    "create",
    "add",
    "update",
    "set",
    "write",
    "edit",
    "modify",
    "insert",
    "append",
    "post",
    "send",
    "put",
    "patch",
    "upload",
    "save",
    "move",
    "rename",
    "copy",
    "assign",
    "unassign",
    "comment",
    "reply",
    "merge",
    "commit",
    "push",
    "publish",
    "enable",
    "disable",
    "start",
    "stop",
    "restart",
    "schedule",
    "invite",
    "subscribe",
    "unsubscribe",
    "approve",
    "reject",
    "close",
    "reopen",
    "label",
    "tag",
    "submit",
    "apply",
    "import",
    "sync",
    "register",
    "transfer",
    "pay",
    "deploy",
    "toggle",
    "fork",
    "star",
    "unstar",
    "archive",
    "unarchive",
    "restore",
    "lock",
    "unlock",
    "share",
    "unshare",
    "make",
    "mkdir",
    "upsert",
    "replace",
    "store",
    "change",
    "request",
    "generate",
    "checkout",
    "rebase",
    "release",
    "mark",
    "pin",
    "unpin",
    "react",
    "link",
    "unlink",
    "book",
    "order",
    "buy",
    "mv",
    "cp",
    "touch",
    "fill",
    "click",
    "type",
    "press",
    "drag",
    "navigate",
    "init",
    "stage",
    "cherrypick",
];

const DESTRUCTIVE: &[&str] = &[
    "delete",
    "remove",
    "drop",
    "destroy",
    "purge",
    "erase",
    "wipe",
    "truncate",
    "revoke",
    "reset",
    "terminate",
    "kill",
    "uninstall",
    "overwrite",
    "clear",
    "rm",
    "rmdir",
    "unpublish",
    "cancel",
    "prune",
    "flush",
    "format",
    "shutdown",
    "forget",
    "trash",
    "del",
    "discard",
    "deprovision",
    "ban",
    "evict",
];

const RUNS: &[&str] = &[
    "run", "execute", "exec", "eval", "evaluate", "invoke", "call", "script", "shell", "bash", "sql", "command", "do",
];

/// Words that are nouns, or parts of what is read, as often as verbs.
const NOUNS: &[&str] = &[
    "comment", "commit", "label", "tag", "post", "patch", "fork", "star", "log", "set", "copy", "status", "order",
    "transfer", "release", "request", "schedule", "link", "lock", "pin", "book", "store", "share", "type", "stage",
    "command", "script", "call", "run", "import", "export", "history", "info", "format", "start", "stop", "merge",
    "push", "reply", "archive", "change", "register", "patch", "head", "tail", "make", "trash", "sql", "shell",
    "checkout", "close", "move", "press", "mark", "invite", "ban", "query",
];

/// The words of a name, lower case: split at `_`, `-`, `.`, `/`, spaces and where a
/// capital follows a small letter.
pub(super) fn split(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before: Option<char> = None;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let next_is_small = chars.peek().is_some_and(|next| next.is_lowercase());
        let camel = c.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase() || before.is_ascii_digit() || (before.is_uppercase() && next_is_small)
            });
        if camel || !c.is_alphanumeric() {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = Some(c);
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// What one word says. Forms are looked up as they are: `deleted` and `comments` are not
/// verbs of the tool.
pub(super) fn hint(word: &str) -> Hint {
    let is = |list: &[&str]| list.contains(&word);
    if is(DESTRUCTIVE) {
        Hint::Destructive(word.to_owned())
    } else if is(WRITE) {
        Hint::Write(word.to_owned())
    } else if is(RUNS) {
        Hint::Runs(word.to_owned())
    } else if is(READ) {
        Hint::Read(word.to_owned())
    } else {
        Hint::None
    }
}

/// Whether the word is a noun as often as a verb.
pub(super) fn is_noun(word: &str) -> bool {
    NOUNS.contains(&word)
}
