//! The data folder: what it holds, who has it, and the secrets that are made once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Kind, Result};

/// Bytes of a secret that we make; HS256 asks for at least 32.
const SECRET_BYTES: usize = 32;

/// The data folder. **Invariant:** one process has it at a time.
pub(super) struct Folder {
    path: PathBuf,
    /// Released by the kernel, however we end.
    _lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and takes it.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be made or written, or another `millstream dev` has it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |e| super::unusable(path, e);
        std::fs::create_dir_all(path).map_err(failed)?;
        // Others may pass through (Postgres' account must), but not look.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let what = format!("use {}: another millstream dev is running with it", path.display());
                Err(Error::new(Kind::Config, what))
            }
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it for its owner alone, which is made if it is missing.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be made.
    pub(super) fn sub(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        let private = std::fs::Permissions::from_mode(0o700);
        let made = std::fs::create_dir_all(&path).and_then(|()| std::fs::set_permissions(&path, private));
        made.map_err(|e| super::unusable(&path, e))?;
        Ok(path)
    }

    /// What a file in it says, if there is one.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.path.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Writes a file that only its owner may read. A crash leaves the old one or the new one.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let failed = |e| super::unusable(&path, e);
        let _ = std::fs::remove_file(&new);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new).map_err(failed)?;
        writeln!(file, "{text}").and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&new, &path).map_err(failed)
    }

    /// A secret by its name: made at the first call, the same ever after.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be written.
    pub(super) fn secret(&self, name: &str) -> Result<String> {
        if let Some(secret) = self.read(name) {
            return Ok(secret);
        }
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
        self.write(name, &secret)?;
        Ok(secret)
    }

    /// The port that a server had last, if it is free, or one that is.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is none, or it can't be written down.
    pub(super) fn port(&self, name: &str) -> Result<u16> {
        let file = format!("{name}.port");
        let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if let Some(port) = self.read(&file).and_then(|port| port.parse().ok()).filter(free) {
            return Ok(port);
        }
        // Below the ports that the kernel hands out by itself: after a restart it shall be free again.
        let port = (0..100).map(|_| rand::random_range(20_000..32_000)).find(free);
        let port = port.ok_or_else(|| Error::new(Kind::Config, format!("find a free port for {name}")))?;
        self.write(&file, &port.to_string())?;
        Ok(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_of_one_process_and_keeps_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("data")).unwrap();
        let secret = folder.secret("hs256-secret").unwrap();
        assert!(secret.len() >= 32);
        assert_eq!(folder.secret("hs256-secret").unwrap(), secret);
        let mode = std::fs::metadata(folder.path().join("hs256-secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Folder::open(folder.path());
        assert!(second.err().unwrap().to_string().contains("another millstream dev"));
    }

    #[test]
    fn a_port_stays_unless_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let port = folder.port("redis").unwrap();
        assert_eq!(folder.port("redis").unwrap(), port);
        let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert_ne!(folder.port("redis").unwrap(), port);
    }
}
