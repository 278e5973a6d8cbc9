//! Fix-ups between the contract, `bty-types` and the files that people have ([`read`]).

pub mod read;

use std::fmt;

use bty_types::{
    ParseError,
    fix_ups::{Content, DroppedFile, FilePlace, FixUps, Seed, SeedPlace},
};

use crate::types::v1 as wire;

impl From<&FixUps> for wire::FixUps {
    fn from(wanted: &FixUps) -> Self {
        Self {
            gpt_to_end: wanted.gpt_to_end,
            grow: wanted.grow,
            new_guids: wanted.new_guids,
            seed: wanted.seed.as_ref().map(|seed| wire::NoCloudSeed {
                place: wire::SeedPlace::from(seed.place).into(),
                user_data: Some((&seed.user_data).into()),
                meta_data: Some((&seed.meta_data).into()),
                network_config: seed.network_config.as_ref().map(Into::into),
                vendor_data: seed.vendor_data.as_ref().map(Into::into),
            }),
            ignition: wanted.ignition.as_ref().map(Into::into),
            unattend: wanted.unattend.as_ref().map(Into::into),
            files: wanted.files.iter().map(Into::into).collect(),
        }
    }
}

impl From<&DroppedFile> for wire::DroppedFile {
    fn from(file: &DroppedFile) -> Self {
        Self {
            partition: file.at.partition.to_string(),
            path: file.at.path.to_string(),
            content: Some((&file.content).into()),
            mode: Some(file.mode),
            uid: file.owner.0,
            gid: file.owner.1,
        }
    }
}

impl From<&Content> for wire::Content {
    fn from(content: &Content) -> Self {
        let bytes = content.bytes().to_vec();
        Self { size_bytes: bytes.len() as u64, bytes }
    }
}

// What a person asks to have put on a disk may be secret, and belongs in no log.
impl fmt::Debug for wire::Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.size_bytes.max(self.bytes.len() as u64);
        f.debug_struct("Content").field("size_bytes", &bytes).finish_non_exhaustive()
    }
}

impl From<SeedPlace> for wire::SeedPlace {
    fn from(place: SeedPlace) -> Self {
        match place {
            SeedPlace::Partition => Self::Partition,
            SeedPlace::Files => Self::Files,
        }
    }
}

impl TryFrom<&wire::FixUps> for FixUps {
    type Error = ParseError;

    fn try_from(message: &wire::FixUps) -> Result<Self, ParseError> {
        let wanted = Self {
            gpt_to_end: message.gpt_to_end,
            grow: message.grow,
            new_guids: message.new_guids,
            seed: message.seed.as_ref().map(seed).transpose()?,
            ignition: message.ignition.as_ref().map(content).transpose()?,
            unattend: message.unattend.as_ref().map(content).transpose()?,
            files: message.files.iter().map(file).collect::<Result<_, _>>()?,
        };
        wanted.check()?;
        Ok(wanted)
    }
}

impl wire::FixUps {
    /// The same without what may be secret: contents have only their sizes.
    #[must_use]
    pub fn without_contents(&self) -> Self {
        let mut shown = self.clone();
        let seed = shown.seed.iter_mut().flat_map(|seed| {
            [
                &mut seed.user_data,
                &mut seed.meta_data,
                &mut seed.network_config,
                &mut seed.vendor_data,
            ]
        });
        let files = shown.files.iter_mut().map(|file| &mut file.content);
        let all = seed.chain([&mut shown.ignition, &mut shown.unattend]).chain(files);
        for content in all.flatten() {
            content.size_bytes = content.size_bytes.max(content.bytes.len() as u64);
            content.bytes = Vec::new();
        }
        shown
    }

