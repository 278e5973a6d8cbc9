//! Checks one source by itself, so that an error can say file, line and column.

use std::{fmt, marker::PhantomData};

use serde::de::{DeserializeOwned, DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};

use super::{ConfigError, LogSettings, SECTIONS, sources::Source};

/// Checks the section `name` (as `S`) and `[log]` of a source; other known sections belong to other daemons.
pub(super) fn check<S: DeserializeOwned>(
    name: &'static str,
    source: &Source,
) -> Result<(), ConfigError> {
    let document = toml::Deserializer::parse(&source.text);
    document
        .and_then(|document| Document::<S> { name, settings: PhantomData }.deserialize(document))
        .map_err(|problem| ConfigError::Invalid {
            origin: place(source, problem.span().map(|span| span.start)),
            problem: problem.message().to_owned(),
        })
}

/// `FILE:LINE:COLUMN` of a byte offset; only the origin where the source is not a file.
fn place(source: &Source, offset: Option<usize>) -> String {
    let Some(before) =
        offset.and_then(|offset| source.text.get(..offset)).filter(|_| source.is_file)
    else {
        return source.origin.clone();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{line}:{column}", source.origin)
}

struct Document<S> {
    name: &'static str,
    settings: PhantomData<S>,
}

impl<'de, S: DeserializeOwned> DeserializeSeed<'de> for Document<S> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeOwned> Visitor<'de> for Document<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sections of a bty configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(section) = map.next_key_seed(SectionName)? {
            if section == self.name {
                map.next_value::<S>()?;
            } else if section == "log" {
                map.next_value::<LogSettings>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Refuses an unknown section while the parser still knows where the name stands.
struct SectionName;

impl<'de> DeserializeSeed<'de> for SectionName {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let section: String = serde::Deserialize::deserialize(deserializer)?;
        if SECTIONS.contains(&section.as_str()) {
            Ok(section)
        } else {
            Err(D::Error::unknown_variant(&section, &SECTIONS))
        }
    }
}
