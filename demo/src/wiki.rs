//! A wiki: spaces, pages in Markdown, and their history.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bartizan_model::Clock;
use bartizan_model::ToolClass::{Destructive, Read, Write};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::app::{
    About, Answer, App, Args, Note, Output, Prompt, Reply, Tool, limit, matches, object, starting_with, tail, text,
};
use crate::time::iso;

mod seed;

/// Bounds of the demo's memory.
const MOST_PAGES: usize = 2_000;
const MOST_VERSIONS: usize = 50;

struct Page {
    slug: String,
    space: String,
    title: String,
    versions: Vec<Version>,
}

struct Version {
    author: String,
    at_ms: i64,
    remark: String,
    body: String,
}

impl Page {
    fn latest(&self) -> Option<&Version> {
        self.versions.last()
    }

    fn body(&self) -> &str {
        self.latest().map_or("", |version| &version.body)
    }

    fn summary(&self) -> Value {
        let (author, at) = self.latest().map_or(("", 0), |version| (version.author.as_str(), version.at_ms));
        json!({"slug": self.slug, "space": self.space, "title": self.title, "author": author, "updated": iso(at)})
    }
}

/// The server.
pub(crate) struct Wiki {
    clock: Arc<dyn Clock>,
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    pages: Mutex<Vec<Page>>,
    notes: broadcast::Sender<Note>,
}

