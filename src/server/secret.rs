//! The deployment's secret, in a file.

use anyhow::Context as _;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::config::SecretFile;
use crate::keys::{Keys, Secret};
use crate::random::{self, Random};

/// Reads the secret, and says what follows from it. Beside an embedded database it is made when it is not there.
pub(super) fn keys(file: &SecretFile) -> anyhow::Result<Keys> {
    let path = match file {
        SecretFile::Given(path) => path,
        SecretFile::BesideDatabase(path) => {
            make(path).with_context(|| format!("the secret can't be made in {}", path.display()))?;
            path
        }
    };
    let place = || format!("--secret-key-file (CAMPAIGN_SECRET_KEY_FILE) {}", path.display());
    let secret = fs::read_to_string(path).with_context(place)?;
    let secret = Secret::parse(&secret).with_context(place)?;
    Keys::new(&secret).with_context(place)
}

/// Makes a secret, unless it is there. Only its owner may read it.
fn make(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    // Written aside first: nobody reads half of it, and of two servers one wins. Under a name of its own: what a server left that was
    // killed here is in nobody's way, and in a container all have the same process id.
    let aside = path.with_extension(format!("key.{}", Random::from_os().uuid()));
    let linked = write(&aside).map(|()| fs::hard_link(&aside, path));
    let removed = fs::remove_file(&aside);
    let linked = linked?;
    removed?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write(path: &Path) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", random::secret()?)?;
    Ok(file.sync_all()?)
}
