//! The cable between a client and the double, which can be cut.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Passes bytes on to a server, until it is cut; new connections are taken again afterwards.
pub struct Wire {
    pub address: SocketAddr,
    open: Mutex<Vec<TcpStream>>,
}

impl Wire {
    /// One that leads to `server`. Its threads end with the process.
    pub fn to(server: SocketAddr) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Arc::new(Self { address: listener.local_addr().unwrap(), open: Mutex::default() });
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else {
                    return;
                };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
                accepting.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
            }
        });
        wire
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
