//! One address before a server that may move: what a virtual IP or a DNS name is to those who connect to it.

use crate::locked;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
struct Inside {
    over: AtomicBool,
    /// Rises with every silence; a connection of before hears nothing more.
    silences: AtomicU64,
    target: Mutex<SocketAddr>,
    /// Both ends of every connection that still lives.
    living: Mutex<Vec<(TcpStream, TcpStream)>>,
}

/// The address; gone when dropped.
#[derive(Debug)]
pub struct Forwarder {
    inside: Arc<Inside>,
    port: u16,
}

impl Forwarder {
    /// Begins to listen, and leads there.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(target: SocketAddr) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|why| format!("The forwarder cannot listen: {why}."))?;
        let port = listener.local_addr().map_err(|why| why.to_string())?.port();
        let inside = Arc::new(Inside {
            over: AtomicBool::new(false),
            silences: AtomicU64::new(0),
            target: Mutex::new(target),
            living: Mutex::default(),
        });
        let accepting = inside.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                let inside = accepting.clone();
                std::thread::spawn(move || inside.carry(client));
            }
        });
        Ok(Self { inside, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead there from now on. The old ones stay as they are: a machine that vanished says no farewell.
    pub fn turn(&self, target: SocketAddr) {
        *locked(&self.inside.target) = target;
    }

    /// Every connection stays open and carries nothing more, either way; new ones do. So it is when a machine vanished.
    pub fn silence(&self) {
        self.inside.silences.fetch_add(1, Ordering::SeqCst);
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for (client, server) in locked(&self.inside.living).drain(..) {
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.inside.over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes who waits for the next connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Inside {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        let since = self.silences.load(Ordering::SeqCst);
        let target = *locked(&self.target);
        let Ok(server) = TcpStream::connect(target) else { return };
        let ends = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some(kept), Some((answer_to, answer_from))) = (ends(), ends()) else { return };
        {
            let mut living = locked(&self.living);
            living.retain(|(client, _)| client.peer_addr().is_ok());
            living.push(kept);
        }
        let inside = self.clone();
        let back = std::thread::spawn(move || inside.pass(answer_from, answer_to, since));
        self.pass(client, server, since);
        let _ = back.join();
    }

    /// Passes on what comes, until one end hangs up; then both do.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, since: u64) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if self.silences.load(Ordering::SeqCst) == since && to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says one byte to everybody.
    fn saying(byte: u8) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for mut client in listener.incoming().map_while(Result::ok) {
                client.write_all(&[byte]).unwrap();
                kept.push(client);
            }
        });
        address
    }

    fn heard(client: &mut TcpStream) -> Option<u8> {
        let mut byte = [0];
        client.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    #[test]
    fn who_comes_after_the_turn_reaches_the_other_and_a_cut_ends_those_before_it() {
        let forwarder = Forwarder::to(saying(b'a')).unwrap();
        let connect = || TcpStream::connect(("127.0.0.1", forwarder.port())).unwrap();
        let mut early = connect();
        assert_eq!(heard(&mut early), Some(b'a'));
        forwarder.turn(saying(b'b'));
        assert_eq!(heard(&mut connect()), Some(b'b'));
        forwarder.cut();
        assert_eq!(heard(&mut early), None);
        assert_eq!(heard(&mut connect()), Some(b'b'));
    }
}
