//! Where the programs of Redis and Postgres are, and the account that Postgres runs under.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::error::{Error, Kind, Result};

/// Folders in which Debian and Homebrew keep the programs of each version of Postgres.
const VERSIONED: &[&str] = &["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"];
/// Accounts that Postgres may run under when we are root, in order of preference.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];

/// The server program of Redis, or of Valkey.
///
/// # Errors
/// [`Kind::Config`] with the package's name if there is none.
pub(super) fn redis_server() -> Result<PathBuf> {
    let found = ["redis-server", "valkey-server"].iter().find_map(|name| in_path(name));
    found.ok_or_else(|| {
        let how = "install the package redis-server (Debian) or redis (Homebrew), or give --redis-url";
        Error::new(Kind::Config, format!("find redis-server in PATH: {how}"))
    })
}

/// A program of Postgres; all of them come from one folder.
///
/// # Errors
/// [`Kind::Config`] with the package's name if there is none.
pub(super) fn of_postgres(name: &str) -> Result<PathBuf> {
    let folder = postgres_folder().ok_or_else(|| {
        let how = "install the package postgresql (Debian) or postgresql@17 (Homebrew), or give --database-url";
        Error::new(Kind::Config, format!("find initdb in PATH or below {VERSIONED:?}: {how}"))
    })?;
    Ok(folder.join(name))
}

fn postgres_folder() -> Option<PathBuf> {
    // A link in PATH may stand alone; where it leads, the others are too.
    let complete = |folder: &PathBuf| ["initdb", "postgres", "createdb"].iter().all(|name| folder.join(name).is_file());
    let linked = in_path("initdb").and_then(|path| path.canonicalize().ok()?.parent().map(Path::to_owned));
    if let Some(folder) = linked.filter(complete) {
        return Some(folder);
    }
    let below = |root: &&str| std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path().join("bin"));
    let mut folders: Vec<PathBuf> = VERSIONED.iter().flat_map(below).filter(complete).collect();
    folders.sort_by_key(|folder| version(folder));
    folders.pop()
}

fn version(folder: &Path) -> u32 {
    let digits: String = folder.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// An account by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The account that Postgres has to run under: nothing unless we are root, as whom it refuses.
    ///
    /// # Errors
    /// [`Kind::Config`] if we are root and there is no such account.
    pub(super) fn for_postgres(ours: &Path) -> Result<Option<Self>> {
        // A folder that we have just made is ours: its owner is who we are.
        let metadata = std::fs::metadata(ours).map_err(|e| super::unusable(ours, e))?;
        if metadata.uid() != 0 {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ACCOUNTS.iter().find_map(|name| Self::named(name, &accounts));
        let missing =
            || Error::new(Kind::Config, format!("run Postgres, which refuses to be root: none of {ACCOUNTS:?}"));
        found.map(Some).ok_or_else(missing)
    }

    fn named(name: &str, accounts: &str) -> Option<Self> {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2);
        Some(Self { uid: numbers.next()?.parse().ok()?, gid: numbers.next()?.parse().ok()? })
    }

    /// A command that runs `program` under this account, or under ours if there is none.
    pub(super) fn command(account: Option<Self>, program: &Path) -> Command {
        let Some(account) = account else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={}", account.uid), format!("--regid={}", account.gid), "--clear-groups".into()]);
        // Where we stand may be closed to that account.
        command.arg("--").arg(program).current_dir("/");
        command
    }

    /// Whether this account may enter `folder`, whatever lies above it.
    pub(super) async fn may_enter(self, folder: &Path) -> bool {
        let mut command = Self::command(Some(self), Path::new("/bin/sh"));
        let status = command.args(["-c", "cd \"$1\" 2>/dev/null", "sh"]).arg(folder).status().await;
        status.is_ok_and(|status| status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgresql:x:5:6::/:/bin/sh\npostgres:x:101:104::/:/bin/bash\n";
        assert_eq!(Account::named("postgres", accounts), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::named("nobody", accounts), None);
    }
}
