//! Redis streams: XADD, XREADGROUP, XACK.
//!
//! A consumer acknowledges what it has and asks for more in one write. What is acknowledged is also trimmed
//! off the stream, whole nodes at a time, so that it does not grow; only this consumer group reads it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use redis::{Connection, Value, cmd};

use super::pending::Window;
use super::server::{Durability, Server, find};
use super::{Broker, Line, Receiver, Sender, TICK};

/// The name of the consumer group.
const GROUP: &str = "workers";

/// A server.
#[derive(Debug)]
pub struct Redis {
    _server: Server,
    socket: PathBuf,
}

impl Redis {
    pub fn start(durability: Durability) -> Result<Redis> {
        let program =
            find("redis-server").context("redis-server is not installed (apt-get install redis-server)")?;
        let mut server = Server::new("redis-server", durability)?;
        let (directory, socket) = (server.text_path("")?, server.text_path("socket")?);
        let (log, sync) = match durability {
            Durability::Volatile => ("no", "no"),
            Durability::Durable => ("yes", "always"),
        };
        let args = ["--port", "0", "--unixsocket", &socket, "--dir", &directory, "--save", ""];
        let durability = ["--appendonly", log, "--appendfsync", sync, "--daemonize", "no"];
        server.start(&program, args.iter().chain(&durability), &[])?;
        let socket = server.path().join("socket");
        server.wait_until(|| {
            let pong: String = cmd("PING").query(&mut connect(&socket)?)?;
            ensure!(pong == "PONG", "not Redis");
            Ok(())
        })?;
        Ok(Redis { _server: server, socket })
    }
}

fn connect(socket: &std::path::Path) -> Result<Connection> {
    let client = redis::Client::open(format!("redis+unix://{}", socket.display()))?;
    let connection = client.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(connection)
}

impl Broker for Redis {
    type Sender = Adder;
    type Receiver = Reader;

    fn receiver(&self, queue: Line<'_>) -> Result<Reader> {
        let mut connection = connect(&self.socket)?;
        let create = ["CREATE", queue.name, GROUP, "$", "MKSTREAM"];
        cmd("XGROUP").arg(&create).exec(&mut connection).context("cannot make the consumer group")?;
        Ok(Reader { connection, queue: queue.name.to_owned(), commands: Vec::new(), held: Vec::new() })
    }

    fn sender(&self, queue: Line<'_>, window: usize) -> Result<Adder> {
        Ok(Adder {
            connection: connect(&self.socket)?,
            queue: queue.name.to_owned(),
            window: Window::new(window),
        })
    }
}

/// A producer.
pub struct Adder {
    connection: Connection,
    queue: String,
    window: Window,
}

impl Adder {
    /// Sends what there is, and waits until at most this many messages are unconfirmed.
    fn write(&mut self, leave: usize) -> Result<()> {
        self.window.write(|commands| Ok(self.connection.send_packed_command(commands)?))?;
        self.window.confirm(leave, || {
            let answer = self.connection.recv_response().context("Redis refused a message")?;
            ensure!(matches!(answer, Value::BulkString(_)), "Redis refused a message: {answer:?}");
            Ok(())
        })
    }
}

impl Sender for Adder {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut add = cmd("XADD");
        add.arg(&self.queue).arg("*").arg("p").arg(payload);
        let full = self.window.add(|commands| add.write_packed_command(commands));
        if full { self.write(self.window.half()) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.write(0)
    }
}

/// A consumer.
pub struct Reader {
    connection: Connection,
    queue: String,
    commands: Vec<u8>,
    /// Entries that were handed over and are not acknowledged yet.
    held: Vec<Vec<u8>>,
}

impl Reader {
    /// Adds the acknowledgement of all that is held, and says how many answers there will be to it.
    fn acknowledge(&mut self, trim: bool) -> usize {
        let Some(last) = self.held.last() else { return 0 };
        let mut ack = cmd("XACK");
        ack.arg(&self.queue).arg(GROUP).arg(&self.held);
        ack.write_packed_command(&mut self.commands);
        if trim {
            let mut trim = cmd("XTRIM");
            trim.arg(&self.queue).arg("MINID").arg("~").arg(last.as_slice());
            trim.write_packed_command(&mut self.commands);
        }
        1 + usize::from(trim)
    }

    /// Sends what there is and reads the answers to the acknowledgement.
    fn write(&mut self, answers: usize) -> Result<()> {
        self.connection.send_packed_command(&self.commands)?;
        self.commands.clear();
        if answers > 0 {
            let acked = self.connection.recv_response().context("Redis refused an acknowledgement")?;
            let held = self.held.len() as i64;
            ensure!(acked == Value::Int(held), "Redis acknowledged {acked:?} of {held} messages");
        }
        if answers > 1 {
            self.connection.recv_response().context("Redis refused to trim")?;
        }
        self.held.clear();
        Ok(())
    }
}

impl Receiver for Reader {
    fn take(&mut self, max: usize, mut see: impl FnMut(&[u8])) -> Result<usize> {
        let answers = self.acknowledge(true);
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(GROUP)
            .arg("one")
            .arg("COUNT")
            .arg(max)
            .arg("BLOCK")
            .arg(TICK.as_millis() as u64);
        read.arg("STREAMS").arg(&self.queue).arg(">");
        read.write_packed_command(&mut self.commands);
        self.write(answers)?;
        let found = self.connection.recv_response().context("Redis refused to hand out")?;
        let Some(entries) = entries(found)? else { return Ok(0) };
        for entry in entries {
            let Value::Array(entry) = entry else { bail!("not an entry of a stream: {entry:?}") };
            let Ok([Value::BulkString(id), Value::Array(fields)]) = <[Value; 2]>::try_from(entry) else {
                bail!("an entry without an identifier and fields")
            };
            let [_, Value::BulkString(payload)] = fields.as_slice() else {
                bail!("an entry without a payload")
            };
            see(payload);
            self.held.push(id);
        }
        let taken = self.held.len();
        if max == 1 {
            self.finish()?;
        }
        Ok(taken)
    }

    fn finish(&mut self) -> Result<()> {
        let answers = self.acknowledge(false);
        if answers == 0 { Ok(()) } else { self.write(answers) }
    }
}

/// The entries in `[[stream, [entry, …]]]`; `None` if the time was over.
fn entries(found: Value) -> Result<Option<Vec<Value>>> {
    let streams = match found {
        Value::Nil => return Ok(None),
        Value::Array(streams) => streams,
        other => bail!("Redis answered {other:?} to XREADGROUP"),
    };
    let Some(Value::Array(stream)) = streams.into_iter().next() else { bail!("an answer without a stream") };
    match <[Value; 2]>::try_from(stream) {
        Ok([_, Value::Array(entries)]) => Ok(Some(entries)),
        _ => bail!("a stream without entries"),
    }
}
