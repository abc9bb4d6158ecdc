//! File, folder, environment and flags become one configuration, or a list of all problems.

use std::io::Read;
use std::path::{Path, PathBuf};

use bartizan_model::Secret;

use crate::checks;
use crate::diagnostic::Diagnostic;
use crate::environment::Environment;
use crate::overrides::{self, Override};
use crate::problem::{Problem, Report, Severity};
use crate::resources::Resources;
use crate::schema;
use crate::secrets::{self, Secrets};
use crate::settings::{File, KeySource, Tls};
use crate::sources::Sources;
use crate::tree::{self, Member, Node, Value};
use crate::validate::Validator;

/// Largest configuration file, 8 MiB.
const FILE_LIMIT: u64 = 8 << 20;
/// Lists that may stand in several files.
const LISTS: [&str; 9] =
    ["servers", "portals", "bundles", "identity_providers", "clients", "agents", "policies", "grants", "rate_limits"];

/// The file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Unreadable {
    /// Path as given.
    pub path: String,
    /// The system's words.
    pub reason: String,
}

/// What was read. With errors in `problems` it is only good for further checks.
#[derive(Debug)]
pub struct Loaded {
    /// Settings, with the resources of all files in its lists and paths made absolute to the file's folder.
    pub file: File,
    /// The resources of all files.
    pub resources: Resources,
    /// Resolved secrets of the resources.
    pub secrets: Secrets,
    /// Folder of the file.
    pub base: PathBuf,
    /// Files and folders to watch for changes.
    pub watch: Vec<PathBuf>,
    sources: Sources,
    problems: Vec<Problem>,
    /// An entry of a list could not be read, so references to it would seem unknown.
    incomplete: bool,
    /// Top-level keys that were written down, well or badly; `None` if the file could not be parsed.
    written: Option<Vec<String>>,
}

impl Loaded {
    /// Adds findings of other crates at their places.
    pub fn add(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>, severity: Severity) {
        for diagnostic in diagnostics {
            let follows = match diagnostic.code {
                "missing_setting" => self.written.as_ref().is_none_or(|keys| keys.contains(&diagnostic.path)),
                code => self.incomplete && matches!(code, "unknown_server" | "unknown_portal"),
            };
            // It would only repeat a problem that is already in the list.
            if follows {
                continue;
            }
            let problem = self.sources.locate(&diagnostic, severity);
            self.problems.push(problem);
        }
    }

    /// All problems so far, sorted, with the lines of the files.
    pub fn report(&self) -> Report {
        Report::new(self.sources.with_snippets(self.problems.clone()))
    }

    /// The resources with their secrets filled in, to be compiled at once.
    pub fn filled(&self) -> Resources {
        self.secrets.fill(&self.resources)
    }

    /// Where a value of the resources was written, as `FILE:LINE:COLUMN`.
    pub fn place_of(&self, path: &str, line: Option<usize>) -> Option<String> {
        let mut diagnostic = Diagnostic::new(path, "place", "");
        if let Some(line) = line {
            diagnostic = diagnostic.at(line, 1);
        }
        let place = self.sources.locate(&diagnostic, Severity::Warning).place?;
        (place.length > 0).then(|| format!("{}:{}:{}", place.file, place.line, place.column))
    }

    /// The tokens of the directory with their references resolved.
    ///
    /// # Errors
    /// The findings below `sign_in.scim.tokens`.
    pub fn scim_tokens(&self, environment: &Environment) -> Result<Vec<Secret<String>>, Vec<Diagnostic>> {
        let Some(scim) = &self.file.sign_in.scim else { return Ok(Vec::new()) };
        let (mut tokens, mut found) = (Vec::new(), Vec::new());
        for (at, text) in scim.tokens.iter().enumerate() {
            let path = format!("sign_in.scim.tokens[{at}]");
            match secrets::expand(text, environment, &self.base) {
                Ok(token) if token.expose().len() < 32 || !token.expose().bytes().all(|b| b.is_ascii_graphic()) => {
                    let message = "a token of the directory has at least 32 bytes, all of them visible ASCII";
                    let problem = Diagnostic::new(path, "weak_token", message);
                    found.push(problem.suggest("make one: head -c 32 /dev/urandom | base64 > FILE"));
                }
                Ok(token) => tokens.push(token),
                Err(error) => found.push(error.diagnostic(&path)),
            }
        }
        if scim.tokens.is_empty() {
            let message = "without a token nobody can provision";
            found.push(Diagnostic::new("sign_in.scim.tokens", "missing_token", message));
        }
        if found.is_empty() { Ok(tokens) } else { Err(found) }
    }

