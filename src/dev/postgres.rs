//! A Postgres of our own, under an account that it accepts.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tracing::info;

use super::folder::Folder;
use super::programs::{self, Account};
use super::server::{Server, end_stale};
use crate::config::{DatabaseSettings, Secret, Span};
use crate::error::{Error, Kind, Result};
use crate::store::Store;

/// How long recovering after a crash may take at the start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting Postgres is asked whether it serves.
const POLL: Duration = Duration::from_millis(50);
/// Where the data is when the account of Postgres can't reach the data folder.
const ELSEWHERE: &str = "/var/lib/millstream-dev";
/// The database that is made.
const DATABASE: &str = "millstream";

/// Starts it on the folder's data, and waits until it serves. The URL of the database, and the server.
///
/// # Errors
/// [`Kind::Config`] if it is not installed or does not start.
pub(super) async fn start(folder: &Folder) -> Result<(String, Server)> {
    let account = Account::for_postgres(folder.path())?;
    let data = place(folder, account).await?.join("data");
    let password = folder.secret("servers-password")?;
    if !data.join("PG_VERSION").exists() {
        initialise(account, &data, &password).await?;
    }
    end_former(&data).await;
    let port = folder.port("postgres")?;
    let mut command = Account::command(account, &programs::of_postgres("postgres")?);
    command.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""]);
    command.args(["-c", "max_connections=200", "-c", "log_min_messages=warning"]);
    // "Fast": connections are cut, nothing is lost, and the next start has nothing to recover.
    let mut server = Server::start("postgres", command, "INT", &folder.path().join("postgres.log"))?;
    let url = |database: &str| format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}");
    let first = url("postgres");
    let prepare = async {
        serves(&first).await?;
        make_database(port, &password).await
    };
    let made = tokio::select! {
        error = server.ended() => Err(error),
        made = prepare => made,
    };
    match made {
        Ok(()) => Ok((url(DATABASE), server)),
        Err(error) => {
            server.stop().await;
            Err(error)
        }
    }
}

/// A folder that the account can reach and that is its own.
async fn place(folder: &Folder, account: Option<Account>) -> Result<PathBuf> {
    let inside = folder.sub("postgres")?;
    let Some(account) = account else { return Ok(inside) };
    let dir = if account.may_enter(folder.path()).await {
        inside
    } else {
        // One place per data folder, the same at each start.
        let digest = Sha256::digest(folder.path().as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let dir = Path::new(ELSEWHERE).join(name);
        std::fs::create_dir_all(&dir).map_err(|e| super::unusable(&dir, e))?;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(ELSEWHERE, open).map_err(|e| super::unusable(Path::new(ELSEWHERE), e))?;
        folder.write("postgres/elsewhere", &dir.display().to_string())?;
        info!("the account of postgres can't reach the data folder: its data is in {}", dir.display());
        dir
    };
    chown(&dir, Some(account.uid), Some(account.gid)).map_err(|e| super::unusable(&dir, e))?;
    Ok(dir)
}

async fn initialise(account: Option<Account>, data: &Path, password: &str) -> Result<()> {
    // Made beside its place and moved there when complete: a run that is cut leaves no half a cluster.
    let new = data.with_file_name("data.new");
    let _ = std::fs::remove_dir_all(&new);
    let file = data.with_file_name("password");
    let failed = |e| super::unusable(&file, e);
    std::fs::write(&file, password).map_err(failed)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    if let Some(account) = account {
        chown(&file, Some(account.uid), Some(account.gid)).map_err(failed)?;
    }
    let mut command = Account::command(account, &programs::of_postgres("initdb")?);
    command.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"]);
    command.arg(format!("--pwfile={}", file.display())).arg("-D").arg(&new);
    let made = run("initdb", &mut command).await;
    let _ = std::fs::remove_file(&file);
    made?;
    info!("made a cluster of Postgres in {}", data.display());
    std::fs::rename(&new, data).map_err(|e| super::unusable(data, e))
}

/// Ends the server that an earlier run left on this data, and takes its note away: its number may
/// be another process' by now, which Postgres would take for a server of its own.
async fn end_former(data: &Path) {
    let note = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&note) else { return };
    if let Some(pid) = text.lines().next().and_then(|pid| pid.trim().parse().ok()) {
        end_stale("postgres", pid, &["postgres", &data.display().to_string()], "INT").await;
    }
    let _ = std::fs::remove_file(&note);
}

async fn serves(url: &str) -> Result<()> {
    let settings =
        DatabaseSettings { url: Secret::new(url), connect_timeout: Span::secs(2), ..DatabaseSettings::default() };
    let store = Store::connect(&settings)?;
    let begin = Instant::now();
    while let Err(error) = store.ping().await {
        if !error.is_retryable() || begin.elapsed() > START_TIMEOUT {
            return Err(Error::new(Kind::Config, "wait for postgres to serve").caused_by(error));
        }
        tokio::time::sleep(POLL).await;
    }
    store.close().await;
    Ok(())
}

async fn make_database(port: u16, password: &str) -> Result<()> {
    let mut command = Command::new(programs::of_postgres("createdb")?);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", DATABASE]);
    command.env("PGPASSWORD", password).env("LC_MESSAGES", "C");
    match run("createdb", &mut command).await {
        Err(error) if error.to_string().contains("already exists") => Ok(()),
        other => other,
    }
}

async fn run(name: &str, command: &mut Command) -> Result<()> {
    let output = command.stdin(std::process::Stdio::null()).output().await;
    let output = output.map_err(|e| Error::new(Kind::Config, format!("run {name}")).caused_by(e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(Kind::Config, format!("run {name}: {} {said}", output.status)))
}
