//! What can be typed behind `btyctl image import`.

use std::path::PathBuf;

use bty_types::{ImageId, ImageName};
use clap::Args;

const PROOF: &str = "What the publisher says";
const REGISTRY: &str = "OCI registries";
const EXAMPLES: &str = "\
Examples:
  btyctl image import debian-13.qcow2 --name debian:13
  btyctl image import https://images.lab/debian-13.raw.xz \\
      --checksums https://images.lab/SHA256SUMS \\
      --openpgp-key images.asc --openpgp-url https://images.lab/SHA256SUMS.gpg
  btyctl image import oras://registry.lab/images/debian:13
  xz -dc disk.xz | btyctl image import - --name lab:1

Ctrl-c calls it off; what fails or is called off leaves nothing behind.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Import {
    /// A file here, - for standard input, or what the server fetches: an
    /// http(s) URL or oras://REGISTRY/REPOSITORY[:TAG][@DIGEST].
    pub(crate) source: String,
    /// The name to give it [default: from the source's name].
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<ImageName>,
    /// The file lies on the server, below one of its import_dirs.
    #[arg(long)]
    pub(crate) on_server: bool,
    /// The id that the image must turn out to have.
    #[arg(long, value_name = "ID")]
    pub(crate) expect_id: Option<ImageId>,

    /// The publisher's SHA-256 of the file as it is.
    #[arg(long, value_name = "HEX", conflicts_with = "sha512", help_heading = PROOF)]
    pub(crate) sha256: Option<String>,
    /// The publisher's SHA-512 of the file as it is.
    #[arg(long, value_name = "HEX", help_heading = PROOF)]
    pub(crate) sha512: Option<String>,
    /// The URL of the publisher's list of checksums (SHA256SUMS), in which the
    /// file is by its name.
    #[arg(long, value_name = "URL", conflicts_with_all = ["sha256", "sha512"], help_heading = PROOF)]
    pub(crate) checksums: Option<String>,
    /// The publisher's minisign key, by which that list must be signed, or,
    /// without --checksums, the file itself.
    #[arg(long, value_name = "KEY", conflicts_with = "openpgp_key", help_heading = PROOF)]
    pub(crate) minisign_key: Option<String>,
    /// The URL of that signature [default: the list's, or the file's, and
    /// .minisig].
    #[arg(long, value_name = "URL", requires = "minisign_key", help_heading = PROOF)]
    pub(crate) minisign_url: Option<String>,
    /// A file with the publisher's OpenPGP public keys (.asc, .gpg), by one of
    /// which that list must be signed, or, without --checksums, the file
    /// itself.
    #[arg(long, value_name = "FILE", help_heading = PROOF)]
    pub(crate) openpgp_key: Option<PathBuf>,
    /// The URL of that signature (SHA256SUMS.gpg, .sign, .sig, .asc); not
    /// needed for a list that has it inside.
    #[arg(long, value_name = "URL", requires = "openpgp_key", help_heading = PROOF)]
    pub(crate) openpgp_url: Option<String>,

    /// A file that says who reads from the registry: USER:PASSWORD, or what
    /// docker, podman or oras login have written.
    #[arg(long, value_name = "FILE", help_heading = REGISTRY)]
    pub(crate) registry_auth: Option<PathBuf>,
    /// Ask the registry without encryption.
    #[arg(long, help_heading = REGISTRY)]
    pub(crate) plain_http: bool,
}