    /// The text of `store.url` with its references resolved.
    ///
    /// # Errors
    /// The finding at `store.url`.
    pub fn store_url(&self, environment: &Environment) -> Result<Option<Secret<String>>, Diagnostic> {
        let Some(url) = &self.file.store.url else { return Ok(None) };
        let value = secrets::expand(url, environment, &self.base);
        value.map(Some).map_err(|error| error.diagnostic("store.url"))
    }
}

/// Reads a configuration file, the resource folder it names, the environment and flags.
///
/// # Errors
/// Only when the file itself cannot be read; every other problem is in [`Loaded::report`].
pub fn load(path: &Path, environment: &Environment, flags: &[Override]) -> Result<Loaded, Unreadable> {
    let shown = path.display().to_string();
    let text = read(path).map_err(|reason| Unreadable { path: shown.clone(), reason })?;
    let base = path.parent().unwrap_or_else(|| Path::new("")).to_path_buf();
    let (mut sources, mut problems) = (Sources::default(), Vec::new());
    let schema = schema::file();
    let source = sources.add(shown.clone(), text.clone());
    let mut root = tree::parse(source, &shown, &text, &mut problems)
        .unwrap_or_else(|| Node::empty_map(tree::Mark { source, line: 1, column: 1, length: 1 }));
    let unparsed = !problems.is_empty() && root.members().is_empty();

    let mut given = overrides::from_environment(environment, &schema, &referenced(&text), &mut problems);
    given.extend_from_slice(flags);
    overrides::apply(&mut root, &given, &schema, &mut sources, &mut problems);

    let readable = !unparsed && matches!(root.value, Value::Map(_));
    let written = readable.then(|| root.members().iter().map(|member| member.key.clone()).collect());
    let found = Validator::new(&schema, &sources).run(&mut root);
    let mut incomplete = found.dropped || unparsed;
    problems.extend(found.problems);
    let mut watch = vec![path.to_path_buf()];
    if let Some(folder) = folder(&root) {
        let folder = base.join(folder);
        incomplete |= add_folder(&folder, &mut root, &mut sources, &mut problems);
        watch.push(folder);
    }

    let mut file: File = serde_json::from_value(root.to_json()).unwrap_or_else(|error| {
        // The schema let something pass that the types do not take.
        problems.push(Problem::error("invalid", "", error.to_string()));
        File::default()
    });
    sources.set_root(root);
    anchor(&mut file, &base);
    let resources = file.resources();
    let (secrets, unresolved) = Secrets::resolve(&resources, environment, &base);
    let mut loaded = Loaded { file, resources, secrets, base, watch, sources, problems, incomplete, written };
    loaded.add(unresolved, Severity::Error);
    if !unparsed {
        if let Some(url) = &mut loaded.file.public_url {
            *url = checks::canonical_public_url(url);
        }
        loaded.add(checks::warnings(&loaded.file), Severity::Warning);
        let findings = checks::settings(&loaded.file);
        loaded.add(findings, Severity::Error);
    }
    Ok(loaded)
}

/// Reads a folder of resource files by itself, as `resources: FOLDER` would.
///
/// # Errors
/// Only when the folder cannot be read; every other problem is in [`Loaded::report`].
pub fn load_folder(folder: &Path, environment: &Environment) -> Result<Loaded, Unreadable> {
    let shown = folder.display().to_string();
    std::fs::read_dir(folder).map_err(|error| Unreadable { path: shown.clone(), reason: words(&error) })?;
    let (mut sources, mut problems) = (Sources::default(), Vec::new());
    let source = sources.add(shown, "");
    let mut root = Node::empty_map(tree::Mark { source, line: 1, column: 1, length: 1 });
    let incomplete = add_folder(folder, &mut root, &mut sources, &mut problems);
    let file: File = serde_json::from_value(root.to_json()).unwrap_or_else(|error| {
        problems.push(Problem::error("invalid", "", error.to_string()));
        File::default()
    });
    sources.set_root(root);
    let resources = file.resources();
    let (secrets, unresolved) = Secrets::resolve(&resources, environment, folder);
    let (base, watch) = (folder.to_path_buf(), vec![folder.to_path_buf()]);
    let mut loaded =
        Loaded { file, resources, secrets, base, watch, sources, problems, incomplete, written: Some(Vec::new()) };
    loaded.add(unresolved, Severity::Error);
    Ok(loaded)
}

