//! What may happen next, and what it does.

use crate::bridge::{Acceptance, Attempt, Bridge, Doing, LATEST, LEASE, LIMIT, Lane, ROWS, Request, Sending, Worker, World, found};
use crate::ehr::{Answer, Manner, Resource, Want};
use ponte_model::delivery::{Action, Event, Found, Next, next};
use ponte_model::{Means, State, Timestamp};
use stateright::{Model, Property};

/// What must hold at every moment: each resource is stored once; no older version comes over a newer one; a correction never
/// goes before its first version; where nothing moves any more, ledger and EHR agree.
pub const LAWS: [&str; 4] = ["once", "newest", "order", "agreed"];

/// What must happen sometimes, all faults spent: nothing moves any more.
pub const RESTS: &str = "rests";

/// One step of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Tick,
    Claim {
        worker: usize,
        lane: usize,
    },
    /// One transaction: the epoch is checked, the attempt written.
    Record {
        worker: usize,
        row: usize,
        want: Want,
    },
    Send {
        worker: usize,
    },
    /// The lease is too short, or lost: the worker lets go.
    LetGo {
        worker: usize,
    },
    /// A conditional create looks whether it is there.
    Look {
        request: usize,
    },
    Commit {
        request: usize,
    },
    /// It commits, and the answer is lost.
    CommitAndCut {
        request: usize,
    },
    /// It never arrives.
    Drop {
        request: usize,
    },
    /// The line is cut, and it may commit later.
    CutFirst {
        request: usize,
    },
    WriteDown {
        worker: usize,
    },
    Release {
        worker: usize,
    },
    Crash {
        worker: usize,
    },
    Accept,
    CommitAcceptance,
    Sweep {
        lane: usize,
    },
}

