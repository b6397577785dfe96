//! The Redis and the Postgres that `millstream dev` runs on: its own, or those it was given.

use tracing::info;

use super::folder::Folder;
use super::server::Server;
use super::{postgres, redis};
use crate::error::{Error, Result};

/// The servers, and where they are.
pub(super) struct Servers {
    /// `redis://…`
    pub(super) redis_url: String,
    /// `postgres://…`
    pub(super) database_url: String,
    redis: Option<Server>,
    postgres: Option<Server>,
}

impl Servers {
    /// Starts what isn't given, both at the same time, and waits until they serve.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a server is not installed or does not start.
    pub(super) async fn start(folder: &Folder, redis: Option<String>, database: Option<String>) -> Result<Self> {
        let (redis, postgres) = tokio::join!(
            async {
                match redis {
                    Some(url) => Ok((url, None)),
                    None => redis::start(folder).await.map(|(url, server)| (url, Some(server))),
                }
            },
            async {
                match database {
                    Some(url) => Ok((url, None)),
                    None => postgres::start(folder).await.map(|(url, server)| (url, Some(server))),
                }
            }
        );
        match (redis, postgres) {
            (Ok((redis_url, redis)), Ok((database_url, postgres))) => {
                Ok(Self { redis_url, database_url, redis, postgres })
            }
            (Err(error), Ok((_, Some(other)))) | (Ok((_, Some(other))), Err(error)) => {
                other.stop().await;
                Err(error)
            }
            (Err(one), Err(other)) => {
                info!("{other}");
                Err(one)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Whether Redis is our own.
    pub(super) fn own_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Whether Postgres is our own.
    pub(super) fn own_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// Waits until one of our own ends, which it shouldn't. May be dropped at any time.
    pub(super) async fn ended(&mut self) -> Error {
        async fn of(server: &mut Option<Server>) -> Error {
            match server {
                Some(server) => server.ended().await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            error = of(&mut self.redis) => error,
            error = of(&mut self.postgres) => error,
        }
    }

    /// Stops our own, after those who need them have stopped.
    pub(super) async fn stop(self) {
        let stop = async |server: Option<Server>| {
            if let Some(server) = server {
                server.stop().await;
            }
        };
        tokio::join!(stop(self.redis), stop(self.postgres));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseSettings, RedisSettings, Secret};
    use crate::store::Store;
    use crate::stream::Redis;

    async fn redis(servers: &Servers) -> Redis {
        Redis::connect(&RedisSettings { url: Secret::new(&servers.redis_url), ..RedisSettings::default() })
            .await
            .unwrap()
    }

    async fn store(servers: &Servers) -> Store {
        let url = Secret::new(&servers.database_url);
        Store::connect(&DatabaseSettings { url, ..DatabaseSettings::default() }).unwrap()
    }

    /// A run that was killed may leave its servers behind; the next one must not start a second
    /// server on the same files, nor fail because of the first.
    #[tokio::test]
    async fn servers_that_an_earlier_run_left_are_replaced_and_nothing_is_lost() {
        let dir = tempfile::Builder::new().prefix("millstream-dev-").tempdir_in("/tmp").unwrap();
        let folder = Folder::open(&dir.path().join("data")).unwrap();
        let first = Servers::start(&folder, None, None).await.unwrap();
        store(&first).await.migrate().await.unwrap();
        redis(&first).await.command("SET", vec!["k", "v"]).await.unwrap();

        let mut second = Servers::start(&folder, None, None).await.unwrap();
        assert!(store(&second).await.is_migrated().await.unwrap());
        let kept = redis(&second).await.command("GET", vec!["k"]).await.unwrap();
        assert_eq!(kept.text().unwrap(), "v");
        let policy = redis(&second).await.command("CONFIG", vec!["GET", "appendfsync"]).await.unwrap();
        assert_eq!(policy.list().unwrap()[1].text().unwrap(), "always");

        drop(first);
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), second.ended()).await;
        assert!(early.is_err(), "{early:?}");
        second.stop().await;
    }

    #[tokio::test]
    async fn servers_that_are_given_are_not_started() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let given = Servers::start(&folder, Some("redis://r".into()), Some("postgres://p".into())).await.unwrap();
        assert!(!given.own_redis() && !given.own_postgres());
        assert_eq!(given.redis_url, "redis://r");
        given.stop().await;
    }
}
