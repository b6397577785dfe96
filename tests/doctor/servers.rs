//! Redis, Postgres, the machine and the settings, without any process of ours.

use crate::support::{Postgres, Redis, free_port, millstream, unique};
use crate::{doctor, settings};

/// An address where nothing listens.
fn nowhere() -> String {
    format!("127.0.0.1:{}", free_port())
}

#[tokio::test]
async fn a_redis_that_forgets_is_told_with_the_lines_that_mend_it() {
    let redis = Redis::start(&["--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"]).await;
    let database = Postgres::shared().await.database().await;
    let env = settings(&redis.url(), &database.url);
    let report = doctor(&[], &env).await;
    assert_eq!(report.code, Some(1));
    let fix = report.one("redis.durability", "fail")["fix"].as_str().unwrap().to_owned();
    assert!(report.has("redis.eviction", "fail"), "{:#?}", report.findings);
    let mut mended = 0;
    for line in fix.lines().filter(|line| line.starts_with("CONFIG SET")) {
        assert!(!redis.command(line.split(' ')).await.is_error(), "{line}");
        mended += 1;
    }
    assert_eq!(mended, 2, "{fix}");
    let report = doctor(&[], &env).await;
    assert!(report.has("redis.durability", "ok") && report.has("redis.eviction", "ok"), "{:#?}", report.findings);
    assert!(report.has("redis.version", "ok") && report.has("redis.clock", "ok"), "{:#?}", report.findings);
    assert!(report.has_measured("redis.disk"), "{:#?}", report.findings);

    let replicated = doctor(&["--set", "redis.durability=replicated(2)"], &env).await;
    assert!(replicated.one("redis.replicas", "fail")["what"].as_str().unwrap().contains("wants 2"));
    // Little is allowed: less than it has already.
    redis.command(["CONFIG", "SET", "maxmemory", "900kb"]).await;
    assert!(doctor(&[], &env).await.has("redis.memory", "fail"));
}

#[tokio::test]
async fn where_config_is_forbidden_nobody_vouches() {
    let redis = Redis::shared().await;
    let name = unique("managed");
    redis.command(["ACL", "SETUSER", &name, "on", ">pw", "~*", "&*", "+@all", "-config", "-command"]).await;
    let database = Postgres::shared().await.database().await;
    let env = settings(&format!("redis://{name}:pw@{}", redis.addr()), &database.url);
    let report = doctor(&[], &env).await;
    assert!(report.has("redis.durability", "warn"), "{:#?}", report.findings);
    assert!(report.has("redis.version", "ok") && report.has("redis.disk", "skipped"), "{:#?}", report.findings);
    assert!(report.has("redis.eviction", "ok"), "INFO tells it too");
}

#[tokio::test]
async fn a_log_that_is_made_otherwise_or_not_prepared_is_told() {
    let (redis, database) = (Redis::shared().await, Postgres::shared().await.database().await);
    let env = settings(&redis.url(), &database.url);
    let before = doctor(&[], &env).await;
    assert!(before.has("redis.meta", "warn"), "{:#?}", before.findings);
    assert_eq!(redis.command(["EXISTS", &format!("{}:meta", env[2].1)]).await.int(), 0, "a look makes nothing");
    assert!(before.one("postgres.migrations", "fail")["fix"].as_str().unwrap().contains("millstream init"));
    millstream(&["init"], &env).await.ok();
    let report = doctor(&[], &env).await;
    assert!(report.has("redis.meta", "ok") && report.has("postgres.migrations", "ok"), "{:#?}", report.findings);
    assert!(report.has("postgres.months", "ok"), "{:#?}", report.findings);
    assert!(report.one("redis.partitions", "fail")["fix"].as_str().unwrap().contains("archive worker"));
    assert!(report.has("group archive", "fail") && report.has("group replay", "fail"), "{:#?}", report.findings);
    let wrong = doctor(&["--set", "redis.partitions=8"], &env).await;
    assert!(wrong.one("redis.meta", "fail")["fix"].as_str().unwrap().contains("redis.partitions = 4"));
    redis.command(["HSET", &format!("{}:meta", env[2].1), "format", "99"]).await;
    assert!(doctor(&[], &env).await.one("redis.meta", "fail")["what"].as_str().unwrap().contains("99"));
}

