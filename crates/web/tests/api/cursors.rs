//! Pages: every row once, and a cursor for its own list and tenant alone.

use crate::house::{houses, pain};
use serde_json::json;

#[tokio::test]
async fn a_walk_by_cursor_shows_every_row_once_newest_first() {
    for house in houses().await {
        let nurse = house.nurse("a");
        let patient = nurse.patient().await;
        let mut made: Vec<String> = Vec::new();
        for _ in 0..7 {
            made.push(nurse.observation(&patient).await);
        }
        made.reverse();
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = nurse.get(&format!("/observations?limit=3{next}")).await.is(200).json();
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 3);
            seen.extend(items.iter().map(|o| o["id"].as_str().unwrap().to_owned()));
            // A row that comes in between changes nothing behind the cursor.
            nurse.observation(&patient).await;
            match page["nextCursor"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, made);
    }
}

#[tokio::test]
async fn another_tenants_or_lists_cursor_is_refused() {
    for house in houses().await {
        let (a, b) = (house.nurse("a"), house.nurse("b"));
        for caller in [&a, &b] {
            let patient = caller.patient().await;
            caller.patient().await;
            caller.post("/observations/batch", json!({"observations": vec![pain(&patient); 3]})).await.is(207);
        }
        let cursor = |list: &'static str| {
            let a = a.clone();
            async move { a.get(list).await.is(200).json()["nextCursor"].as_str().unwrap().to_owned() }
        };
        let lists = ["/patients?limit=1", "/observations?limit=1", "/observations/unsynced?limit=1", "/fhir/deliveries?limit=1"];
        for list in lists {
            let cursor = cursor(list).await;
            for other in lists.into_iter().filter(|other| *other != list) {
                a.get(&format!("{other}&cursor={cursor}")).await.problem(400, "invalid_cursor");
            }
            a.get(&format!("{list}&cursor={cursor}")).await.is(200);
            b.get(&format!("{list}&cursor={cursor}")).await.problem(400, "invalid_cursor");
            a.get(&format!("{list}&cursor={}", &cursor[1..])).await.problem(400, "invalid_cursor");
        }
        // Other filters are another list.
        let cursor = cursor("/observations?limit=1").await;
        a.get(&format!("/observations?limit=1&deleted=true&cursor={cursor}")).await.problem(400, "invalid_cursor");
        a.get("/patients?cursor=").await.problem(400, "invalid_cursor");
        for limit in ["0", "201"] {
            a.get(&format!("/patients?limit={limit}")).await.problem(422, "invalid");
        }
        for limit in ["-1", "x", "1.5", ""] {
            a.get(&format!("/patients?limit={limit}")).await.problem(400, "invalid_query");
        }
        a.get("/patients?limit=200").await.is(200);
    }
}
