//! What a manifest says (OCI image specification, `manifest.md` and `image-index.md`), and which of its layers is the disk.

use bty_types::Checksum;
use serde::Deserialize;

use super::OciProblem;

/// Names of files, of media types or of platforms that are shown of one manifest.
const MOST_SHOWN: usize = 8;
const MOST_SHOWN_CHARS: usize = 120;
/// What a file's name may have, here as on a disk.
const MOST_NAME_BYTES: usize = 255;
/// The file's name, as `oras push` and others give it.
const TITLE: &str = "org.opencontainers.image.title";
/// `oras push` says by this that it has packed a folder.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// What the names of disk images end with, when what packed them is taken off.
const DISK_ENDINGS: [&str; 9] =
    [".img", ".raw", ".qcow2", ".vmdk", ".vhd", ".vhdx", ".vdi", ".iso", ".wic"];
const PACKED_ENDINGS: [&str; 5] = [".gz", ".xz", ".zst", ".bz2", ".lz4"];
/// A disk image may be alone in one.
const ARCHIVE_ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip"];
/// Media types of disk images that are in use; nobody has registered one.
const DISK_TYPES: [&str; 6] = ["disk", "qcow", "vmdk", "vhd", "raw-image", "iso-image"];
/// Media types that say that a layer is a folder's content, or is about something else.
const OTHER_TYPES: [&str; 8] =
    [".layer.", "rootfs.", "json", "yaml", "text/", "helm", "wasm", "in-toto"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: Option<String>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// The layer that is the disk image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Checksum,
    pub(super) bytes: u64,
    /// The file's name, where the manifest gives one.
    pub(super) title: Option<String>,
}

/// What a layer is, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Disk,
    /// It may be one; its content will tell.
    Unknown,
    Other,
}

/// The one disk image of a manifest.
pub(super) fn disk_layer(manifest: &[u8], repository: &str) -> Result<Layer, OciProblem> {
    let document: Document = serde_json::from_slice(manifest)
        .map_err(|problem| OciProblem::Manifest { why: shown(&problem.to_string()) })?;
    let layers = match (document.layers, document.manifests) {
        (Some(layers), None) => layers,
        (None, Some(manifests)) => {
            let found = listed(manifests.iter().map(|one| one.shown_as_manifest(repository)));
            return Err(OciProblem::Index { found });
        }
        // Whoever reads one part of it sees another thing than whoever reads the other.
        (Some(_), Some(_)) => {
            let why = "it says that it is a manifest and an index".to_owned();
            return Err(OciProblem::Manifest { why });
        }
        (None, None) => {
            let what = document.media_type.unwrap_or_default();
            let why = format!("it has no layers ({})", shown(&what));
            return Err(OciProblem::Manifest { why });
        }
    };
    let of_sort = |sort| {
        let mut found = layers.iter().filter(move |layer| layer.sort() == sort);
        (found.next(), found.next())
    };
    let layer = match (of_sort(Sort::Disk), of_sort(Sort::Unknown)) {
        ((Some(one), None), _) | ((None, _), (Some(one), None)) => one,
        ((Some(_), Some(_)), _) => {
            return Err(OciProblem::SeveralDisks {
                found: listed(layers.iter().map(Descriptor::shown)),
            });
        }
        ((None, _), _) => {
            return Err(OciProblem::NoDisk { found: listed(layers.iter().map(Descriptor::shown)) });
        }
    };
    let digest = layer.digest.parse().map_err(|_| OciProblem::Manifest {
        why: format!("the digest of its disk is not read: {}", shown(&layer.digest)),
    })?;
    Ok(Layer { digest, bytes: layer.size, title: layer.title().map(str::to_owned) })
}

impl Descriptor {
    fn title(&self) -> Option<&str> {
        let title = self.annotations.get(TITLE)?;
        let name = title.rsplit('/').next()?;
        (!name.is_empty() && name.len() <= MOST_NAME_BYTES).then_some(name)
    }

    fn sort(&self) -> Sort {
        if self.annotations.get(UNPACK).is_some_and(|unpack| unpack == "true") {
            return Sort::Other;
        }
        let media_type = self.media_type.to_ascii_lowercase();
        // oras gives any file the media type of a container's layer, so that a name says more.
        if let Some(title) = self.title().map(str::to_ascii_lowercase) {
            let packed = PACKED_ENDINGS.iter().find_map(|ending| title.strip_suffix(ending));
            let bare = packed.unwrap_or(&title);
            if DISK_ENDINGS.iter().any(|ending| bare.ends_with(ending)) {
                return Sort::Disk;
            }
            let is_unknown = packed.is_some_and(|bare| !bare.contains('.'))
                || ARCHIVE_ENDINGS.iter().any(|ending| title.ends_with(ending))
                || !title.contains('.');
            let is_disk = DISK_TYPES.iter().any(|word| media_type.contains(word));
            return match (is_disk, is_unknown) {
                (true, _) => Sort::Disk,
                (false, true) => Sort::Unknown,
                (false, false) => Sort::Other,
            };
        }
        if OTHER_TYPES.iter().any(|word| media_type.contains(word)) {
            Sort::Other
        } else if DISK_TYPES.iter().any(|word| media_type.contains(word)) {
            Sort::Disk
        } else {
            Sort::Unknown
        }
    }

    fn shown(&self) -> String {
        match self.title() {
            Some(title) => format!("{} ({})", shown(title), shown(&self.media_type)),
            None => shown(&self.media_type),
        }
    }

    fn shown_as_manifest(&self, repository: &str) -> String {
        let platform = self.platform.as_ref().map_or_else(String::new, |platform| {
            let variant = platform.variant.as_deref().map(|variant| format!("/{variant}"));
            let variant = variant.unwrap_or_default();
            format!(" for {}/{}{variant}", platform.os, platform.architecture)
        });
        format!("{repository}@{}{}", shown(&self.digest), shown(&platform))
    }
}

