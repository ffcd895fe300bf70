//! One sequence: the store on one side, the books on the other, and whoever acts on both.

mod compare;
mod engine;
mod platform;
mod puller;

use crate::books::{Books, ConfigBook};
use crate::house::{self, NOW};
use engine::Holder;
use model::{DeliveryId, Direction, Frequency, ResourceKey, Timestamp};
use ponte_store::{DeliveryFilter, PageRequest, Store, Tenant};
use puller::Puller;
use std::fmt::Debug;
use std::sync::Arc;
use testing::Dice;

pub type Played = Result<(), String>;

/// Ms; of every lease and every settle time here.
pub const LEASE: i64 = 30_000;
pub const SETTLE: i64 = 60_000;

const NAMES: [&str; 2] = ["a", "b"];

pub struct Play {
    store: Store,
    tenants: Vec<Tenant>,
    books: Vec<Books>,
    now: Timestamp,
    /// Whoever once claimed a lane, whether it is still theirs or not.
    holders: Vec<Holder>,
    pullers: Vec<Puller>,
    /// For the ids of attempts.
    dice: Arc<Dice>,
    pub log: Vec<String>,
}

/// Wants both sides to say the same.
pub fn same(what: &str, store: &impl Debug, books: &impl Debug) -> Played {
    if format!("{store:?}") == format!("{books:?}") {
        return Ok(());
    }
    let (store, books) = (format!("{store:#?}"), format!("{books:#?}"));
    let at = store.lines().zip(books.lines()).position(|(a, b)| a != b).unwrap_or_default();
    let part = |text: &str| text.lines().skip(at.saturating_sub(6)).take(14).collect::<Vec<_>>().join("\n");
    Err(format!("{what}\n-- the store says:\n{}\n-- the books say:\n{}", part(&store), part(&books)))
}

pub fn all() -> PageRequest {
    PageRequest { limit: 200, before: None }
}

impl Play {
    pub async fn begin(store: Store) -> Self {
        let tenants: Vec<Tenant> = NAMES.into_iter().map(|name| house::tenant(&store, name)).collect();
        let each = store.fleet().leases_for_a_place();
        let books = NAMES.into_iter().map(|name| Books::new(name, each)).collect();
        let mut play = Self { store, tenants, books, now: NOW, holders: vec![], pullers: vec![], dice: Dice::new(1), log: vec![] };
        for (tenant, frequency, most) in [(0, Frequency::Realtime, 3), (1, Frequency::Hourly, 1)] {
            let config = ConfigBook {
                enabled: true,
                direction: Direction::Bidirectional,
                frequency,
                max_concurrency: most,
                revision: 1,
                last_error: None,
            };
            play.put(tenant, config, None).await.unwrap();
            play.new_patient(tenant, &Dice::new(u64::try_from(most).unwrap())).await.unwrap();
        }
        play
    }

    /// Does what the number says, wants the same answer from both sides, and now and then looks at everything.
    pub async fn step(&mut self, number: u64) -> Played {
        let dice = Dice::new(number);
        let tenant = dice.index(NAMES.len());
        match dice.below(100) {
            0..2 => self.new_patient(tenant, &dice).await?,
            2..4 => self.change_patient(tenant, &dice).await?,
            4..7 => self.link(tenant, &dice).await?,
            7..19 => self.observe(tenant, &dice).await?,
            19..24 => self.correct(tenant, &dice).await?,
            24..27 => self.withdraw(tenant, &dice).await?,
            27..30 => self.reconfigure(tenant, &dice).await?,
            30..32 => self.weather(tenant, &dice).await?,
            32..35 => self.replay(tenant, &dice).await?,
            35..36 => self.discard(tenant, &dice).await?,
            36..38 => self.deliver_now(tenant, &dice).await?,
            38..40 => self.sweep(&dice).await?,
            40..42 => self.run(tenant, &dice).await?,
            42..44 => self.check(tenant, &dice).await?,
            44..54 => self.time(&dice),
            54..58 => self.claim().await?,
            58..60 => self.take_over(&dice).await?,
            60..64 => self.send(&dice).await?,
            64..69 => self.settle(&dice).await?,
            69..71 => self.decide_link(&dice).await?,
            71..74 => self.let_go(&dice).await?,
            74..75 => self.late(&dice).await?,
            75..83 => self.shift(&dice).await?,
            83..86 => self.crash(&dice).await?,
            86..88 => self.ask_for_pull(tenant, &dice).await?,
            88..92 => self.claim_pull(&dice).await?,
            92..96 => self.page(&dice).await?,
            _ => self.end_pull(&dice).await?,
        }
        self.laws()?;
        if dice.happens(0.05) { self.compare().await } else { Ok(()) }
    }

    fn say(&mut self, what: impl Into<String>) {
        self.log.push(format!("+{} {}", self.now.0 - NOW.0, what.into()));
    }

    fn time(&mut self, dice: &Dice) {
        let next = crate::books::next_due(&self.books).map_or(1, |at| at.ms_since(self.now));
        let ms = *dice.one_of(&[1, 900, 5_000, LEASE + 1, SETTLE + 1, 3_600_000, next, next]);
        self.now = self.now.plus_ms(ms.max(1));
        self.say("time passes");
    }

    /// Ids that the store gave, written into the books.
    async fn learn(&mut self) -> Played {
        for (books, tenant) in self.books.iter_mut().zip(&self.tenants) {
            if books.rows.iter().any(|row| row.id.is_none()) {
                let known: Vec<DeliveryId> = books.ids().collect();
                let listed = tenant.deliveries(self.now, &DeliveryFilter::default(), &all()).await.unwrap().items;
                for delivery in listed.into_iter().filter(|delivery| !known.contains(&delivery.id)) {
                    let named = |row: &&mut crate::books::RowBook| {
                        row.id.is_none() && row.resource == delivery.resource && row.version == delivery.version
                    };
                    let Some(row) = books.rows.iter_mut().find(named) else {
                        return Err(format!("The store has a delivery that nobody asked for: {delivery:?}"));
                    };
                    row.id = Some(delivery.id);
                }
                if let Some(row) = books.rows.iter().find(|row| row.id.is_none()) {
                    return Err(format!("The store lacks a delivery: {row:?}"));
                }
            }
            for row in &mut books.rows {
                if row.attempts.iter().all(|one| one.id.is_some()) {
                    continue;
                }
                let delivery = tenant.delivery(self.now, row.id.unwrap()).await.unwrap().unwrap();
                let known: Vec<_> = row.attempts.iter().filter_map(|one| one.id).collect();
                for one in row.attempts.iter_mut().filter(|one| one.id.is_none()) {
                    let made = delivery.attempts.iter().find(|made| !known.contains(&made.id)).ok_or("The store lacks an attempt.")?;
                    one.id = Some(made.id);
                    one.message.clone_from(&made.message);
                    row.message.clone_from(&made.message);
                }
            }
        }
        Ok(())
    }

    /// What holds of every state that can be seen, whatever led to it.
    fn laws(&self) -> Played {
        for books in &self.books {
            for id in books.patients.keys() {
                let flying = books.places(|row| row.patient == *id && row.state == model::State::InFlight);
                if flying.len() > 1 {
                    return Err(format!("Two rows of patient {id} fly at once: {flying:?}"));
                }
            }
            for (at, row) in books.rows.iter().enumerate() {
                let ResourceKey::Observation(id) = row.resource else { continue };
                let older_goes = books.newer_exists(at) && row.waits() && !row.sent;
                if older_goes {
                    return Err(format!("An older version of {id} was never sent and still waits beside a newer one."));
                }
            }
        }
        Ok(())
    }
}