impl Model for Bridge {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.bounds)]
    }

    fn actions(&self, w: &World, steps: &mut Vec<Step>) {
        for (at, worker) in w.workers.iter().enumerate() {
            self.steps_of(w, at, worker, steps);
        }
        // One idle worker is like another.
        if let Some(worker) = w.workers.iter().position(|worker| *worker == Worker::Idle) {
            let free = |lane: &Lane| lane.due && lane.lease.is_none_or(|left| left < 0);
            steps.extend((0..w.lanes.len()).filter(|lane| free(&w.lanes[*lane])).map(|lane| Step::Claim { worker, lane }));
        }
        for (request, it) in w.requests.iter().enumerate() {
            if self.manner == Manner::LookUpThenInsert && it.want == Want::Create && it.looked.is_none() {
                steps.push(Step::Look { request });
            } else {
                steps.push(Step::Commit { request });
                if it.line && w.cuts > 0 {
                    steps.push(Step::CommitAndCut { request });
                }
            }
            if it.line && w.cuts > 0 {
                steps.push(Step::Drop { request });
            }
            if it.line && w.late > 0 && !matches!(it.want, Want::Ask { .. }) {
                steps.push(Step::CutFirst { request });
            }
        }
        match w.second {
            Acceptance::NotYet => steps.push(Step::Accept),
            Acceptance::Uncommitted { .. } => steps.push(Step::CommitAcceptance),
            Acceptance::Committed => {}
        }
        steps.extend((0..w.lanes.len()).filter(|lane| self.sweeps(w, *lane)).map(|lane| Step::Sweep { lane }));
        if ticks(w) {
            steps.push(Step::Tick);
        }
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut w = last.clone();
        match step {
            Step::Tick => {
                w.deaths -= u8::try_from(oversleep(&w)).ok()?;
                tick(&mut w);
            }
            Step::Claim { worker, lane } => self.claim(&mut w, worker, lane),
            Step::Record { worker, row, want } => record(&mut w, worker, row, want),
            Step::Send { worker } => send(&mut w, worker),
            Step::LetGo { worker } => w.workers[worker] = Worker::Idle,
            Step::Look { request } => {
                let lane = ROWS[w.requests[request].row].0;
                w.requests[request].looked = Some(w.ehr[lane].stored > 0);
            }
            Step::Commit { request } => {
                let (request, answer) = self.commit(&mut w, request);
                answered(&mut w, &request, Some(answer));
            }
            Step::CommitAndCut { request } => {
                w.cuts -= 1;
                let (request, _) = self.commit(&mut w, request);
                answered(&mut w, &request, None);
            }
            Step::Drop { request } => {
                w.cuts -= 1;
                let request = w.requests.remove(request);
                answered(&mut w, &request, None);
            }
            Step::CutFirst { request } => {
                w.late -= 1;
                let it = w.requests[request];
                w.requests[request].line = false;
                answered(&mut w, &it, None);
            }
            Step::WriteDown { worker } => self.write_down(&mut w, worker),
            Step::Release { worker } => {
                if let Worker::Holds { lane, .. } = w.workers[worker] {
                    w.lanes[lane] = Lane { due: w.unfinished(lane), lease: None };
                }
                w.workers[worker] = Worker::Idle;
            }
            Step::Crash { worker } => {
                w.deaths -= 1;
                if let Worker::Holds { doing: Doing::Sent(its), .. } = w.workers[worker] {
                    w.requests.iter_mut().filter(|it| (it.row, it.attempt) == (its.row, its.attempt)).for_each(|it| it.line = false);
                }
                w.workers[worker] = Worker::Idle;
            }
            Step::Accept => w.second = Acceptance::Uncommitted { lane_was_due: w.lanes[0].due },
            Step::CommitAcceptance => accept(&mut w),
            Step::Sweep { lane } => w.lanes[lane].due = true,
        }
        self.tidy(&mut w);
        Some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LAWS[0], |_, w: &World| w.ehr.iter().all(|it| it.stored <= 1)),
            Property::always(LAWS[1], |_, w: &World| w.ehr.iter().all(|it| !it.set_back)),
            Property::always(LAWS[2], |_, w: &World| w.ehr[0].first != 2 || w.rows[0].state == State::Superseded),
            Property::always(LAWS[3], |bridge: &Self, w: &World| !bridge.at_rest(w) || agrees(w)),
            Property::sometimes(RESTS, |bridge: &Self, w: &World| bridge.at_rest(w) && w.deaths == 0 && w.late == 0),
        ]
    }

    fn within_boundary(&self, w: &World) -> bool {
        w.ehr.iter().all(|it| it.etag < 8) && w.rows.iter().all(|row| row.attempts.len() < 6)
    }
}

impl Bridge {
    fn steps_of(&self, w: &World, at: usize, worker: &Worker, steps: &mut Vec<Step>) {
        let Worker::Holds { lane, mine, doing } = *worker else { return };
        match doing {
            Doing::Looking if !mine => steps.push(Step::LetGo { worker: at }),
            Doing::Looking => {
                let turns = self.turns(w, lane);
                // Its rounds are over; what may be asked is asked again by the next.
                if turns.iter().all(|(_, want)| matches!(want, Want::Ask { .. })) {
                    steps.push(Step::Release { worker: at });
                }
                steps.extend(turns.into_iter().map(|(row, want)| Step::Record { worker: at, row, want }));
            }
            Doing::Recorded(Sending { want, .. }) => {
                let left = w.lanes[lane].lease.filter(|_| mine).unwrap_or(-1);
                let asks = matches!(want, Want::Ask { .. });
                if asks || left >= LIMIT || !self.rules.lease_checked {
                    steps.push(Step::Send { worker: at });
                } else {
                    steps.push(Step::LetGo { worker: at });
                }
            }
            Doing::Sent(_) => {}
            Doing::Answered(..) => steps.push(Step::WriteDown { worker: at }),
        }
        if w.deaths > 0 {
            steps.push(Step::Crash { worker: at });
        }
    }