/// A reason without numbers and platform words.
pub(crate) fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        kind => kind.to_string(),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| words(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| words(&error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err("the file is larger than 8 MiB".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Names of variables a file uses in `${env:NAME}` and `key: {env: NAME}`.
fn referenced(text: &str) -> Vec<String> {
    let name = |rest: &str| -> String {
        let rest = rest.trim_start_matches([' ', '"', '\'']);
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    text.split("env:").skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

fn folder(root: &Node) -> Option<String> {
    match &root.get("resources")?.node.value {
        Value::Text(folder) => Some(folder.clone()),
        _ => None,
    }
}

/// Appends the resources of every `*.yaml` in a folder, sorted by name. True if an entry was dropped.
fn add_folder(folder: &Path, root: &mut Node, sources: &mut Sources, problems: &mut Vec<Problem>) -> bool {
    let schema = schemars::schema_for!(Resources).to_value();
    let mut dropped = false;
    let mut files: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(error) => {
            let message = format!("the folder `{}` cannot be read: {}", folder.display(), words(&error));
            let mark = root.get("resources").map(|member| member.node.mark);
            let place = mark.and_then(|mark| sources.place(mark));
            problems.push(Problem { place, ..Problem::error("unreadable_folder", "resources", message) });
            return true;
        }
    };
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml"));
    files.sort();
    for file in files {
        let shown = file.display().to_string();
        let text = match read(&file) {
            Ok(text) => text,
            Err(reason) => {
                problems.push(Problem::error("unreadable", "", format!("{shown}: {reason}")));
                dropped = true;
                continue;
            }
        };
        let source = sources.add(shown.clone(), text.clone());
        let Some(mut node) = tree::parse(source, &shown, &text, problems) else {
            dropped = true;
            continue;
        };
        let found = Validator::new(&schema, sources).run(&mut node);
        dropped |= found.dropped;
        problems.extend(found.problems);
        merge(root, node);
    }
    dropped
}

fn merge(root: &mut Node, other: Node) {
    let (Value::Map(members), Value::Map(others)) = (&mut root.value, other.value) else { return };
    for other in others
        .into_iter()
        .filter(|member| LISTS.contains(&member.key.as_str()) || ["alerts", "roles"].contains(&member.key.as_str()))
    {
        join(members, other);
    }
}

/// Lists are put one behind the other, also those inside a map of lists.
fn join(members: &mut Vec<Member>, other: Member) {
    match members.iter_mut().find(|member| member.key == other.key) {
        Some(member) => match (&mut member.node.value, other.node.value) {
            (Value::List(items), Value::List(more)) => items.extend(more),
            (Value::Map(inner), Value::Map(more)) => more.into_iter().for_each(|one| join(inner, one)),
            _ => {}
        },
        None => members.push(other),
    }
}

/// Relative paths in the file start from the file's folder, wherever the process was started.
fn anchor(file: &mut File, base: &Path) {
    file.store.data_dir = base.join(&file.store.data_dir);
    for ca in &mut file.egress.ca_files {
        *ca = base.join(&*ca);
    }
    for key in file.key.iter_mut().chain(file.backup_keys.values_mut()) {
        if let KeySource::File(path) = key {
            *path = base.join(&*path);
        }
    }
    if let Some(Tls::Files(files)) = &mut file.tls {
        files.cert = base.join(&files.cert);
        files.key = base.join(&files.key);
    }
    for path in [&mut file.client_ca, &mut file.geo.mmdb].into_iter().flatten() {
        *path = base.join(&*path);
    }
}
