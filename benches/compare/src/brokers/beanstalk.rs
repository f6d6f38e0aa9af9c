//! beanstalkd: put, reserve, delete.
//!
//! The protocol is lines of text; this client speaks it over a Unix socket, with as many commands on their
//! way as the caller allows. A producer counts the `INSERTED` that came back; a consumer sends the deletes of
//! what it has and the next reserves in one write.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::pending::Window;
use super::server::{Durability, Server, find};
use super::{Broker, Line, Receiver, Sender, TICK};

/// A server, and the tube to use.
#[derive(Debug)]
pub struct Beanstalk {
    _server: Server,
    socket: PathBuf,
}

impl Beanstalk {
    pub fn start(durability: Durability) -> Result<Beanstalk> {
        let program =
            find("beanstalkd").context("beanstalkd is not installed (apt-get install beanstalkd)")?;
        let mut server = Server::new("beanstalkd", durability)?;
        let socket = server.path().join("socket");
        let mut args = vec!["-l".to_owned(), format!("unix:{}", server.text_path("socket")?)];
        if durability == Durability::Durable {
            let place = server.text_path("binlog")?;
            std::fs::create_dir(&place)?;
            args.extend(["-b".to_owned(), place, "-f".to_owned(), "0".to_owned()]);
        }
        server.start(&program, args, &[])?;
        server.wait_until(|| {
            let mut connection = Connection::open(&socket)?;
            connection.send(b"list-tube-used\r\n")?;
            ensure!(connection.line()? == "USING default", "not beanstalkd");
            Ok(())
        })?;
        Ok(Beanstalk { _server: server, socket })
    }
}

impl Broker for Beanstalk {
    type Sender = Putter;
    type Receiver = Reserver;

    fn receiver(&self, queue: Line<'_>) -> Result<Reserver> {
        let mut connection = Connection::open(&self.socket)?;
        connection.send(format!("watch {}\r\nignore default\r\n", queue.name).as_bytes())?;
        ensure!(connection.line()? == "WATCHING 2", "cannot watch the tube");
        ensure!(connection.line()? == "WATCHING 1", "cannot ignore the default tube");
        Ok(Reserver { connection, commands: Vec::new(), held: Vec::new() })
    }

    fn sender(&self, queue: Line<'_>, window: usize) -> Result<Putter> {
        let mut connection = Connection::open(&self.socket)?;
        connection.send(format!("use {}\r\n", queue.name).as_bytes())?;
        ensure!(connection.line()? == format!("USING {}", queue.name), "cannot use the tube");
        Ok(Putter { connection, window: Window::new(window) })
    }
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Connection {
    fn open(socket: &Path) -> Result<Connection> {
        let stream = UnixStream::connect(socket)?;
        // Nothing here takes longer than a reserve's second; a server that says nothing is an error.
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let reader = BufReader::with_capacity(64 * 1024, stream.try_clone()?);
        Ok(Connection { stream, reader })
    }

    fn send(&mut self, commands: &[u8]) -> Result<()> {
        self.stream.write_all(commands).context("beanstalkd takes no commands")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).context("beanstalkd does not answer")?;
        ensure!(read > 0, "beanstalkd closed the connection");
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

/// A producer.
#[derive(Debug)]
pub struct Putter {
    connection: Connection,
    window: Window,
}

impl Putter {
    /// Sends what there is, and waits until at most this many puts are unconfirmed.
    fn write(&mut self, leave: usize) -> Result<()> {
        self.window.write(|commands| self.connection.send(commands))?;
        self.window.confirm(leave, || {
            let line = self.connection.line()?;
            ensure!(line.starts_with("INSERTED "), "beanstalkd refused a message: {line}");
            Ok(())
        })
    }
}

impl Sender for Putter {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let full = self.window.add(|commands| {
            // Priority 0, no delay, 60 s to work on it.
            commands.extend_from_slice(format!("put 0 0 60 {}\r\n", payload.len()).as_bytes());
            commands.extend_from_slice(payload);
            commands.extend_from_slice(b"\r\n");
        });
        if full { self.write(self.window.half()) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.write(0)
    }
}

/// A consumer.
#[derive(Debug)]
pub struct Reserver {
    connection: Connection,
    commands: Vec<u8>,
    /// Jobs that were handed over and are not deleted yet.
    held: Vec<u64>,
}

impl Reserver {
    /// Adds the deletes of all that is held.
    fn delete_held(&mut self) -> Result<()> {
        for job in &self.held {
            write!(self.commands, "delete {job}\r\n")?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        self.connection.send(&self.commands)?;
        self.commands.clear();
        for job in self.held.drain(..) {
            let line = self.connection.line()?;
            ensure!(line == "DELETED", "beanstalkd did not delete job {job}: {line}");
        }
        Ok(())
    }

    /// The answer to a reserve.
    fn reserved(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.connection.line()?;
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("RESERVED"), Some(job), Some(length)) => {
                self.held.push(job.parse().context("a job's number")?);
                let length = length.parse::<usize>().context("a job's length")?;
                let mut body = vec![0; length + 2];
                self.connection.reader.read_exact(&mut body)?;
                body.truncate(length);
                Ok(Some(body))
            }
            (Some("TIMED_OUT"), ..) => Ok(None),
            _ => bail!("beanstalkd refused a reserve: {line}"),
        }
    }
}

impl Receiver for Reserver {
    fn take(&mut self, max: usize, mut see: impl FnMut(&[u8])) -> Result<usize> {
        self.delete_held()?;
        let mut taken = 0;
        if max > 1 {
            // What is there already.
            for _ in 0..max {
                self.commands.extend_from_slice(b"reserve-with-timeout 0\r\n");
            }
            self.write()?;
            for _ in 0..max {
                if let Some(body) = self.reserved()? {
                    see(&body);
                    taken += 1;
                }
            }
        }
        if taken == 0 {
            write!(self.commands, "reserve-with-timeout {}\r\n", TICK.as_secs())?;
            self.write()?;
            if let Some(body) = self.reserved()? {
                see(&body);
                taken = 1;
            }
        }
        if max == 1 {
            self.finish()?;
        }
        Ok(taken)
    }

    fn finish(&mut self) -> Result<()> {
        self.delete_held()?;
        self.write()
    }
}