    /// What may be sent now for the patient of a lane: as `sync` chooses it.
    fn turns(&self, w: &World, lane: usize) -> Vec<(usize, Want)> {
        let mut turns = Vec::new();
        let mut unsettled = false;
        for row in w.rows_of(lane) {
            let facts = w.facts(row);
            let settled = facts.own_settle_until.is_none_or(|until| until.0 < 0);
            match w.rows[row].state {
                State::Uncertain => {
                    unsettled = true;
                    match next(State::Uncertain, &facts, &Event::Turn { now: Timestamp(0) }).action {
                        Action::Repeat => turns.extend(w.rows[row].last.map(|want| (row, want))),
                        Action::Read | Action::Search => turns.push((row, Want::Ask { settled })),
                        _ => {}
                    }
                }
                State::InFlight => unsettled = true,
                State::Delivered if w.rows[row].audit.is_some_and(|left| left <= 0) => turns.push((row, Want::Ask { settled })),
                _ => {}
            }
        }
        if unsettled {
            return turns;
        }
        let waits = |row: &usize| matches!(w.rows[*row].state, State::Pending | State::RetryScheduled);
        let open = self.rules.next_write_waits && w.resource_settle_until(lane).is_some();
        if let Some(row) = w.rows_of(lane).find(waits).filter(|_| !open) {
            turns.push((row, w.known[lane].map_or(Want::Create, |etag| Want::Update { etag })));
        }
        turns
    }

    fn claim(&self, w: &mut World, worker: usize, lane: usize) {
        let taken_over = w.lanes[lane].lease.is_some();
        for other in &mut w.workers {
            if let Worker::Holds { lane: held, mine, .. } = other {
                *mine &= *held != lane;
            }
        }
        w.workers[worker] = Worker::Holds { lane, mine: true, doing: Doing::Looking };
        w.lanes[lane].lease = Some(LEASE);
        if !taken_over {
            return;
        }
        let settle = if self.rules.takeover_opens { self.rules.settle } else { -1 };
        let rows: Vec<usize> = w.rows_of(lane).collect();
        for row in rows {
            let open = |attempt: &Attempt| attempt.left.is_none_or(|left| left >= 0 && self.rules.takeover_opens);
            if !w.rows[row].attempts.iter().any(open) {
                continue;
            }
            let after = next(w.rows[row].state, &w.facts(row), &Event::TakenOver { now: Timestamp(0), settle_ms: i64::from(settle) });
            for attempt in w.rows[row].attempts.iter_mut().filter(|attempt| open(attempt)) {
                attempt.left = Some(attempt.left.unwrap_or(settle).max(settle));
            }
            let it = &mut w.rows[row];
            it.state = after.state;
            it.proven_not_applied = false;
            if it.state == State::Delivered && self.rules.read_afterwards {
                it.audit = Some(settle + 1);
            }
        }
    }

    fn commit(&self, w: &mut World, request: usize) -> (Request, Answer) {
        let request = w.requests.remove(request);
        let (lane, version) = ROWS[request.row];
        let answer = w.ehr[lane].commit(self.manner, request.want, version, request.looked == Some(true));
        (request, answer)
    }

    /// One transaction, fenced: what came back is written down.
    fn write_down(&self, w: &mut World, worker: usize) {
        let Worker::Holds { lane, mine, doing: Doing::Answered(Sending { row, attempt, want, open }, answer) } = w.workers[worker] else {
            return;
        };
        w.workers[worker] = if mine { Worker::Holds { lane, mine, doing: Doing::Looking } } else { Worker::Idle };
        let asked = matches!(want, Want::Ask { .. });
        if !mine && self.rules.fence {
            let late = next(w.rows[row].state, &w.facts(row), &Event::LateFenced);
            if let (Action::ReadAfter { at, .. }, State::Delivered, false, Some(_)) = (late.action, w.rows[row].state, asked, answer) {
                self.read_after(w, row, at);
                w.lanes[lane].due = true;
            }
            return;
        }
        let after = match (asked, answer) {
            // A question that was not answered asks for nothing.
            (true, None) => return,
            (true, Some(answer)) => {
                let found = self.found(answer);
                let Some(found) = found else { return };
                next(w.rows[row].state, &w.facts(row), &Event::Asked { found, now: Timestamp(0) })
            }
            (false, None) => {
                let settle = self.rules.settle;
                let after = next(State::InFlight, &w.facts(row), &Event::NoAnswer { now: Timestamp(0), settle_ms: i64::from(settle) });
                w.rows[row].attempts.iter_mut().filter(|it| it.id == attempt).for_each(|it| it.left = Some(settle));
                w.rows[row].read_first = false;
                after
            }
            (false, Some(answer)) => {
                w.rows[row].attempts.retain(|it| it.id != attempt);
                let found = self.found(answer);
                w.rows[row].read_first = found.is_none();
                let event = found.map_or(Event::PreconditionFailed { now: Timestamp(0) }, |found| Event::Applied { found });
                let mut facts = w.facts(row);
                if self.rules.judged_as_recorded && open {
                    facts.resource_settle_until = facts.resource_settle_until.or(Some(Timestamp(-1)));
                }
                next(State::InFlight, &facts, &event)
            }
        };
        self.go(w, row, after);
    }

