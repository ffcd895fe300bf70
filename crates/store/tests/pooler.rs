//! PgBouncer in transaction mode, where a server connection is anybody's after each transaction.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod house;

use futures::future::join_all;
use house::{Chance, KEY, NOW, observation, patient, person, reading, tenant};
use ponte_store as store;
use store::{KeyRing, PageRequest, Store, Way};
use testing::{Database, Pooler};

/// A database and a pooler before it, with fewer connections than a single node has.
async fn pooled() -> Option<(Database, Pooler)> {
    let database = testing::postgres().await?;
    let pooler = Pooler::before(database.url(), 3)?;
    Some((database, pooler))
}

async fn node(pooler: &Pooler, seed: u64) -> Store {
    Store::open_by(Way::Pooled, pooler.url(), KeyRing::parse(KEY).unwrap(), Chance::seeded(seed)).await.unwrap()
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_of_which_nobody_spoke_is_refused() {
    let Some((database, pooler)) = pooled().await else { return };
    let keys = || KeyRing::parse(KEY).unwrap();
    let refused = Store::open(pooler.url(), keys(), Chance::seeded(1)).await.err().map(|why| why.to_string()).unwrap_or_default();
    assert!(refused.contains("PONTE_DATABASE_POOLED=true"), "{refused}");
    assert!(Store::open(database.url(), keys(), Chance::seeded(1)).await.is_ok(), "the server itself is not taken for a pooler");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_share_three_server_connections_and_none_meets_a_statement_of_another() {
    let Some((_database, pooler)) = pooled().await else { return };
    let nodes = join_all((0..4).map(|seed| node(&pooler, seed))).await;
    for migrated in join_all(nodes.iter().map(Store::migrate)).await {
        migrated.unwrap();
    }
    // Each node with a tenant of its own, each asking for other things in another order.
    join_all(nodes.iter().enumerate().map(|(n, store)| busy(n, store))).await;
    for (n, store) in nodes.iter().enumerate() {
        let waiting = tenant(store, &format!("ward-{n}")).status(NOW).await.unwrap();
        let open: i64 = waiting.counts.iter().map(|(_, n)| n).sum();
        assert_eq!(open, 24, "twelve patients and twelve observations wait, and nobody else's");
    }
}

async fn busy(n: usize, store: &Store) {
    let ward = tenant(store, &format!("ward-{n}"));
    let page = PageRequest { limit: 200, before: None };
    for k in 0..12 {
        let of = patient(&ward, person(&format!("Paciente {n} {k}"))).await;
        if (n + k).is_multiple_of(2) {
            store.ready().await.unwrap();
        }
        observation(&ward, reading(of, "72514-3", "7")).await;
        assert_eq!(ward.observations(NOW, &store::ObservationFilter::default(), &page).await.unwrap().items.len(), k + 1);
        store.migrate().await.unwrap();
    }
}