    /// What is asked for, in words without what may be secret.
    pub fn words(&self) -> Vec<String> {
        let size = |content: &Option<wire::Content>| match content {
            Some(content) => content.size_bytes.max(content.bytes.len() as u64),
            None => 0,
        };
        let flags =
            [(self.gpt_to_end, "gpt-to-end"), (self.grow, "grow"), (self.new_guids, "new-guids")];
        let mut words: Vec<String> =
            flags.iter().filter(|flag| flag.0).map(|flag| flag.1.to_owned()).collect();
        if let Some(seed) = &self.seed {
            let place = match seed.place() {
                wire::SeedPlace::Files => "files",
                wire::SeedPlace::Partition | wire::SeedPlace::Unspecified => "partition CIDATA",
            };
            words.push(format!("seed ({place}, user-data of {} bytes)", size(&seed.user_data)));
        }
        for (name, content) in [("ignition", &self.ignition), ("unattend", &self.unattend)] {
            if content.is_some() {
                words.push(format!("{name} ({} bytes)", size(content)));
            }
        }
        words.extend(self.files.iter().map(|file| {
            format!("{}:{} ({} bytes)", file.partition, file.path, size(&file.content))
        }));
        words
    }
}

fn seed(message: &wire::NoCloudSeed) -> Result<Seed, ParseError> {
    let required = |message: &Option<wire::Content>| {
        message.as_ref().map_or_else(|| Ok(Content::default()), content)
    };
    let optional = |message: &Option<wire::Content>| message.as_ref().map(content).transpose();
    Ok(Seed {
        place: match message.place() {
            wire::SeedPlace::Unspecified | wire::SeedPlace::Partition => SeedPlace::Partition,
            wire::SeedPlace::Files => SeedPlace::Files,
        },
        user_data: required(&message.user_data)?,
        meta_data: required(&message.meta_data)?,
        network_config: optional(&message.network_config)?,
        vendor_data: optional(&message.vendor_data)?,
    })
}

fn content(message: &wire::Content) -> Result<Content, ParseError> {
    if message.bytes.is_empty() && message.size_bytes > 0 {
        let given = format!("{} bytes", message.size_bytes);
        let reason = "they are not there: what the registry shows is without contents";
        return Err(ParseError::new("a content", &given, reason));
    }
    Ok(Content::new(message.bytes.clone()))
}

fn file(message: &wire::DroppedFile) -> Result<DroppedFile, ParseError> {
    let at = FilePlace { partition: message.partition.parse()?, path: message.path.parse()? };
    let content = message.content.as_ref().map(content).transpose()?.unwrap_or_default();
    Ok(DroppedFile {
        at,
        content,
        mode: message.mode.unwrap_or(DroppedFile::MODE),
        owner: (message.uid, message.gid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_mode_can_be_read_by_all_and_is_not_shown() {
        let message = wire::DroppedFile {
            partition: "2".into(),
            path: "/etc/motd".into(),
            content: Some((&Content::new(b"secret".to_vec())).into()),
            ..wire::DroppedFile::default()
        };
        assert_eq!(file(&message).unwrap().mode, 0o644);
        let shown = format!("{message:?}");
        let secret = format!("{:?}", b"secret");
        assert!(shown.contains("size_bytes: 6") && !shown.contains(&secret), "{shown}");
    }

    fn wanted() -> FixUps {
        let content = |text: &str| Content::new(text.as_bytes().to_vec());
        let seed = Seed {
            place: SeedPlace::Files,
            user_data: content("password: x"),
            network_config: Some(content("version: 2")),
            ..Seed::default()
        };
        FixUps {
            grow: true,
            seed: Some(seed),
            ignition: Some(content("{}")),
            files: vec![DroppedFile {
                at: "root:/etc/motd".parse().unwrap(),
                content: content("hello"),
                mode: 0o600,
                owner: (1, 2),
            }],
            ..FixUps::default()
        }
    }

    #[test]
    fn wishes_survive_the_wire() {
        for wanted in [wanted(), FixUps::default()] {
            assert_eq!(FixUps::try_from(&wire::FixUps::from(&wanted)), Ok(wanted));
        }
    }

    #[test]
    fn what_is_shown_has_no_contents_and_is_not_taken_back() {
        let shown = wire::FixUps::from(&wanted()).without_contents();
        assert!(!format!("{shown:?}").contains("[112, 97"), "{shown:?}");
        assert_eq!(
            shown.words(),
            [
                "grow",
                "seed (files, user-data of 11 bytes)",
                "ignition (2 bytes)",
                "root:/etc/motd (5 bytes)"
            ]
        );
        assert_eq!(shown.without_contents(), shown);
        let problem = FixUps::try_from(&shown).unwrap_err().to_string();
        assert!(problem.contains("without contents"), "{problem}");
    }
}