    fn found(&self, answer: Answer) -> Option<Found> {
        match found(answer) {
            // Our own id is read, not searched for.
            Some(Found::Nothing { .. }) if self.manner.means() == Means::OwnId => Some(Found::Absent),
            found => found,
        }
    }

    fn go(&self, w: &mut World, row: usize, after: Next) {
        let lane = ROWS[row].0;
        let it = &mut w.rows[row];
        it.state = after.state;
        if after.proven_not_applied {
            it.proven_not_applied = true;
        } else if after.settle_until.is_some() {
            it.proven_not_applied = false;
        }
        it.audit = None;
        let etag = match after.action {
            Action::KeepEtag { etag } | Action::UpdateWith { etag } => etag,
            Action::ReadAfter { at, etag } => {
                self.read_after(w, row, at);
                etag
            }
            _ => None,
        };
        if let Some(etag) = etag.and_then(|etag| etag.parse().ok()) {
            w.known[lane] = Some(etag);
        }
    }

    fn read_after(&self, w: &mut World, row: usize, at: Timestamp) {
        if let (true, Ok(left)) = (self.rules.read_afterwards, i8::try_from(at.0)) {
            w.rows[row].audit = Some(left + 1);
        }
    }

    fn sweeps(&self, w: &World, lane: usize) -> bool {
        self.rules.swept && w.lanes[lane].lease.is_none() && !w.lanes[lane].due && w.unfinished(lane)
    }

    /// Moments that differ in nothing that matters are one.
    fn tidy(&self, w: &mut World) {
        for it in &mut w.rows {
            it.means = it.last.map(|want| if matches!(want, Want::Update { .. }) { Means::Update } else { self.manner.means() });
            if !matches!(it.state, State::InFlight | State::Uncertain) {
                it.attempts.retain(|attempt| attempt.left != Some(-1));
            }
            it.attempts.sort_unstable();
        }
        w.workers.sort_unstable();
        w.requests.sort_unstable();
    }

    /// Nothing moves any more, and nothing will.
    fn at_rest(&self, w: &World) -> bool {
        w.requests.is_empty()
            && w.second == Acceptance::Committed
            && w.workers.iter().all(|worker| *worker == Worker::Idle)
            && w.lanes.iter().all(|lane| !lane.due && lane.lease.is_none())
            && (0..w.lanes.len()).all(|lane| !self.sweeps(w, lane))
    }
}

/// What the ledger says is what the EHR holds: the newest version, under the ETag that is known.
fn agrees(w: &World) -> bool {
    let ended = |state: State| matches!(state, State::Delivered | State::Superseded);
    let newest = |lane: usize| (0..w.rows.len()).filter(|row| ROWS[*row].0 == lane).map(|row| ROWS[row].1).max();
    w.rows.iter().all(|row| ended(row.state))
        && w.ehr
            .iter()
            .enumerate()
            .all(|(lane, it): (usize, &Resource)| Some(it.version) == newest(lane) && w.known[lane] == Some(it.etag) && it.stored == 1)
}

