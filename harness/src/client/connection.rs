//! One blocking connection to one node: commands out, replies in.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::reply::{Reply, ReplyReader, encode_command};

/// A connection on which commands may be pipelined: replies come in the order of the commands.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    replies: ReplyReader,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// What the system says, or `TimedOut`.
    pub fn open(address: &str, connect_timeout: Duration, reply_timeout: Duration) -> io::Result<Connection> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} names no address"));
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, connect_timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(reply_timeout))?;
                    stream.set_write_timeout(Some(reply_timeout))?;
                    return Ok(Connection { stream, out: Vec::new(), replies: ReplyReader::default() });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Queues a command; `flush` sends what is queued.
    pub fn queue<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        encode_command(arguments, &mut self.out);
    }

    /// Sends every queued command.
    ///
    /// # Errors
    /// What the system says; how much was sent is then unknown.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    /// `UnexpectedEof` if the server closed, `TimedOut` after the reply time-out, `InvalidData` if it is no reply.
    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut bytes = [0; 16 << 10];
        loop {
            let reply = self.replies.next_reply();
            if let Some(reply) = reply.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                return Ok(reply);
            }
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
                Ok(count) => self.replies.feed(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply in time"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// As `flush` and `receive`; whether the command ran is then unknown.
    pub fn call<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Reply> {
        self.queue(arguments);
        self.flush()?;
        self.receive()
    }
}
