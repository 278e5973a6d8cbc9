//! Lays sources over each other, key by key, and keeps where each key comes from.

use std::collections::BTreeMap;

use super::{ConfigError, sources::Sources};

/// Where keys come from: dotted key to origin and value as TOML.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, (String, String)>);

impl Origins {
    /// Key, value as TOML, and origin of every key that somebody wrote, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.0.iter().map(|(key, (value, origin))| (key.as_str(), value.as_str(), origin.as_str()))
    }
}

/// The merged document and its origins. Tables are merged; lists and values are replaced whole.
pub(super) fn merge(sources: &Sources) -> Result<(toml::Table, Origins), ConfigError> {
    let mut merged = toml::Table::new();
    let mut origins = Origins::default();
    for source in sources.iter() {
        let table: toml::Table =
            toml::from_str(&source.text).map_err(|problem| ConfigError::Invalid {
                origin: source.origin.clone(),
                problem: problem.message().to_owned(),
            })?;
        overlay(&mut merged, table, "", &source.origin, &mut origins);
    }
    Ok((merged, origins))
}

fn overlay(
    below: &mut toml::Table,
    above: toml::Table,
    prefix: &str,
    origin: &str,
    origins: &mut Origins,
) {
    for (key, value) in above {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(table) => {
                let slot = below.entry(key).or_insert_with(super::empty_table);
                if !slot.is_table() {
                    *slot = super::empty_table();
                }
                if let toml::Value::Table(inner) = slot {
                    overlay(inner, table, &path, origin, origins);
                }
            }
            value => {
                origins.0.insert(path, (value.to_string(), origin.to_owned()));
                below.insert(key, value);
            }
        }
    }
}
