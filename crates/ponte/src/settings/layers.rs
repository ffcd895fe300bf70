//! The layers a setting may stand in, and what to say of one that nobody knows.

use super::spec::{SPECS, Spec};
use crate::exit::Failure;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// File that is read where no other is named and it exists.
const FILE: &str = "ponte.toml";
/// Set by the workspace's own tests; no setting.
const TEST_PREFIX: &str = "PONTE_TEST_";

/// What the command line says: key (with `_file` where a file is named) and value; and which settings file.
#[derive(Debug, Default)]
pub struct Given {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Key and value.
    pub values: BTreeMap<String, String>,
}

/// Flags, environment and file, as they were found.
#[derive(Debug, Default)]
pub struct Layers {
    flags: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    file_name: String,
    /// Sentences about what could not be read at all.
    wrong: Vec<String>,
}

impl Layers {
    /// The layers of this process.
    ///
    /// # Errors
    /// When the settings file is named and cannot be read, or is not TOML.
    pub fn of_process(given: Given) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let mut variables = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => drop(variables.insert(name, value)),
                Err(_) if name.starts_with("PONTE_") => wrong.push(format!("{name} is not UTF-8 text.")),
                Err(_) => {}
            }
        }
        let named = given.config.or_else(|| variables.get("PONTE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
        let file = match named {
            Some(path) => Some((path.display().to_string(), read_file(&path)?)),
            None if Path::new(FILE).is_file() => Some((FILE.to_owned(), read_file(Path::new(FILE))?)),
            None => None,
        };
        let mut layers = Self::new(given.values, variables, file)?;
        layers.wrong.append(&mut wrong);
        Ok(layers)
    }

    /// The given layers.
    ///
    /// # Errors
    /// When the file is not TOML.
    pub fn new(
        flags: BTreeMap<String, String>,
        variables: BTreeMap<String, String>,
        file: Option<(String, String)>,
    ) -> Result<Self, Failure> {
        let mut layers = Self { flags, variables, ..Self::default() };
        if let Some((name, text)) = file {
            layers.file_name = name;
            layers.read_toml(&text)?;
        }
        Ok(layers)
    }

    /// A sentence for each key and each `PONTE_*` variable that is no setting.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let keys: Vec<String> = SPECS.iter().flat_map(names).collect();
        let mut wrong = self.wrong.clone();
        for name in self.variables.keys().filter(|name| name.starts_with("PONTE_")) {
            let key = name.trim_start_matches("PONTE_").to_ascii_lowercase();
            let known = keys.contains(&key) && *name == name.to_ascii_uppercase();
            if !known && name != "PONTE_CONFIG" && !name.starts_with(TEST_PREFIX) && !self.of_kubernetes(name) {
                let (nearest, what) = nearest(&key, &keys);
                wrong.push(format!("{name} is no setting of Ponte; did you mean PONTE_{}? {what}", nearest.to_ascii_uppercase()));
            }
        }
        for key in self.file.keys().filter(|key| !keys.contains(key)) {
            let (nearest, what) = nearest(key, &keys);
            wrong.push(format!("{}: `{key}` is no setting of Ponte; did you mean `{nearest}`? {what}", self.file_name));
        }
        wrong
    }

    /// Whether anybody chose it.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.layer(key).is_some()
    }

    /// The value and where it stands; an empty one counts as not set.
    ///
    /// # Errors
    /// When a file that should hold it cannot be read, or one layer says it twice.
    pub fn value(&self, key: &str) -> Result<Option<(String, String)>, String> {
        let Some((values, origin)) = self.layer(key) else {
            let default = SPECS.iter().find(|spec| spec.key == key).and_then(|spec| spec.default);
            return Ok(default.map(|text| (text.to_owned(), "default".to_owned())));
        };
        let by_file = format!("{key}_file");
        match (filled(values, key), filled(values, &by_file)) {
            (Some(_), Some(_)) => Err(format!("{} and {} are both set. Keep one of them.", origin(key), origin(&by_file))),
            (Some(text), None) => Ok(Some((text.clone(), origin(key)))),
            (None, Some(path)) => {
                read_secret(path).map(|text| Some((text, origin(&by_file)))).map_err(|why| format!("{}: {why}", origin(&by_file)))
            }
            (None, None) => Ok(None),
        }
    }

    #[allow(clippy::type_complexity, reason = "a layer and how its keys are called there")]
    fn layer(&self, key: &str) -> Option<(&BTreeMap<String, String>, Box<dyn Fn(&str) -> String + '_>)> {
        let by_file = format!("{key}_file");
        let has = |values: &BTreeMap<String, String>| filled(values, key).or(filled(values, &by_file)).is_some();
        if has(&self.flags) {
            return Some((&self.flags, Box::new(|key| format!("--{}", key.replace('_', "-")))));
        }
        if has(&self.variables) {
            return Some((&self.variables, Box::new(|key| format!("PONTE_{}", key.to_ascii_uppercase()))));
        }
        has(&self.file).then(|| {
            let name: Box<dyn Fn(&str) -> String + '_> = Box::new(|key| format!("`{key}` in {}", self.file_name));
            (&self.file, name)
        })
    }

    /// A Service called `ponte…` makes Kubernetes set `PONTE…_SERVICE_HOST`, `PONTE…_PORT=tcp://…` and their like in every pod.
    fn of_kubernetes(&self, name: &str) -> bool {
        let is_url = |value: &String| value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
        name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || (name.ends_with("_PORT") && self.variables.get(name).is_some_and(is_url))
            || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn read_toml(&mut self, text: &str) -> Result<(), Failure> {
        let table: toml::Table = text.parse().map_err(|bad: toml::de::Error| {
            // The line alone: the text of it may be a secret.
            let line = bad.span().map_or(0, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            Failure::usage(format!("{} is not TOML: {} (line {line}).", self.file_name, bad.message()))
        })?;
        for (key, value) in table {
            match plain(&value) {
                Some(text) => drop(self.file.insert(key, text)),
                None => self.wrong.push(format!("{}: `{key}` must be a text, a number, true, false or a list of texts.", self.file_name)),
            }
        }
        Ok(())
    }
}

fn names(spec: &Spec) -> Vec<String> {
    let mut names = vec![spec.key.to_owned()];
    if spec.secret {
        names.push(format!("{}_file", spec.key));
    }
    names
}

/// The key that is most like this name, and what it is for.
fn nearest<'a>(name: &str, keys: &'a [String]) -> (&'a str, &'static str) {
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    // Abbreviations are the common slip: DB_URL is DATABASE_URL, every letter of it in its order.
    let within = |key: &str| {
        let mut letters = key.chars();
        wanted.chars().all(|letter| letters.any(|other| other == letter))
    };
    let alike = |key: &&String| strsim::jaro_winkler(&wanted, key) + if within(key) { 0.3 } else { 0.0 };
    // Who does not speak of a file does not mean one.
    let meant = keys.iter().filter(|key| wanted.contains("file") || !key.ends_with("_file"));
    let key = meant.max_by(|a, b| alike(a).total_cmp(&alike(b))).map_or("listen", String::as_str);
    let what = SPECS.iter().find(|spec| spec.key == key.trim_end_matches("_file")).map_or("", |spec| spec.what);
    (key, what)
}

fn filled<'a>(values: &'a BTreeMap<String, String>, key: &str) -> Option<&'a String> {
    let variable = format!("PONTE_{}", key.to_ascii_uppercase());
    values.get(key).or_else(|| values.get(&variable)).filter(|text| !text.is_empty())
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>().map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn read_file(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|why| Failure::usage(format!("{} cannot be read: {why}.", path.display())))
}

/// A secret from a file, or from stdin for `-`; the line end behind it is not part of it.
fn read_secret(path: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|all| text = all)
    };
    read.map_err(|why| format!("{path} cannot be read: {why}."))?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if text.is_empty() { Err(format!("{path} is empty.")) } else { Ok(text) }
}