#[tokio::test]
async fn a_postgres_that_takes_no_rows_or_may_lose_them_is_told() {
    let (redis, database) = (Redis::shared().await, Postgres::shared().await.database().await);
    let env = settings(&redis.url(), &database.url);
    millstream(&["init"], &env).await.ok();
    let name = database.url.rsplit('/').next().unwrap().to_owned();
    let run = async |statement: String| {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&database.pool).await.unwrap();
    };
    assert!(doctor(&[], &env).await.has("postgres.writable", "ok"));
    run(format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let (month,): (String,) = sqlx::query_as(
        "SELECT max(c.relname::text) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'messages'::regclass AND c.relname LIKE 'messages_y%'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    run(format!("DROP TABLE {month}")).await;
    run(format!("DROP TABLE {}", month.replace("messages", "room_events"))).await;
    // Last: from here on new connections write nothing.
    run(format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let report = doctor(&["--set", "database.connections_max=64"], &env).await;
    assert_eq!(report.code, Some(1));
    assert!(report.has("postgres.writable", "fail"), "{:#?}", report.findings);
    let durability = report.with("postgres.durability", "warn");
    assert!(durability.iter().any(|found| found["what"].as_str().unwrap().contains("synchronous_commit")));
    let months = report.one("postgres.months", "warn")["what"].as_str().unwrap();
    assert!(months.contains(month.trim_start_matches("messages_")), "{months}");
    assert!(report.has("postgres.version", "ok") && report.has("postgres.clock", "ok"));
    assert!(report.has_measured("postgres.disk"), "{:#?}", report.findings);
}

#[tokio::test]
async fn one_server_that_is_down_hides_nothing_of_the_other() {
    let (redis, database) = (Redis::shared().await, Postgres::shared().await.database().await);
    let no_redis = doctor(&["--timeout", "1s"], &settings(&format!("redis://{}", nowhere()), &database.url)).await;
    assert_eq!(no_redis.code, Some(1));
    assert!(no_redis.one("redis.reachable", "fail")["fix"].as_str().unwrap().contains("REDIS_URL"));
    assert!(no_redis.has("postgres.reachable", "ok") && no_redis.has("postgres.migrations", "fail"));

    let env = settings(&redis.url(), &format!("postgres://postgres@{}/x", nowhere()));
    let no_postgres = doctor(&["--timeout", "1s"], &env).await;
    assert_eq!(no_postgres.code, Some(1));
    assert!(no_postgres.one("postgres.reachable", "fail")["fix"].as_str().unwrap().contains("DATABASE_URL"));
    assert!(no_postgres.has("redis.reachable", "ok") && no_postgres.has("redis.durability", "ok"));
}

#[tokio::test]
async fn keys_that_are_too_short_are_told_and_hide_nothing() {
    let (redis, database) = (Redis::shared().await, Postgres::shared().await.database().await);
    let mut env = settings(&redis.url(), &database.url);
    env.retain(|(key, _)| !key.contains("HS256") && !key.contains("API__KEY"));
    env.push(("MILLSTREAM__AUTH__HS256_SECRET".into(), "short".into()));
    env.push(("MILLSTREAM__API__KEY".into(), "short".into()));
    env.push(("MILLSTREAM__CALLBACK__SECRET".into(), "whsec_c2hvcnQ=".into()));
    env.push(("DATA_CALLBACK_URL".into(), format!("http://{}/", nowhere())));
    let report = doctor(&["--set", "redis.partition=3"], &env).await;
    assert_eq!(report.code, Some(1));
    let told = |status: &str, part: &str| {
        report.with("settings", status).iter().any(|found| found["what"].as_str().unwrap().contains(part))
    };
    assert!(told("fail", "auth.hs256_secret") && told("fail", "redis.partitions?"), "{:#?}", report.findings);
    assert!(told("warn", "api.key") && told("warn", "5 bytes are few"), "{:#?}", report.findings);
    assert!(report.has("redis.reachable", "ok") && report.has("postgres.reachable", "ok"));
    let all = serde_json::to_string(&report.findings).unwrap();
    assert!(!all.contains("c2hvcnQ"), "no secret is printed");

    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "no key").unwrap();
    let set = format!("auth.public_key_file={}", key.path().display());
    let report =
        doctor(&["--set", "auth.algorithm=ES256", "--set", &set], &settings(&redis.url(), &database.url)).await;
    assert!(report.has("system.keys", "fail"), "{:#?}", report.findings);
}

#[tokio::test]
async fn a_port_of_somebody_else_and_an_endpoint_that_is_not_there_are_told() {
    let (redis, database) = (Redis::shared().await, Postgres::shared().await.database().await);
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = somebody.local_addr().unwrap();
    let mut env = settings(&redis.url(), &database.url);
    env.push(("DATA_CALLBACK_URL".into(), format!("http://{}/hook", nowhere())));
    env.push(("MILLSTREAM__CALLBACK__SECRET".into(), crate::support::CALLBACK_SECRET.into()));
    let listen = format!("edge.listen={taken}");
    let args = ["--set", &listen, "--set", "api.listen=192.0.2.1:7401", "--set", "limits.connections=1000000000"];
    let report = doctor(&args, &env).await;
    assert_eq!(report.code, Some(1));
    assert!(report.one("port edge.listen", "fail")["what"].as_str().unwrap().contains("taken"));
    assert!(report.has("port api.listen", "fail") || report.has("port api.listen", "skipped"));
    assert!(report.has("port metrics.listen", "ok"));
    assert!(report.has("system.open_files", "warn"), "{:#?}", report.findings);
    assert!(report.one("endpoint data", "fail")["what"].as_str().unwrap().contains("private"));
    let allowed = doctor(&["--set", "callback.allow_private=true"], &env).await;
    assert!(allowed.one("endpoint data", "fail")["what"].as_str().unwrap().contains("no connections"));
}
