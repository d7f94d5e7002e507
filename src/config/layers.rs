//! How settings are put together: defaults, then a file, then the environment, then flags.
//!
//! Each layer is a TOML table laid over the one before, key by key; a list replaces a list. The
//! origin of each value is kept, so that a refusal can say where the wrong value stands and
//! `carillon doctor` where a value comes from. Pure: files and environment are passed in.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::checks::{find_broken_rule, find_out_of_range};
use super::error::{ConfigError, Source};
use super::settings::Settings;

/// The lowest layer, and the list of all keys there are.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// What an environment variable that sets a key starts with.
pub const PREFIX: &str = "CARILLON_";

/// Names less alike than this are not suggested (Jaro-Winkler).
const SUGGEST_ABOVE: f64 = 0.8;

/// Keys whose values are never shown whole.
const SECRET_KEYS: &[&str] = &["database.url", "conductor.token"];

/// One setting given by a command line flag.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The flag, such as `--listen`.
    pub flag: &'static str,
    /// The key it sets, dotted.
    pub key: &'static str,
    /// Its text, read as an environment variable's would be.
    pub text: String,
}

/// Everything that settings are made from, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// The environment; variables that set no key are passed over.
    pub environment: Vec<(String, String)>,
    /// The flags that were given.
    pub flags: Vec<FlagValue>,
}

/// Settings in force, and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One entry a key, in order of the keys.
    pub origins: Vec<Origin>,
}

/// One setting as `carillon doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The key, dotted.
    pub key: String,
    /// The value as TOML, secrets masked.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

impl Settings {
    /// Puts the layers together and checks the result; `read` reads the configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], one line that names the key, its source and the cure.
    pub fn load(
        inputs: Inputs,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::from_defaults()?;
        if let Some(path) = inputs.file {
            let text =
                read(&path).map_err(|cause| ConfigError::Read { path: path.clone(), cause })?;
            layers.lay_file(&path, &text)?;
        }
        for (name, text) in inputs.environment {
            layers.lay_variable(&name, &text)?;
        }
        for FlagValue { flag, key, text } in inputs.flags {
            layers.lay_text(key, &text, Source::Flag(flag))?;
        }
        layers.into_settings()
    }
}

/// The table as it grows, with the source of every value that is not a default.
struct Layers {
    table: Table,
    sources: BTreeMap<String, Source>,
}

impl Layers {
    fn from_defaults() -> Result<Self, ConfigError> {
        let path = PathBuf::from("config/default.toml");
        let table = parse_toml(&path, DEFAULT_TOML)?;
        Ok(Self { table, sources: BTreeMap::new() })
    }

