//! `carillon export` and `carillon import`: definitions as files, so that they can live in git.
//!
//! A directory per kind, a file per definition, named after it, JSON with sorted keys: what the
//! server alone writes (numbers, versions, next runs, statistics) is left out, so that a file
//! changes only when somebody changed what it says. Import compares with what the server has and
//! writes only what differs; with `--prune` it also deletes what no file says.
//!
//! Not here: secrets. Keys, webhook secrets and alert channels are never exported; variables of a
//! task are exported as they are, as everybody who may read the schedule can read them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::client::{Client, ClientError, segment};
use super::output::{Answer, cell, grid, items};
use super::{Connection, FAILED};

/// Rows of a page that is read.
const PAGE: usize = 500;
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  carillon export --to ./definitions && git -C ./definitions diff
  carillon export > everything.json";

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  carillon import ./definitions --dry-run
  carillon import ./definitions --prune
  carillon import everything.json";

/// Something that is defined by documents.
struct Kind {
    /// The name of its directory.
    name: &'static str,
    /// Its list; a definition by number is one segment further.
    route: &'static str,
    /// Whether the list goes by `offset` (v1) or by `cursor` (v2).
    by_offset: bool,
    /// How one is written.
    written: Written,
}

/// How a definition is written.
#[derive(Clone, Copy)]
enum Written {
    /// Made by `POST`, known by its number from then on. The server alone writes these fields.
    ByNumber(&'static [&'static str]),
    /// By `PUT` under its name, which makes it if need be. Only these fields are definitions, and
    /// one that has none of them is there because somebody named it, which no file needs to say.
    ByName(&'static [&'static str]),
}

/// What is exported, in the order in which it is imported: a schedule may name the others.
const KINDS: &[Kind] = &[
    // Before the schedules, which name them.
    Kind {
        name: "calendars",
        route: "/api/v2/calendars",
        by_offset: false,
        written: Written::ByNumber(&["id", "createdAt", "updatedAt", "version"]),
    },
    // Their limits; a pause is no definition.
    Kind {
        name: "queues",
        route: "/api/v2/queues",
        by_offset: false,
        written: Written::ByName(&["maxConcurrent", "ratePerMinute"]),
    },
    Kind {
        name: "schedules",
        route: "/api/v1/scheduler/schedules",
        by_offset: true,
        written: Written::ByNumber(&[
            "id",
            "nextRunAt",
            "lastRunAt",
            "createdAt",
            "updatedAt",
            "version",
            "stats",
            "pausedAt",
            "pausedUntil",
            "pauseReason",
        ]),
    },
    // Rules that name schedules by number belong to the server they were written on.
    Kind {
        name: "alert-rules",
        route: "/api/v2/alert-rules",
        by_offset: false,
        written: Written::ByNumber(&["id", "createdAt", "updatedAt", "version"]),
    },
];

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The directory to write to; without one, one JSON document on standard output.
    #[arg(long, value_name = "DIRECTORY")]
    to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// What `carillon export` wrote: a directory or a document.
    from: PathBuf,
    /// Tells what would change, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Deletes what the server has and no file says.
    #[arg(long)]
    prune: bool,
}

/// Definitions by kind and name.
type Definitions = BTreeMap<&'static str, BTreeMap<String, Value>>;

/// What the server has: definitions as they are exported, and the numbers of them.
struct Stored {
    definitions: BTreeMap<String, Value>,
    ids: BTreeMap<String, String>,
}

impl Kind {
    /// What is sent of a definition.
    fn body(&self, definition: &Value) -> Value {
        let Written::ByName(fields) = self.written else { return definition.clone() };
        // What is left out would stay as it is.
        let value = |field: &&str| definition.get(*field).cloned().unwrap_or(Value::Null);
        let sent = fields.iter().map(|field| ((*field).to_owned(), value(field)));
        Value::Object(sent.collect())
    }

    async fn create(
        &self,
        client: &Client,
        name: &str,
        definition: &Value,
    ) -> Result<Value, ClientError> {
        match self.written {
            Written::ByNumber(_) => client.post(self.route, definition.clone()).await,
            Written::ByName(_) => {
                let route = format!("{}/{}", self.route, segment(name));
                client.put(&route, self.body(definition)).await
            }
        }
    }

    /// Removes what was defined; what is known by its name alone stays, without definitions.
    async fn remove(&self, client: &Client, route: &str) -> Result<Value, ClientError> {
        match self.written {
            Written::ByNumber(_) => client.delete(route).await,
            Written::ByName(_) => client.put(route, self.body(&Value::Null)).await,
        }
    }

