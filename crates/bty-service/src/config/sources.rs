//! Where configuration comes from, in the order in which later ones win.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{ConfigError, SECTIONS};

/// One place that configuration comes from, as TOML text.
#[derive(Debug)]
pub(super) struct Source {
    /// `FILE`, `environment NAME` or `flag --set KEY=VALUE`.
    pub(super) origin: String,
    /// Whether line and column in the text mean something to a person.
    pub(super) is_file: bool,
    /// The text.
    pub(super) text: String,
}

/// Every source, weakest first.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

const VENDOR_FILE: &str = "/usr/lib/bty/bty.toml";
const ADMIN_FILE: &str = "/etc/bty/bty.toml";

impl Sources {
    /// The files (`named`, or the vendor's and the administrator's), their drop-ins, the environment, and `--set` flags.
    pub(crate) fn gather(named: Option<&Path>, flags: &[String]) -> Result<Self, ConfigError> {
        let mut sources = Self::default();
        if let Some(path) = named {
            sources.add_file(path, true)?;
            sources.add_drop_ins(path)?;
        } else {
            sources.add_file(Path::new(VENDOR_FILE), false)?;
            sources.add_file(Path::new(ADMIN_FILE), false)?;
            sources.add_drop_ins(Path::new(ADMIN_FILE))?;
        }
        let mut variables: Vec<(String, String)> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("BTY_") && name.contains("__"))
            .collect();
        variables.sort();
        for (name, value) in variables {
            sources.add_variable(&name, &value)?;
        }
        for flag in flags {
            sources.add_flag(flag)?;
        }
        Ok(sources)
    }

    /// The sources, weakest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// Adds a file's text; a file that is absent counts only where it is `required`.
    pub(super) fn add_file(&mut self, path: &Path, required: bool) -> Result<(), ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(problem) if !required && problem.kind() == std::io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(problem) => return Err(ConfigError::Read { path: path.to_owned(), problem }),
        };
        self.0.push(Source { origin: path.display().to_string(), is_file: true, text });
        Ok(())
    }

    fn add_drop_ins(&mut self, beside: &Path) -> Result<(), ConfigError> {
        let folder = beside.parent().unwrap_or_else(|| Path::new("")).join("conf.d");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(problem) => return Err(ConfigError::Read { path: folder, problem }),
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        files.iter().try_for_each(|path| self.add_file(path, true))
    }

    /// Adds `BTY_<SECTION>__<KEY>`.
    pub(super) fn add_variable(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let origin = format!("environment {name}");
        let path = name.strip_prefix("BTY_").unwrap_or(name).to_ascii_lowercase();
        let keys: Vec<&str> = path.split("__").collect();
        self.add_assignment(origin, &keys, value)
    }

    /// Adds `--set section.key=value`.
    pub(super) fn add_flag(&mut self, flag: &str) -> Result<(), ConfigError> {
        let origin = format!("flag --set {flag}");
        let Some((path, value)) = flag.split_once('=') else {
            let problem = "it has no '='; write --set SECTION.KEY=VALUE".to_owned();
            return Err(ConfigError::Invalid { origin, problem });
        };
        let keys: Vec<&str> = path.trim().split('.').collect();
        self.add_assignment(origin, &keys, value.trim())
    }

    fn add_assignment(
        &mut self,
        origin: String,
        keys: &[&str],
        value: &str,
    ) -> Result<(), ConfigError> {
        let bare = |key: &&str| {
            !key.is_empty()
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        if keys.len() < 2 || !keys.iter().all(bare) {
            let problem = format!(
                "it names no key; a key is SECTION and NAME, with one of {}",
                SECTIONS.join(", ")
            );
            return Err(ConfigError::Invalid { origin, problem });
        }
        let path = keys.join(".");
        let as_toml = format!("{path} = {value}\n");
        let text = if toml::from_str::<toml::Table>(&as_toml).is_ok() {
            as_toml
        } else {
            format!("{path} = {}\n", toml::Value::String(value.to_owned()))
        };
        self.0.push(Source { origin, is_file: false, text });
        Ok(())
    }

    /// Adds text as if it were a file, for tests.
    #[cfg(test)]
    pub(super) fn add_text(&mut self, origin: &str, text: &str) {
        self.0.push(Source { origin: origin.to_owned(), is_file: true, text: text.to_owned() });
    }
}