    fn lay_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let source = Source::File(path.to_owned());
        for (section, value) in parse_toml(path, text)? {
            let Value::Table(values) = value else {
                return Err(self.unknown_key(&section, source));
            };
            if !self.table.contains_key(&section) {
                return Err(self.unknown_key(&section, source));
            }
            for (name, value) in values {
                self.lay(&format!("{section}.{name}"), value, source.clone())?;
            }
        }
        Ok(())
    }

    /// A variable `CARILLON_SECTION__KEY` sets `section.key`. Without the double underscore it is
    /// not ours, unless it is plainly one of our keys spelt with a single one.
    fn lay_variable(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(()) };
        let source = Source::Environment(name.to_owned());
        if let Some((section, key)) = rest.split_once("__") {
            let key = format!("{}.{}", section.to_lowercase(), key.to_lowercase());
            return self.lay_text(&key, text, source);
        }
        let flat = rest.to_lowercase();
        match self.keys().find(|key| key.replace('.', "_") == flat) {
            None => Ok(()),
            Some(key) => {
                let right = variable_of(&key);
                let cure = format!("; write {right} with two underscores after the section");
                Err(ConfigError::UnknownKey { key: name.to_owned(), source_of: source, cure })
            }
        }
    }

    /// Lays a value given as text, read as what its key holds: text as it is, anything else as
    /// TOML, a list also as words between commas.
    fn lay_text(&mut self, key: &str, text: &str, source: Source) -> Result<(), ConfigError> {
        let value = match self.get(key) {
            None | Some(Value::String(_)) => Value::String(text.to_owned()),
            Some(Value::Array(_)) => parse_value(text).unwrap_or_else(|| split_list(text)),
            Some(_) => parse_value(text).unwrap_or_else(|| Value::String(text.to_owned())),
        };
        self.lay(key, value, source)
    }

    fn lay(&mut self, key: &str, value: Value, source: Source) -> Result<(), ConfigError> {
        let Some(place) = self.get_mut(key) else { return Err(self.unknown_key(key, source)) };
        if !place.same_type(&value) {
            let mut message =
                format!("expected {}, found {}", kind_of(place), describe(key, &value));
            if place.is_integer() && (key.ends_with("_ms") || key.ends_with("_days")) {
                message.push_str("; write the number alone, its unit is in the name");
            }
            return Err(ConfigError::Value { key: key.to_owned(), source_of: source, message });
        }
        *place = value;
        self.sources.insert(key.to_owned(), source);
        Ok(())
    }

    fn into_settings(self) -> Result<Loaded, ConfigError> {
        let refuse = |key: &str, message: String| {
            let source_of = self.sources.get(key).cloned().unwrap_or(Source::Default);
            ConfigError::Value { key: key.to_owned(), source_of, message }
        };
        if let Some((key, message)) = find_out_of_range(&self.table) {
            return Err(refuse(key, message));
        }
        let settings: Settings = serde_path_to_error::deserialize(Value::Table(self.table.clone()))
            .map_err(|error| {
                let message = one_line(&error.inner().to_string());
                // A list's path ends in an index; the key is the part before it.
                let path = error.path().to_string();
                refuse(path.split('[').next().unwrap_or(&path), message)
            })?;
        if let Some((key, message)) = find_broken_rule(&settings) {
            return Err(refuse(key, message));
        }
        let origins = self
            .keys()
            .map(|key| Origin {
                value: self.get(&key).map(|value| mask(&key, value)).unwrap_or_default(),
                source: self.sources.get(&key).cloned().unwrap_or(Source::Default),
                key,
            })
            .collect();
        Ok(Loaded { settings, origins })
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        self.table.iter().flat_map(|(section, values)| {
            let names = values.as_table().into_iter().flat_map(Table::keys);
            names.map(move |name| format!("{section}.{name}"))
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let (section, name) = key.split_once('.')?;
        self.table.get(section)?.get(name)
    }

    fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let (section, name) = key.split_once('.')?;
        self.table.get_mut(section)?.get_mut(name)
    }

    fn unknown_key(&self, key: &str, source_of: Source) -> ConfigError {
        let known: Vec<String> = if key.contains('.') {
            self.keys().collect()
        } else {
            self.table.keys().map(|section| format!("[{section}]")).chain(self.keys()).collect()
        };
        let written = if matches!(source_of, Source::File(_)) && !key.contains('.') {
            format!("[{key}]")
        } else {
            key.to_owned()
        };
        let likeness = |name: &String| {
            // A key put into the wrong section is as likely as a misspelt one.
            let bare = |text: &str| text.rsplit('.').next().unwrap_or(text).to_owned();
            let whole = strsim::jaro_winkler(&written, name);
            if bare(&written) == bare(name) { whole.max(0.95) } else { whole }
        };
        let best = known
            .into_iter()
            .map(|name| (likeness(&name), name))
            .filter(|(alike, _)| *alike > SUGGEST_ABOVE)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let cure = match best {
            Some((_, name)) if matches!(source_of, Source::Environment(_)) => {
                format!("; did you mean {}?", variable_of(&name))
            }
            Some((_, name)) => format!("; did you mean {name}?"),
            None => "; `carillon doctor` lists every setting".to_owned(),
        };
        ConfigError::UnknownKey { key: written, source_of, cure }
    }
}

/// The environment variable that sets a key.
#[must_use]
pub fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn parse_toml(path: &Path, text: &str) -> Result<Table, ConfigError> {
    Table::deserialize(
        toml::Deserializer::parse(text).map_err(|error| unparsable(path, text, &error))?,
    )
    .map_err(|error| unparsable(path, text, &error))
}

fn unparsable(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = format!("line {line}: {}", one_line(error.message()));
    ConfigError::Parse { path: path.to_owned(), message }
}

/// Reads a scalar or a list as TOML.
fn parse_value(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

fn split_list(text: &str) -> Value {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    Value::Array(words.map(|word| Value::String(word.to_owned())).collect())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn describe(key: &str, value: &Value) -> String {
    match value {
        Value::String(_) if SECRET_KEYS.contains(&key) => "text".to_owned(),
        Value::String(text) => format!("'{}'", one_line(text)),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        other => kind_of(other).to_owned(),
    }
}

/// The value as TOML, with what must stay secret replaced by `***`.
fn mask(key: &str, value: &Value) -> String {
    match value.as_str() {
        Some(text) if key == "database.url" => format!("\"{}\"", mask_url(text)),
        Some(text) if SECRET_KEYS.contains(&key) && !text.is_empty() => "\"***\"".to_owned(),
        _ => value.to_string(),
    }
}

/// A database URL without its password, wherever the password stands.
#[must_use]
pub fn mask_url(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let Some((scheme, rest)) = text.split_once("://") else { return "***".to_owned() };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(a, q)| (a, Some(q)));
    // A password may hold any character, so the last `@` ends it.
    let address = match address.rsplit_once('@') {
        Some((user, place)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{place}"),
            None => address.to_owned(),
        },
        // A question mark within the password: it cannot be told where it ends.
        None if rest.contains('@') => return "***".to_owned(),
        None => address.to_owned(),
    };
    let mask_pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("password") => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let query = query.map(|query| query.split('&').map(mask_pair).collect::<Vec<_>>().join("&"));
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}://{address}{query}")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
