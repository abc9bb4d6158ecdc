//! The `classes:` block to paste.

use std::fmt::Write as _;

use bartizan_model::ToolClass;

use super::{Proposal, Proposals};

pub(super) fn render(proposals: &Proposals) -> String {
    let mut out = String::from("classes:\n");
    for class in [ToolClass::Read, ToolClass::Write, ToolClass::Destructive] {
        if proposals.of(class).next().is_none() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {}:", class.as_str());
        for proposal in proposals.of(class) {
            let _ = writeln!(out, "    - {}{}", scalar(&proposal.name), comment(proposal));
        }
    }
    if out == "classes:\n" {
        out = String::from("classes: {}\n");
    }
    if proposals.of(ToolClass::Unknown).next().is_some() {
        out.push_str("  # Not clear, so left out; nobody may call these until you class them:\n");
        for proposal in proposals.of(ToolClass::Unknown) {
            let _ = writeln!(out, "  # - {}{}", scalar(&proposal.name), comment(proposal));
        }
    }
    out
}

/// Only doubts are worth a comment on what is classed; on the rest, every reason is.
fn comment(proposal: &Proposal) -> String {
    if proposal.class != ToolClass::Unknown && !proposal.contradicts && !only_claimed(proposal) {
        return String::new();
    }
    format!("  # {}", proposal.reasons.iter().map(|reason| printable(reason)).collect::<Vec<_>>().join("; "))
}

fn only_claimed(proposal: &Proposal) -> bool {
    proposal.reasons.iter().any(|reason| reason.starts_with("nothing but"))
}

/// Names come from servers: nothing of them may end a comment or begin another line.
fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c == ' ' || (c.is_alphanumeric() || c.is_ascii_graphic()) { c } else { '?' })
        .collect()
}

/// A YAML scalar: plain where every reader takes it for a string, else double-quoted.
fn scalar(name: &str) -> String {
    const WORDS: [&str; 12] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "none"];
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        && !WORDS.contains(&name.to_ascii_lowercase().as_str());
    if plain {
        return name.to_owned();
    }
    let mut out = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => {
                let code = u32::from(c);
                let _ = if code > 0xffff { write!(out, "\\U{code:08x}") } else { write!(out, "\\u{code:04x}") };
            }
        }
    }
    out.push('"');
    out
}
