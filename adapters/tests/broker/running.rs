//! A broker on free ports, in threads of its own.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use fulmar_adapters::broker::{BrokerHandle, Options, Server};
use smol::block_on;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) handle: BrokerHandle,
    pub(crate) thread: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) fn start(options: Options) -> Self {
        let listeners = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let server = Server::bind(Options { listeners, ..options }).expect("a port is free");
        let (address, handle) = (server.addresses()[0], server.handle());
        Self { address, handle, thread: server.spawn().expect("a thread can be had") }
    }

    pub(crate) fn stop(self) {
        block_on(self.handle.stop());
        self.join();
    }

    /// Ends without waiting for the clients of the test.
    pub(crate) fn abort(self) {
        block_on(self.handle.abort());
        self.join();
    }

    pub(crate) fn join(self) {
        self.thread.join().expect("the broker does not panic").expect("nothing failed");
    }
}
