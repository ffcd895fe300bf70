//! Both engines under the same statements; grouped commits.

use super::*;
use futures::FutureExt;
use futures::future::join_all;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

async fn databases() -> Vec<(testing::Database, Arc<Db>)> {
    let mut all = Vec::new();
    for database in testing::databases().await {
        let db = Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap();
        db.migrate().await.unwrap();
        all.push((database, Arc::new(db)));
    }
    all
}

async fn note(tx: &mut Tx, name: &str) -> Result<u64> {
    tx.execute("INSERT INTO schedules (name, cron, next_run_at) VALUES ($1, '* * * * *', 0)", args![name]).await
}

async fn names(db: &Db) -> Vec<String> {
    db.read(|tx| {
        Box::pin(async move {
            tx.rows("SELECT name FROM schedules ORDER BY name", args![])
                .await?
                .iter()
                .map(|row| row.text("name"))
                .collect::<Result<Vec<_>>>()
        })
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn of_a_hundred_writes_at_once_the_failing_ones_fail_alone_and_the_others_are_durable() {
    for (database, db) in databases().await {
        let writes = (0..100).map(|n| {
            db.write(move |tx| {
                Box::pin(async move {
                    note(tx, &format!("{n:03}")).await?;
                    if n % 10 == 3 { Err(Error::Corrupt("this one")) } else { Ok(n) }
                })
            })
        });
        for (n, answer) in join_all(writes).await.into_iter().enumerate() {
            assert_eq!(answer.is_err(), n % 10 == 3, "{n}");
        }
        let wanted: Vec<String> = (0..100).filter(|n| n % 10 != 3).map(|n| format!("{n:03}")).collect();
        // Read by another process's connection.
        assert_eq!(names(&Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap()).await, wanted);
    }
}

#[tokio::test]
async fn a_write_whose_statement_fails_leaves_nothing_and_the_next_one_works() {
    for (_database, db) in databases().await {
        let failed = db
            .write(|tx| {
                Box::pin(async move {
                    note(tx, "a").await?;
                    tx.execute("INSERT INTO lanes (tenant_id, shard) VALUES ('nobody', 0)", args![]).await
                })
            })
            .await;
        assert!(failed.is_err(), "foreign keys are kept");
        assert!(names(&db).await.is_empty());
        db.write(|tx| Box::pin(async move { note(tx, "b").await })).await.unwrap();
        assert_eq!(names(&db).await, ["b"]);
    }
}

/// A lease may be lost to a power cut, what was acknowledged may not; both in one commit may not.
#[tokio::test]
async fn only_leases_are_not_on_the_disk_when_they_are_answered() {
    let database = testing::sqlite();
    let db = Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap();
    let lease = || {
        db.write_lease(|tx| {
            Box::pin(async move { tx.row("PRAGMA synchronous", args![]).await?.ok_or(Error::Corrupt("x"))?.int("synchronous") })
        })
    };
    let lasting = || {
        db.write(|tx| Box::pin(async move { tx.row("PRAGMA synchronous", args![]).await?.ok_or(Error::Corrupt("x"))?.int("synchronous") }))
    };
    const NORMAL: i64 = 1;
    const FULL: i64 = 2;
    assert_eq!((lasting().await.unwrap(), lease().await.unwrap(), lasting().await.unwrap()), (FULL, NORMAL, FULL));
    let (one, other) = futures::future::join(lease(), lasting()).await;
    assert_eq!((one.unwrap(), other.unwrap()), (FULL, FULL));
}

/// As a server runs: whoever comes first writes for the others on a thread of its own, some callers give up, and some writes fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_every_write_is_answered_and_every_read_sees_whole_ones() {
    let database = testing::sqlite();
    let db = Arc::new(Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap());
    db.migrate().await.unwrap();
    let pair = |n: u32| {
        let db = db.clone();
        async move {
            db.write(move |tx| {
                Box::pin(async move {
                    note(tx, &format!("{n:04} a")).await?;
                    note(tx, &format!("{n:04} b")).await?;
                    if n % 7 == 3 { Err(Error::Corrupt("this one")) } else { Ok(()) }
                })
            })
            .await
        }
    };
    let writing: Vec<_> = (0..700).map(|n| tokio::spawn(pair(n))).collect();
    let impatient: Vec<_> = (700..800).map(|n| tokio::spawn(pair(n))).collect();
    impatient.iter().for_each(tokio::task::JoinHandle::abort);
    let reading = (0..16).map(|_| {
        let db = db.clone();
        tokio::spawn(async move { names(&db).await.len() })
    });
    for seen in join_all(reading).await {
        assert_eq!(seen.unwrap() % 2, 0, "half a write was seen");
    }
    for (n, answer) in join_all(writing).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().is_err(), n % 7 == 3, "{n}");
    }
    db.close().await;
    assert!(pair(900).await.is_err(), "it takes no more");
    let held = names(&Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap()).await;
    let wanted = |n: &u32| n % 7 != 3;
    let firsts: Vec<String> = (0..700).filter(wanted).flat_map(|n| [format!("{n:04} a"), format!("{n:04} b")]).collect();
    assert_eq!(held.iter().filter(|name| name.as_str() < "0700").cloned().collect::<Vec<_>>(), firsts);
    assert_eq!(held.len() % 2, 0, "of who gave up there is all or nothing");
}

