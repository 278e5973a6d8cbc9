//! Debian packages from a private apt state: the machine's own apt is neither changed nor needs to know the suite.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// How often a mirror is tried: they fail now and then.
const TRIES: u32 = 3;

/// A private apt state for one suite and one architecture, which needn't be the machine's.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    architecture: &'static str,
}

/// Where packages come from, as the machine's own apt configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    url: String,
    keyring: Option<String>,
}

impl Apt {
    /// A state in this folder, with fresh lists of the suite for this architecture.
    pub(crate) fn new(folder: &Path, suite: &str, architecture: &'static str) -> Result<Self> {
        let mirror = own_mirror()?;
        for sub in ["lists/partial", "archives/partial", "debs", "etc"] {
            fs::create_dir_all(folder.join(sub))
                .with_context(|| format!("making {}", folder.display()))?;
        }
        let signed =
            mirror.keyring.map(|keyring| format!(" [signed-by={keyring}]")).unwrap_or_default();
        fs::write(
            folder.join("sources.list"),
            format!("deb{signed} {} {suite} main non-free-firmware\n", mirror.url),
        )?;
        fs::write(folder.join("status"), "")?;
        let apt = Self { folder: folder.canonicalize()?, architecture };
        patiently("updating the package lists", || apt.run("apt-get", &["update", "--quiet=2"]))?;
        Ok(apt)
    }

    /// The package's version.
    pub(crate) fn version(&self, package: &str) -> Result<String> {
        self.field(package, "Version")
    }

    /// The first package that this one depends on: for packages that only name the current one.
    pub(crate) fn first_dependency(&self, package: &str) -> Result<String> {
        let depends = self.field(package, "Depends")?;
        let first = depends.split([',', ' ']).next().unwrap_or_default();
        ensure!(!first.is_empty(), "{package} depends on nothing");
        Ok(first.to_owned())
    }

    /// Downloads a package, checked by apt against the suite's signature, and gives the file.
    pub(crate) fn download(&self, package: &str) -> Result<PathBuf> {
        let wanted = format!("{package}={}", self.version(package)?);
        patiently(&format!("downloading {package}"), || {
            self.run("apt-get", &["download", "--quiet=2", &wanted])
        })?;
        let prefix = format!("{package}_");
        let files =
            fs::read_dir(self.folder.join("debs"))?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut found: Vec<PathBuf> = files
            .filter(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            })
            .collect();
        found.sort_by_key(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok());
        found.pop().with_context(|| format!("apt-get download {package} left no file"))
    }

    fn field(&self, package: &str, field: &str) -> Result<String> {
        let shown = self.run("apt-cache", &["show", "--no-all-versions", package])?;
        let prefix = format!("{field}: ");
        let value = shown.lines().find_map(|line| line.strip_prefix(&prefix));
        value
            .map(str::to_owned)
            .with_context(|| format!("the suite has no package {package} with a field {field}"))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let options = [
            format!("Dir::Etc::SourceList={}", at("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            "Dir::Etc::Preferences=-".to_owned(),
            "Dir::Etc::PreferencesParts=-".to_owned(),
            format!("Dir::State={}", self.folder.display()),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::State::Status={}", at("status")),
            format!("Dir::Cache={}", self.folder.display()),
            format!("APT::Architecture={}", self.architecture),
            format!("APT::Architectures={}", self.architecture),
            // Downloading as the user _apt would need a folder that it can write to.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.join("debs"))
            .args(options.iter().flat_map(|option| ["-o", option]));
        let output =
            command.args(arguments).output().with_context(|| format!("starting {program}"))?;
        if !output.status.success() {
            bail!(
                "{program} {} failed: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn patiently<T>(what: &str, step: impl Fn() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match step() {
            Ok(done) => return Ok(done),
            Err(problem) if attempt >= TRIES => {
                return Err(problem.context(format!("{what} ({TRIES} tries)")));
            }
            Err(problem) => eprintln!("{what}: {problem}; trying again"),
        }
        attempt += 1;
    }
}

/// Unpacks a package into a folder.
pub(crate) fn unpack(package: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(into)
        .status()
        .context("starting dpkg-deb")?;
    ensure!(status.success(), "unpacking {} ended with {status}", package.display());
    Ok(())
}

/// The mirror of Debian itself that the machine's apt uses.
fn own_mirror() -> Result<Mirror> {
    let mut texts = vec![fs::read_to_string("/etc/apt/sources.list").unwrap_or_default()];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    let mut files: Vec<PathBuf> = parts.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    texts.extend(files.iter().map(|path| fs::read_to_string(path).unwrap_or_default()));
    let found = texts.iter().find_map(|text| one_line(text).or_else(|| deb822(text)));
    found.context("apt's configuration names no Debian mirror; is this a Debian machine?")
}

/// A mirror in the one-line style of sources.list(5): `deb [options] URL suite components`.
fn one_line(text: &str) -> Option<Mirror> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let url = rest.split_whitespace().next()?;
        let keyring =
            options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        is_debian(url).then(|| Mirror { url: url.to_owned(), keyring: keyring.map(str::to_owned) })
    })
}

/// A mirror in the deb822 style: paragraphs of `Field: value`.
fn deb822(text: &str) -> Option<Mirror> {
    text.split("\n\n").find_map(|paragraph| {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let url = field("URIs")?.split_whitespace().next()?;
        let keyring = field("Signed-By").filter(|keyring| keyring.starts_with('/'));
        is_debian(url).then(|| Mirror { url: url.to_owned(), keyring: keyring.map(str::to_owned) })
    })
}

/// The archive itself, not its security updates nor somebody's own packages.
fn is_debian(url: &str) -> bool {
    url.trim_end_matches('/').ends_with("/debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_found_in_either_style() {
        let want = |keyring: Option<&str>| {
            Some(Mirror {
                url: "http://mirror.example/debian".into(),
                keyring: keyring.map(str::to_owned),
            })
        };
        let lines = "# a comment\ndeb http://packages.example/x stable main\n\
                     deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main\n";
        assert_eq!(one_line(lines), want(Some("/k.gpg")));
        assert_eq!(one_line("deb http://mirror.example/debian bookworm main"), want(None));
        let paragraphs = "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: s\n\n\
                          Types: deb\nURIs: http://mirror.example/debian\nSigned-By: /k.gpg\n";
        assert_eq!(deb822(paragraphs), want(Some("/k.gpg")));
        assert_eq!(deb822("nothing"), None);
    }
}