fn ticks(w: &World) -> bool {
    // An answer comes within the time limit of an attempt, or the line is cut.
    let kept_waiting = w.requests.iter().any(|it| it.line && LATEST - it.left >= LIMIT);
    let runs = |left: Option<i8>| left.is_some_and(|left| left >= 0);
    let running = !w.requests.is_empty()
        || w.lanes.iter().any(|lane| runs(lane.lease))
        || w.rows.iter().any(|row| row.audit.is_some_and(|left| left > 0) || row.attempts.iter().any(|it| runs(it.left)));
    running && !kept_waiting && oversleep(w) <= usize::from(w.deaths)
}

/// Workers whose lease is over with the next tick: frozen, which counts like dead.
fn oversleep(w: &World) -> usize {
    let ends = |worker: &&Worker| matches!(worker, Worker::Holds { lane, mine: true, .. } if w.lanes[*lane].lease == Some(0));
    w.workers.iter().filter(ends).count()
}

fn tick(w: &mut World) {
    let less = |left: &mut i8| *left = (*left - 1).max(-1);
    w.lanes.iter_mut().filter_map(|lane| lane.lease.as_mut()).for_each(less);
    for row in &mut w.rows {
        row.attempts.iter_mut().filter_map(|it| it.left.as_mut()).for_each(less);
        row.audit.iter_mut().for_each(|left| *left = (*left - 1).max(0));
    }
    w.requests.iter_mut().for_each(|it| it.left -= 1);
    w.requests.retain(|it| it.left >= 0);
}

fn record(w: &mut World, worker: usize, row: usize, want: Want) {
    let Worker::Holds { lane, mine, .. } = w.workers[worker] else { return };
    let attempt = (0..u8::MAX).find(|id| !taken(w, row, *id)).unwrap_or(u8::MAX);
    let open = w.resource_settle_until(lane).is_some();
    if !matches!(want, Want::Ask { .. }) {
        let it = &mut w.rows[row];
        it.state = State::InFlight;
        it.sent_before = true;
        it.proven_not_applied = false;
        it.last = Some(want);
        it.attempts.push(Attempt { id: attempt, left: None });
    }
    w.workers[worker] = Worker::Holds { lane, mine, doing: Doing::Recorded(Sending { row, attempt, want, open }) };
}

fn taken(w: &World, row: usize, id: u8) -> bool {
    let of_a_worker = |worker: &Worker| match worker {
        Worker::Holds { doing: Doing::Recorded(its) | Doing::Sent(its) | Doing::Answered(its, _), .. } => {
            (its.row, its.attempt) == (row, id)
        }
        _ => false,
    };
    w.rows[row].attempts.iter().any(|it| it.id == id)
        || w.requests.iter().any(|it| (it.row, it.attempt) == (row, id))
        || w.workers.iter().any(of_a_worker)
}

fn send(w: &mut World, worker: usize) {
    let Worker::Holds { lane, mine, doing: Doing::Recorded(its) } = w.workers[worker] else { return };
    w.workers[worker] = Worker::Holds { lane, mine, doing: Doing::Sent(its) };
    w.requests.push(Request { row: its.row, attempt: its.attempt, want: its.want, left: LATEST, looked: None, line: true });
}

/// The one who waits for it has the answer, or knows that none comes.
fn answered(w: &mut World, request: &Request, answer: Option<Answer>) {
    for worker in &mut w.workers {
        if let Worker::Holds { doing, .. } = worker
            && let Doing::Sent(its) = *doing
            && (its.row, its.attempt) == (request.row, request.attempt)
        {
            *doing = Doing::Answered(its, answer);
        }
    }
}

fn accept(w: &mut World) {
    let Acceptance::Uncommitted { lane_was_due } = w.second else { return };
    w.second = Acceptance::Committed;
    w.lanes[0].due |= !lane_was_due;
    let first = next(w.rows[0].state, &w.facts(0), &Event::NewerAccepted);
    w.rows[0].state = first.state;
}
