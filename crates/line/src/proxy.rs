//! A line between Ponte and the server that breaks: before a request, in the middle, behind it, before its answer; or the
//! answer is held until nobody waits for it.

use crate::locked;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing.
    Whole,
    /// Cut before a byte of it was passed on.
    CutBefore,
    /// Both ends hang up some milliseconds after it began: the server may or may not have heard it.
    HungUp,
    /// The server has answered; the answer is thrown away.
    AnswerCut,
    /// The answer is held for longer than a client waits.
    AnswerHeld,
    /// The request is held for a while, and passed on even if nobody waits for it any more.
    Delayed,
    /// The request is swallowed; the connection stays open and says nothing.
    Swallowed,
    /// The request is passed on; the connection stays open and says nothing.
    HalfOpen,
    /// Nobody listens.
    Down,
}

impl Fate {
    /// For the table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::CutBefore => "cut before",
            Self::HungUp => "hung up",
            Self::AnswerCut => "answer cut",
            Self::AnswerHeld => "answer held",
            Self::Delayed => "delayed",
            Self::Swallowed => "swallowed",
            Self::HalfOpen => "half open",
            Self::Down => "down",
        }
    }
}

/// What the line is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Every request passes.
    Calm,
    /// One in three does not.
    Stormy,
    /// Everything that can happen to a line, to one request in three.
    Rough,
    /// Every connection stays open, and none says anything.
    Silent,
    /// Every request takes its time, and passes.
    Slow,
    /// No connection lives.
    Down,
}

#[derive(Debug)]
struct Line {
    server: SocketAddr,
    hold: Duration,
    over: AtomicBool,
    weather: Mutex<Weather>,
    dice: Mutex<StdRng>,
    shown: Mutex<BTreeMap<Fate, u64>>,
}

/// The line; gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    line: Arc<Line>,
    port: u16,
}

impl Proxy {
    /// Begins to listen; calm. `hold`: longer than the client waits; a delayed request is held for a part of it.
    ///
    /// # Errors
    /// When no port is free.
    pub fn before(server: SocketAddr, hold: Duration, seed: u64) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|why| format!("The proxy cannot listen: {why}."))?;
        let port = listener.local_addr().map_err(|why| why.to_string())?.port();
        let line = Arc::new(Line {
            server,
            hold,
            over: AtomicBool::new(false),
            weather: Mutex::new(Weather::Calm),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            shown: Mutex::default(),
        });
        let accepting = line.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                let line = accepting.clone();
                std::thread::spawn(move || line.carry(&client));
            }
        });
        Ok(Self { line, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The weather from now on.
    pub fn set(&self, weather: Weather) {
        *locked(&self.line.weather) = weather;
    }

    /// How often each fate was met.
    #[must_use]
    pub fn shown(&self) -> BTreeMap<Fate, u64> {
        locked(&self.line.shown).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.line.over.store(true, Ordering::SeqCst);
        // Wakes who waits for the next connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Line {
    fn fate(&self) -> Fate {
        let fate = match *locked(&self.weather) {
            Weather::Calm => Fate::Whole,
            Weather::Down => Fate::Down,
            Weather::Stormy => match locked(&self.dice).random_range(0..100) {
                0..7 => Fate::CutBefore,
                7..15 => Fate::HungUp,
                15..30 => Fate::AnswerCut,
                30..34 => Fate::AnswerHeld,
                _ => Fate::Whole,
            },
            Weather::Rough => match locked(&self.dice).random_range(0..100) {
                0..5 => Fate::CutBefore,
                5..11 => Fate::HungUp,
                11..18 => Fate::AnswerCut,
                18..21 => Fate::AnswerHeld,
                21..27 => Fate::Delayed,
                27..29 => Fate::Swallowed,
                29..32 => Fate::HalfOpen,
                _ => Fate::Whole,
            },
            Weather::Silent if locked(&self.dice).random_bool(0.5) => Fate::Swallowed,
            Weather::Silent => Fate::HalfOpen,
            Weather::Slow => Fate::Delayed,
        };
        *locked(&self.shown).entry(fate).or_default() += 1;
        fate
    }

    fn carry(self: Arc<Self>, client: &TcpStream) {
        if *locked(&self.weather) == Weather::Down {
            *locked(&self.shown).entry(Fate::Down).or_default() += 1;
            return;
        }
        let Ok(server) = TcpStream::connect(self.server) else { return };
        let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
        let now = Arc::new(Mutex::new(Fate::Whole));
        // Bytes of the client begin a new request if the server has said something since the last one.
        let answered = Arc::new(AtomicBool::new(true));
        let back = {
            let (line, now, answered) = (self.clone(), now.clone(), answered.clone());
            std::thread::spawn(move || line.bring_back(from_server, to_client, &now, &answered))
        };
        self.bring(client, &server, &now, &answered);
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
        let _ = back.join();
    }

    fn bring(&self, mut client: &TcpStream, mut server: &TcpStream, now: &Mutex<Fate>, answered: &AtomicBool) {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let Ok(length @ 1..) = client.read(&mut bytes) else { return };
            if answered.swap(false, Ordering::SeqCst) {
                let fate = self.fate();
                *locked(now) = fate;
                match fate {
                    Fate::CutBefore | Fate::Down => return,
                    Fate::HungUp => self.hang_up_soon(client, server),
                    Fate::Delayed => self.delay(),
                    Fate::Whole | Fate::AnswerCut | Fate::AnswerHeld | Fate::Swallowed | Fate::HalfOpen => {}
                }
            }
            if *locked(now) == Fate::Swallowed {
                continue;
            }
            if server.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    }

    fn delay(&self) {
        let part = if *locked(&self.weather) == Weather::Slow { 0.05..0.15 } else { 0.1..0.7 };
        let wait = self.hold.mul_f64(locked(&self.dice).random_range(part));
        std::thread::sleep(wait);
    }

    fn hang_up_soon(&self, client: &TcpStream, server: &TcpStream) {
        let wait = Duration::from_millis(locked(&self.dice).random_range(0..60));
        if let (Ok(client), Ok(server)) = (client.try_clone(), server.try_clone()) {
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                let _ = server.shutdown(Shutdown::Both);
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    }

    fn bring_back(&self, mut server: TcpStream, mut client: TcpStream, now: &Mutex<Fate>, answered: &AtomicBool) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = server.read(&mut bytes) {
            let fate = *locked(now);
            match fate {
                Fate::AnswerCut => break,
                Fate::AnswerHeld => {
                    *locked(now) = Fate::Whole;
                    std::thread::sleep(self.hold);
                }
                Fate::HalfOpen => continue,
                _ => {}
            }
            answered.store(true, Ordering::SeqCst);
            if client.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
}