impl Wiki {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let pages = Mutex::new(seed::pages(clock.now_ms()));
        Self { clock, tools: tools(), prompts: prompts(), pages, notes: broadcast::Sender::new(64) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list_spaces(&self) -> Reply {
        let pages = self.lock();
        let spaces: Vec<Value> = seed::SPACES
            .iter()
            .map(|(id, title)| {
                let count = pages.iter().filter(|page| page.space == *id).count();
                json!({"space": id, "title": title, "pages": count})
            })
            .collect();
        Output::data(json!({"spaces": spaces}))
    }

    fn search_pages(&self, args: Args<'_>) -> Reply {
        let pages = self.lock();
        let found: Vec<Value> = pages
            .iter()
            .filter(|page| args.text("space").is_none_or(|space| page.space == space))
            .filter(|page| matches(args.required("query"), &format!("{} {}", page.title, page.body())))
            .map(Page::summary)
            .collect();
        let total = found.len();
        let shown: Vec<Value> = found.into_iter().take(args.limit()).collect();
        Output::data(json!({"total": total, "pages": shown}))
    }

    fn with_page(&self, slug: &str, work: impl FnOnce(&mut Page) -> Reply) -> Reply {
        match self.lock().iter_mut().find(|page| page.slug == slug) {
            Some(page) => work(page),
            None => Output::error(format!("there is no page {slug}")),
        }
    }

    fn history(page: &Page) -> Reply {
        let versions: Vec<Value> = page
            .versions
            .iter()
            .map(|v| json!({"author": v.author, "at": iso(v.at_ms), "remark": v.remark, "characters": v.body.len()}))
            .collect();
        Output::data(json!({"slug": page.slug, "versions": versions}))
    }

    fn create_page(&self, args: Args<'_>) -> Reply {
        let space = args.required("space");
        if !seed::SPACES.iter().any(|(id, _)| *id == space) {
            return Output::error(format!("there is no space {space}; list_spaces shows all"));
        }
        let slug = slug_of(args.required("title"));
        let mut pages = self.lock();
        if slug.is_empty() || pages.iter().any(|page| page.slug == slug) {
            return Output::error(format!("a page `{slug}` cannot be created; choose another title"));
        }
        if pages.len() >= MOST_PAGES {
            return Output::error("this demo keeps at most 2,000 pages");
        }
        let page = Page {
            slug,
            space: space.to_owned(),
            title: args.required("title").to_owned(),
            versions: vec![Version {
                author: "you".to_owned(),
                at_ms: self.clock.now_ms(),
                remark: "created".to_owned(),
                body: args.required("body").to_owned(),
            }],
        };
        let summary = page.summary();
        pages.push(page);
        drop(pages);
        let _ = self.notes.send(Note::ResourceList);
        Output::data(summary)
    }

    fn update_page(&self, args: Args<'_>) -> Reply {
        let (slug, at_ms) = (args.required("slug"), self.clock.now_ms());
        let reply = self.with_page(slug, |page| {
            let body = args.required("body").to_owned();
            let remark = args.text("remark").unwrap_or("edited").to_owned();
            page.versions.push(Version { author: "you".to_owned(), at_ms, remark, body });
            let excess = page.versions.len().saturating_sub(MOST_VERSIONS);
            page.versions.drain(..excess);
            Output::data(page.summary())
        });
        let _ = self.notes.send(Note::Updated(format!("wiki://pages/{slug}")));
        reply
    }

    fn delete_page(&self, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply {
        let slug = args.required("slug");
        let mut pages = self.lock();
        let Some(place) = pages.iter().position(|page| page.slug == slug) else {
            return Output::error(format!("there is no page {slug}"));
        };
        match answer {
            Answer::None if can_ask => {
                return Reply::Confirm(format!("Delete the page `{slug}` with its whole history?"));
            }
            Answer::No => return Output::text(format!("{slug} was kept")),
            Answer::None | Answer::Yes => {}
        }
        pages.remove(place);
        drop(pages);
        let _ = self.notes.send(Note::ResourceList);
        Output::text(format!("{slug} was deleted"))
    }
}

/// `On-call guide` becomes `on-call-guide`.
fn slug_of(title: &str) -> String {
    let words = title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-").chars().take(80).collect()
}

fn tools() -> Vec<Tool> {
    let slug = || text("Page slug, e.g. on-call-guide");
    vec![
        Tool::new(Read, "list_spaces", "List spaces", "Lists the spaces with their number of pages.", object([])),
        Tool::new(
            Read,
            "search_pages",
            "Search pages",
            "Finds pages whose title or text holds all given words.",
            object([
                ("!query", text("Words that must all occur")),
                ("space", text("Only in this space, e.g. engineering")),
                ("limit", limit()),
            ]),
        )
        .returns(json!({"type": "object",
            "properties": {"total": {"type": "integer"}, "pages": {"type": "array"}}, "required": ["total", "pages"]})),
        Tool::new(Read, "get_page", "Get page", "Returns a page as Markdown.", object([("!slug", slug())])),
        Tool::new(
            Read,
            "get_page_history",
            "Get page history",
            "Returns who changed a page, when and why.",
            object([("!slug", slug())]),
        ),
        Tool::new(
            Write,
            "create_page",
            "Create page",
            "Creates a page and returns its slug.",
            object([
                ("!space", text("Space, e.g. engineering")),
                ("!title", text("Title; the slug is made from it")),
                ("!body", text("Markdown")),
            ]),
        ),
        Tool::new(
            Write,
            "update_page",
            "Update page",
            "Replaces the text of a page; the old text stays in the history.",
            object([("!slug", slug()), ("!body", text("Markdown")), ("remark", text("Why it was changed"))]),
        ),
        Tool::new(
            Destructive,
            "delete_page",
            "Delete page",
            "Deletes a page and its history. This cannot be undone.",
            object([("!slug", slug())]),
        ),
    ]
}

fn prompts() -> Vec<Prompt> {
    vec![Prompt {
        name: "summarize_page",
        title: "Summarize a page",
        description: "A summary of one wiki page for somebody new",
        arguments: vec![("slug", "Page slug, e.g. on-call-guide", true)],
    }]
}

impl App for Wiki {
    fn about(&self) -> About {
        About {
            id: "wiki",
            name: "demo-wiki",
            title: "Wiki",
            instructions: "Handbook and engineering notes. Quote the slug of every page you use.",
        }
    }

    fn tools(&self) -> &[Tool] {
        &self.tools
    }

    fn call(&self, name: &str, args: Args<'_>, can_ask: bool, answer: Answer) -> Reply {
        match name {
            "list_spaces" => self.list_spaces(),
            "search_pages" => self.search_pages(args),
            "get_page" => self
                .with_page(args.required("slug"), |page| Output::text(format!("# {}\n\n{}", page.title, page.body()))),
            "get_page_history" => self.with_page(args.required("slug"), |page| Self::history(page)),
            "create_page" => self.create_page(args),
            "update_page" => self.update_page(args),
            "delete_page" => self.delete_page(args, can_ask, answer),
            _ => Output::error("not implemented"),
        }
    }

    fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    fn prompt(&self, _name: &str, args: Args<'_>) -> Result<String, String> {
        let slug = args.required("slug");
        let pages = self.lock();
        let page = pages.iter().find(|page| page.slug == slug).ok_or_else(|| format!("there is no page {slug}"))?;
        Ok(format!("Summarize this page in five sentences for a new colleague:\n\n# {}\n\n{}", page.title, page.body()))
    }

    fn resources(&self) -> Vec<Value> {
        let pages = self.lock();
        let all = pages.iter().map(|page| {
            json!({"uri": format!("wiki://pages/{}", page.slug), "name": page.slug, "title": page.title,
                "mimeType": "text/markdown"})
        });
        all.collect()
    }

    fn templates(&self) -> Vec<Value> {
        vec![json!({"uriTemplate": "wiki://pages/{slug}", "name": "page", "title": "One page",
            "description": "A page as Markdown", "mimeType": "text/markdown"})]
    }

    fn read(&self, uri: &str) -> Option<(&'static str, String)> {
        let slug = tail(uri, "wiki://pages/")?;
        let pages = self.lock();
        let page = pages.iter().find(|page| page.slug == slug)?;
        Some(("text/markdown", format!("# {}\n\n{}", page.title, page.body())))
    }

    fn complete(&self, argument: &str, prefix: &str) -> Vec<String> {
        match argument {
            "slug" => starting_with(prefix, self.lock().iter().map(|page| page.slug.as_str())),
            "space" => starting_with(prefix, seed::SPACES.iter().map(|(id, _)| *id)),
            _ => Vec::new(),
        }
    }

    fn notes(&self) -> broadcast::Receiver<Note> {
        self.notes.subscribe()
    }
}