    /// A row of its list as number (or name) and definition, if it is one: what a user said of it,
    /// without what the server writes, and without what is not there.
    fn read(&self, item: &Value) -> Option<(String, Value)> {
        let is_said = |field: &str| match self.written {
            Written::ByNumber(read_only) => !read_only.contains(&field),
            Written::ByName(fields) => field == "name" || fields.contains(&field),
        };
        let all = item.as_object().into_iter().flatten();
        let said: Map<String, Value> = all
            .filter(|(field, value)| is_said(field) && !value.is_null())
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect();
        match self.written {
            Written::ByNumber(_) => Some((cell(item, "id"), Value::Object(said))),
            Written::ByName(_) if said.len() > 1 => Some((cell(item, "name"), Value::Object(said))),
            Written::ByName(_) => None,
        }
    }
}

impl Export {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        let mut found = Definitions::new();
        for kind in KINDS {
            found.insert(kind.name, read_all(client, kind).await?.definitions);
        }
        let Some(directory) = self.to else {
            let document = json!(found);
            let text = format!("{document:#}");
            return Ok(Answer::new(document, text));
        };
        let mut counts = Map::new();
        for (kind, definitions) in &found {
            write_kind(&directory.join(kind), definitions)?;
            counts.insert((*kind).to_owned(), json!(definitions.len()));
        }
        let told: Vec<String> =
            counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let text = format!("{} in {}", told.join(", "), directory.display());
        Ok(Answer::new(Value::Object(counts), text))
    }
}

impl Import {
    pub(super) async fn run(self, client: &Client) -> Result<Answer, ClientError> {
        let wanted = read_files(&self.from)?;
        let mut rows = Vec::new();
        for kind in KINDS {
            let Some(wanted) = wanted.get(kind.name) else { continue };
            let stored = read_all(client, kind).await?;
            for (name, body) in wanted {
                let change = self.bring(client, kind, &stored, (name, body)).await?;
                rows.push(vec![kind.name.to_owned(), name.clone(), change.0, change.1]);
            }
        }
        for kind in KINDS.iter().rev().filter(|_| self.prune) {
            let stored = read_all(client, kind).await?;
            let none = BTreeMap::new();
            let wanted = wanted.get(kind.name).unwrap_or(&none);
            for (name, id) in stored.ids.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
                let route = format!("{}/{}", kind.route, segment(id));
                let done = match self.dry_run {
                    true => Ok(Value::Null),
                    false => kind.remove(client, &route).await,
                };
                let change = outcome("deleted", done);
                rows.push(vec![kind.name.to_owned(), name.clone(), change.0, change.1]);
            }
        }
        Ok(self.report(&rows))
    }

    /// Makes one definition on the server what its file says: what was done, and why not.
    async fn bring(
        &self,
        client: &Client,
        kind: &Kind,
        stored: &Stored,
        wanted: (&String, &Value),
    ) -> Result<(String, String), ClientError> {
        let (name, body) = wanted;
        let (word, done) = match (stored.definitions.get(name), stored.ids.get(name)) {
            (Some(old), _) if old == body => return Ok(("unchanged".to_owned(), String::new())),
            (_, id) if self.dry_run => {
                (if id.is_some() { "updated" } else { "created" }, Ok(Value::Null))
            }
            (_, Some(id)) => {
                let route = format!("{}/{}", kind.route, segment(id));
                ("updated", client.put(&route, kind.body(body)).await)
            }
            (_, None) => ("created", kind.create(client, name, body).await),
        };
        if let Err(error @ ClientError::Unreachable { .. }) = done {
            return Err(error);
        }
        Ok(outcome(word, done))
    }

    fn report(&self, rows: &[Vec<String>]) -> Answer {
        let shown: Vec<Vec<String>> = rows
            .iter()
            .filter(|row| row.get(2).is_none_or(|word| word != "unchanged"))
            .cloned()
            .collect();
        let count =
            |word: &str| rows.iter().filter(|row| row.get(2).is_some_and(|is| is == word)).count();
        let mut counts = Map::new();
        for word in ["created", "updated", "deleted", "unchanged", "refused"] {
            counts.insert(word.to_owned(), json!(count(word)));
        }
        let told: Vec<String> = counts
            .iter()
            .filter(|(_, count)| **count != json!(0))
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        let told = if told.is_empty() { "nothing to do".to_owned() } else { told.join(", ") };
        let mut text = if shown.is_empty() {
            told
        } else {
            format!("{}\n{told}", grid(&["KIND", "NAME", "CHANGE", "WHY"], &shown))
        };
        if self.dry_run {
            text.push_str(" (dry run: nothing was changed)");
        }
        counts.insert("changes".to_owned(), json!(shown));
        counts.insert("dryRun".to_owned(), json!(self.dry_run));
        let status = if count("refused") > 0 { FAILED } else { 0 };
        Answer::new(Value::Object(counts), text).with_status(status)
    }
}