fn listed(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = all.len().saturating_sub(MOST_SHOWN);
    let mut text = all.take(MOST_SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}

/// What a server says, short enough to be told and recorded.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

    fn manifest(layers: &[(&str, Option<&str>)]) -> Result<Layer, OciProblem> {
        let layers: Vec<_> = layers
            .iter()
            .map(|(media_type, title)| {
                let annotations = title.map_or_else(
                    || serde_json::json!({}),
                    |title| serde_json::json!({ TITLE: title }),
                );
                let digest = format!("sha256:{}", "0a".repeat(32));
                serde_json::json!({
                    "mediaType": media_type, "digest": digest, "size": 5, "annotations": annotations
                })
            })
            .collect();
        let text = serde_json::json!({ "schemaVersion": 2, "layers": layers }).to_string();
        disk_layer(text.as_bytes(), "r.lab/a")
    }

    #[test]
    fn the_one_disk_among_the_layers_is_found() {
        for (layers, title) in [
            (&[(LAYER, Some("debian.qcow2"))][..], Some("debian.qcow2")),
            (&[(LAYER, Some("README.md")), (LAYER, Some("x/a.img.zst"))], Some("a.img.zst")),
            (&[(LAYER, Some("files.tar.gz")), ("x/y", Some("A.RAW.XZ"))], Some("A.RAW.XZ")),
            (&[(LAYER, Some("debian-13"))], Some("debian-13")),
            (&[(LAYER, Some("disk.tar.gz"))], Some("disk.tar.gz")),
            (&[("application/octet-stream", None)], None),
            (&[("application/vnd.lab.disk+zstd", None), (LAYER, None)], None),
            (&[("application/vnd.lab.disk", Some("v1.2"))], Some("v1.2")),
        ] {
            let layer = manifest(layers).unwrap_or_else(|why| panic!("{layers:?}: {why}"));
            assert_eq!(layer.title.as_deref(), title, "{layers:?}");
        }
    }

    #[test]
    fn what_is_no_disk_is_named() {
        let two = [(LAYER, Some("a.img")), (LAYER, Some("b.iso"))];
        let refused = manifest(&two).unwrap_err();
        assert!(matches!(refused, OciProblem::SeveralDisks { .. }), "{refused}");
        let shown = refused.to_string();
        assert!(shown.contains("a.img") && shown.contains("b.iso"), "{shown}");
        for layers in [
            &[("application/vnd.oci.image.layer.v1.tar+gzip", None)][..],
            &[("application/vnd.docker.image.rootfs.diff.tar.gzip", None); 3],
            &[("application/vnd.cncf.helm.chart.content.v1.tar+gzip", None)],
            &[(LAYER, Some("SHA256SUMS.txt"))],
            &[],
        ] {
            let refused = manifest(layers).unwrap_err();
            assert!(matches!(refused, OciProblem::NoDisk { .. }), "{layers:?}: {refused}");
            let first = layers.first().map_or("nothing", |(media_type, _)| media_type);
            assert!(refused.to_string().contains(first), "{refused}");
        }
    }

    #[test]
    fn an_index_names_what_is_in_it() {
        let digest = format!("sha256:{}", "0b".repeat(32));
        let one = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 9,
            "platform": { "os": "linux", "architecture": "arm64", "variant": "v8" }
        });
        let index = |count: usize| {
            let all = vec![one.clone(); count];
            let text = serde_json::json!({ "manifests": all }).to_string();
            disk_layer(text.as_bytes(), "oras://r.lab/a").unwrap_err().to_string()
        };
        let shown = index(2);
        assert!(shown.contains(&format!("oras://r.lab/a@{digest} for linux/arm64/v8")), "{shown}");
        assert!(index(20).contains("and 12 more"));
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"layers":[],"manifests":[]}"#,
            r#"{"layers":[{"digest":"md5:0","size":1}]}"#,
            r#"{"layers":[{"digest":"sha256:0","size":-1}]}"#,
        ] {
            let refused = disk_layer(text.as_bytes(), "r.lab/a").unwrap_err();
            assert!(matches!(refused, OciProblem::Manifest { .. }), "{text}: {refused}");
        }
    }

    #[test]
    fn what_a_manifest_says_is_told_in_short() {
        let long = "x".repeat(1 << 20);
        let wrong = serde_json::json!({ "layers": [{ "digest": "", "size": long }] }).to_string();
        let refused = disk_layer(wrong.as_bytes(), "r.lab/a").unwrap_err().to_string();
        assert!(refused.len() < 300, "{} characters", refused.len());
        let name = format!("{long}.img");
        let layer = manifest(&[("application/vnd.lab.disk", Some(&name))]).unwrap();
        assert_eq!(layer.title, None, "no file has such a name");
    }

    proptest! {
        #[test]
        fn any_manifest_is_read_or_refused(
            text in "\\PC{0,80}",
            keys in proptest::collection::vec("layers|manifests|mediaType|digest|size|annotations", 0..4),
            layers in proptest::collection::vec(("[ -~]{0,20}", "[ -~]{0,20}(\\.img)?(\\.xz)?"), 0..4),
        ) {
            let _ = disk_layer(text.as_bytes(), "r.lab/a");
            let object: serde_json::Map<_, _> =
                keys.into_iter().map(|key| (key, serde_json::json!([text]))).collect();
            let _ = disk_layer(serde_json::Value::from(object).to_string().as_bytes(), "r.lab/a");
            let layers: Vec<_> =
                layers.iter().map(|(kind, title)| (kind.as_str(), Some(title.as_str()))).collect();
            let _ = manifest(&layers);
        }
    }
}