fn names_are_never_empty(name: &str) -> bool {
    !name.is_empty()
}

#[tokio::test]
async fn a_write_that_panics_ends_itself_and_not_the_writer() {
    let database = testing::sqlite();
    let db = Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap();
    db.migrate().await.unwrap();
    let broke = db
        .write(|tx| {
            Box::pin(async move {
                note(tx, "a").await?;
                assert!(names_are_never_empty(""), "on purpose");
                Ok(())
            })
        })
        .await;
    assert!(broke.is_err());
    db.write(|tx| Box::pin(async move { note(tx, "b").await })).await.unwrap();
    assert_eq!(names(&db).await, ["b"]);
}

#[tokio::test]
async fn a_failed_write_rings_no_bell_and_a_committed_one_does() {
    for (_database, db) in databases().await {
        let failed: Result<()> = db
            .write(|tx| {
                Box::pin(async move {
                    tx.wake(false).await?;
                    Err(Error::Corrupt("this one"))
                })
            })
            .await;
        assert!(failed.is_err());
        db.write(|tx| Box::pin(async move { note(tx, "quiet").await })).await.unwrap();
        assert!(db.bell.notified().now_or_never().is_none());
        db.write(|tx| Box::pin(async move { tx.wake(false).await })).await.unwrap();
        assert!(db.bell.notified().now_or_never().is_some());
    }
}