fn outcome(word: &str, done: Result<Value, ClientError>) -> (String, String) {
    match done {
        Ok(_) => (word.to_owned(), String::new()),
        Err(error) => ("refused".to_owned(), error.to_string().replace('\n', ";")),
    }
}

/// Every definition of a kind.
async fn read_all(client: &Client, kind: &Kind) -> Result<Stored, ClientError> {
    let mut stored = Stored { definitions: BTreeMap::new(), ids: BTreeMap::new() };
    let mut next = kind.by_offset.then(|| "offset=0".to_owned());
    loop {
        let place = next.as_deref().map(|next| format!("&{next}")).unwrap_or_default();
        let page = client.get(&format!("{}?limit={PAGE}{place}", kind.route)).await?;
        for item in items(&page) {
            let Some((id, definition)) = kind.read(item) else { continue };
            let name = cell(item, "name");
            stored.ids.insert(name.clone(), id);
            stored.definitions.insert(name, definition);
        }
        let count = items(&page).len();
        next = match page.get("nextCursor").and_then(Value::as_str) {
            Some(cursor) => Some(format!("cursor={}", segment(cursor))),
            None if kind.by_offset && count == PAGE => Some(format!("offset={}", stored.ids.len())),
            None => return Ok(stored),
        };
    }
}

/// Writes the files of a kind, and removes those of definitions that are no more.
fn write_kind(directory: &Path, definitions: &BTreeMap<String, Value>) -> Result<(), ClientError> {
    let failed = |path: &Path, error: std::io::Error| {
        ClientError::Refused(format!("{}: {error}", path.display()))
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let mut written: BTreeMap<PathBuf, &Value> = BTreeMap::new();
    for (name, body) in definitions {
        let mut path = directory.join(format!("{}.json", file_name(name)));
        for number in 2.. {
            if !written.contains_key(&path) {
                break;
            }
            path = directory.join(format!("{}-{number}.json", file_name(name)));
        }
        written.insert(path, body);
    }
    for entry in std::fs::read_dir(directory).map_err(|error| failed(directory, error))? {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let is_ours = path.extension().is_some_and(|extension| extension == "json");
        if is_ours && !written.contains_key(&path) {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    for (path, body) in written {
        std::fs::write(&path, format!("{body:#}\n")).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// A name as a file is called.
fn file_name(name: &str) -> String {
    let plain =
        |one: char| if one.is_ascii_alphanumeric() || "-_.".contains(one) { one } else { '-' };
    let text: String = name.chars().take(100).map(plain).collect();
    let text = text.trim_start_matches('.');
    if text.is_empty() { "unnamed".to_owned() } else { text.to_owned() }
}

/// What a directory or a document says.
fn read_files(from: &Path) -> Result<Definitions, ClientError> {
    let mut found = Definitions::new();
    if !from.is_dir() {
        let document = read_json(from)?;
        for kind in KINDS {
            for (name, body) in
                document.get(kind.name).and_then(Value::as_object).into_iter().flatten()
            {
                found.entry(kind.name).or_default().insert(name.clone(), body.clone());
            }
        }
    } else {
        for kind in KINDS {
            read_kind(&from.join(kind.name), found.entry(kind.name).or_default())?;
        }
        found.retain(|kind, _| from.join(kind).is_dir());
    }
    if found.is_empty() {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let message = format!(
            "{} has no definitions; it should have what `carillon export` writes: {}",
            from.display(),
            names.join(", ")
        );
        return Err(ClientError::Misused(message));
    }
    Ok(found)
}

fn read_kind(directory: &Path, found: &mut BTreeMap<String, Value>) -> Result<(), ClientError> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let body = read_json(&path)?;
        let Some(name) = body.get("name").and_then(Value::as_str) else {
            let message = format!("{}: it has no `name`", path.display());
            return Err(ClientError::Misused(message));
        };
        if found.insert(name.to_owned(), body.clone()).is_some() {
            let message = format!("{}: another file has the name '{name}' too", path.display());
            return Err(ClientError::Misused(message));
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Value, ClientError> {
    let misused = |error: &dyn std::fmt::Display| {
        ClientError::Misused(format!("{}: {error}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| misused(&error))?.len();
    if length > FILE_MAX {
        return Err(misused(&format!("it is larger than {FILE_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| misused(&error))?;
    serde_json::from_str(&text).map_err(|error| misused(&error))
}