#[tokio::test]
async fn another_nodes_bell_is_heard_over_postgresql() {
    let Some(database) = testing::postgres().await else { return };
    let here = Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap();
    let there = Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap();
    let heard = AtomicBool::new(false);
    // The listener subscribes in its own time: ring until it hears.
    let rings = async {
        while !heard.load(Ordering::Relaxed) {
            there.write(|tx| Box::pin(async move { tx.wake(true).await })).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let hears = async {
        here.bell.notified().await;
        heard.store(true, Ordering::Relaxed);
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(rings, hears) }).await.unwrap();
}

#[tokio::test]
async fn two_transactions_that_lock_each_other_both_come_through() {
    let Some(database) = testing::postgres().await else { return };
    let db = Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap();
    db.migrate().await.unwrap();
    db.write(|tx| Box::pin(async move { Ok((note(tx, "a").await?, note(tx, "b").await?)) })).await.unwrap();
    let (meet, runs) = (Arc::new(tokio::sync::Barrier::new(2)), Arc::new(AtomicU32::new(0)));
    let cross = |first: &'static str, then: &'static str| {
        let (meet, runs) = (meet.clone(), runs.clone());
        db.write(move |tx| {
            Box::pin(async move {
                const ADD: &str = "UPDATE schedules SET next_run_at = next_run_at + 1 WHERE name = $1";
                tx.execute(ADD, args![first]).await?;
                // Only the first two runs meet; the repeated one goes alone.
                if runs.fetch_add(1, Ordering::SeqCst) < 2 {
                    meet.wait().await;
                }
                tx.execute(ADD, args![then]).await
            })
        })
    };
    let (one, other) = tokio::join!(cross("a", "b"), cross("b", "a"));
    assert_eq!((one.unwrap(), other.unwrap()), (1, 1));
    assert_eq!(runs.load(Ordering::SeqCst), 3, "one of them was run again");
    let sum = db
        .read(|tx| {
            Box::pin(
                async move { tx.row("SELECT MIN(next_run_at) AS n FROM schedules", args![]).await?.ok_or(Error::Corrupt("x"))?.int("n") },
            )
        })
        .await;
    assert_eq!(sum.unwrap(), 2);
}

#[tokio::test]
async fn readers_write_nothing() {
    for (_database, db) in databases().await {
        assert!(db.read(|tx| Box::pin(async move { note(tx, "a").await })).await.is_err());
        assert!(names(&db).await.is_empty());
    }
}

#[tokio::test]
async fn nodes_that_migrate_at_once_do_not_stand_in_each_others_way() {
    for database in testing::databases().await {
        let nodes = join_all((0..4).map(|_| Db::open(database.url(), Way::Direct, Arc::default()))).await;
        let nodes: Vec<Db> = nodes.into_iter().map(Result::unwrap).collect();
        let unready = nodes[0].check_schema().await.unwrap_err();
        assert!(unready.to_string().contains("ponte migrate"), "{unready}");
        for done in join_all(nodes.iter().map(Db::migrate)).await {
            done.unwrap();
        }
        nodes[3].check_schema().await.unwrap();
    }
}

#[tokio::test]
async fn a_database_of_a_newer_binary_is_not_touched() {
    for (_database, db) in databases().await {
        db.write(|tx| {
            Box::pin(async move {
                tx.execute(
                    "UPDATE _sqlx_migrations SET version = version + 1000 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
                    args![],
                )
                .await
            })
        })
        .await
        .unwrap();
        assert!(matches!(db.check_schema().await, Err(Error::Schema(_))));
        assert!(matches!(db.migrate().await, Err(Error::Schema(_))));
    }
}

#[tokio::test]
async fn urls_that_are_none_of_ours_are_refused_in_words() {
    for url in ["mysql://x", "sqlite::memory:", "sqlite://x?mode=memory", "", "postgres://["] {
        assert!(matches!(Db::open(url, Way::Direct, Arc::default()).await, Err(Error::Url(_))), "{url}");
    }
}

#[tokio::test]
async fn an_error_of_the_database_never_repeats_a_value() {
    for (_database, db) in databases().await {
        let twice = |name: &'static str| db.write(move |tx| Box::pin(async move { note(tx, name).await }));
        twice("52998224725").await.unwrap();
        let said = twice("52998224725").await.unwrap_err().to_string();
        assert!(!said.contains("52998224725"), "{said}");
    }
}

/// A frozen process says nothing more: it neither ends its transaction nor its connection.
#[tokio::test]
async fn who_freezes_in_the_middle_of_a_transaction_does_not_keep_its_locks() {
    let Some(database) = testing::postgres().await else { return };
    let db = Arc::new(Db::open(database.url(), Way::Direct, Arc::default()).await.unwrap());
    db.migrate().await.unwrap();
    db.write(|tx| Box::pin(async move { note(tx, "lane").await })).await.unwrap();
    let lock = |db: Arc<Db>, then: Option<tokio::sync::oneshot::Sender<()>>| async move {
        let then = Arc::new(std::sync::Mutex::new(then));
        db.write(move |tx| {
            Box::pin(async move {
                tx.rows(locking!("SELECT name FROM schedules WHERE name = 'lane'"), args![]).await?;
                let frozen = then.lock().unwrap().take();
                if let Some(frozen) = frozen {
                    frozen.send(()).unwrap();
                    futures::future::pending::<()>().await;
                }
                Ok(())
            })
        })
        .await
    };
    let (send, is_frozen) = tokio::sync::oneshot::channel();
    let frozen = tokio::spawn(lock(db.clone(), Some(send)));
    is_frozen.await.unwrap();
    // Well before a transaction that takes too long is given up by whoever began it.
    tokio::time::timeout(Duration::from_secs(30), lock(db, None)).await.expect("the lock is free again").unwrap();
    frozen.abort();
}

/// A machine that vanished hangs up on nobody: its connections stay open, and nothing comes.
#[tokio::test]
async fn a_database_that_falls_silent_is_given_up_and_the_one_in_its_place_is_used() {
    let Some(database) = testing::postgres().await else { return };
    let options: PgConnectOptions = database.url().parse().unwrap();
    let line = line::Forwarder::to(format!("{}:{}", options.get_host(), options.get_port()).parse().unwrap()).unwrap();
    let url = sqlx::ConnectOptions::to_url_lossy(&options.port(line.port())).to_string();
    let mut db = Db::open(&url, Way::Direct, Arc::default()).await.unwrap();
    db.migrate().await.unwrap();
    if let Engine::Postgres { patience, .. } = &mut db.engine {
        *patience = Duration::from_secs(2);
    }
    let db = Arc::new(db);
    let (under_way, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let writing = {
        let (db, under_way, go_on) = (db.clone(), under_way.clone(), go_on.clone());
        tokio::spawn(async move {
            db.write(move |tx| {
                Box::pin(async move {
                    under_way.notify_one();
                    go_on.notified().await;
                    note(tx, "lost").await
                })
            })
            .await
        })
    };
    under_way.notified().await;
    line.silence();
    go_on.notify_one();
    let limit = Duration::from_secs(60);
    let lost = tokio::time::timeout(limit, writing).await.expect("it is given up").unwrap();
    assert!(matches!(&lost, Err(Error::Database(why)) if why.contains("did not answer")), "{lost:?}");
    // As many at once as the pool has connections: none of them is lost to it.
    let writes = (0..POOL).map(|n| {
        let db = db.clone();
        async move { while db.write(move |tx| Box::pin(async move { note(tx, &format!("{n}")).await })).await.is_err() {} }
    });
    tokio::time::timeout(limit, join_all(writes)).await.expect("the new server takes everything");
    assert_eq!(names(&db).await.len(), POOL as usize);
}
