//! RabbitMQ: a classic queue in memory, or a quorum queue; publisher confirms, manual acknowledgements.
//!
//! The server is an Erlang node with a port mapper (`epmd`). Left alone it would start one that outlives it,
//! so the harness starts the mapper first, on a port of its own.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use tokio::runtime::Runtime;

use super::server::{Durability, Server, find, free_port};
use super::{Broker, Line, Receiver, Sender, TICK, runtime};

/// Messages that the server hands out ahead of their acknowledgement.
const AHEAD: u16 = 512;

/// The server's own script, seen from the directory of the one on `PATH`. That one changes the user, and
/// works only with the system's directories.
pub const SCRIPT: &str = "../lib/rabbitmq/bin/rabbitmq-server";

/// A node.
#[derive(Debug)]
pub struct Rabbit {
    _server: Server,
    port: u16,
    durability: Durability,
}

impl Rabbit {
    pub fn start(durability: Durability) -> Result<Rabbit> {
        let program =
            find(SCRIPT).context("rabbitmq-server is not installed (apt-get install rabbitmq-server)")?;
        let mapper = find("epmd").context("epmd is not installed (apt-get install erlang-base)")?;
        let mut server = Server::new("rabbitmq-server", durability)?;
        let (port, mapper_port, peer_port) = (free_port()?, free_port()?, free_port()?);
        let mapper_args = ["-address", "127.0.0.1", "-port", &mapper_port.to_string()];
        server.start(&mapper, mapper_args, &[])?;
        server.wait_until(|| Ok(TcpStream::connect(("127.0.0.1", mapper_port)).map(drop)?))?;
        for name in ["data", "logs"] {
            std::fs::create_dir(server.path().join(name))?;
        }
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.file = false\n\
             disk_free_limit.absolute = 50MB\n"
        );
        std::fs::write(server.path().join("rabbitmq.conf"), config)?;
        std::fs::write(server.path().join("plugins"), "[].\n")?;
        std::fs::write(server.path().join("environment.conf"), "")?;
        let environment = [
            ("HOME", server.text_path("")?),
            // Makes the script become the node, and not a shell that waits for it.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
            ("ERL_EPMD_PORT", mapper_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("ringway-compare-{port}@localhost")),
            ("RABBITMQ_DIST_PORT", peer_port.to_string()),
            ("RABBITMQ_CONF_ENV_FILE", server.text_path("environment.conf")?),
            ("RABBITMQ_CONFIG_FILE", server.text_path("rabbitmq.conf")?),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", server.text_path("plugins")?),
            ("RABBITMQ_MNESIA_BASE", server.text_path("data")?),
            ("RABBITMQ_LOG_BASE", server.text_path("logs")?),
            ("RABBITMQ_PID_FILE", server.text_path("pid")?),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ];
        server.start(&program, [""; 0], &environment)?;
        server.wait_until(|| ask(port))?;
        Ok(Rabbit { _server: server, port, durability })
    }

    async fn connect(&self) -> Result<(Connection, Channel)> {
        let address = format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port);
        let connection = Connection::connect(&address, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

/// Whether the node speaks AMQP: its answer to the greeting is a frame of the type 1.
fn ask(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"AMQP\0\0\x09\x01")?;
    let mut frame = [0];
    stream.read_exact(&mut frame)?;
    ensure!(frame == [1], "not RabbitMQ");
    Ok(())
}

impl Broker for Rabbit {
    type Sender = Publisher;
    type Receiver = Consumer;

    fn receiver(&self, queue: Line<'_>) -> Result<Consumer> {
        let runtime = runtime()?;
        let (connection, channel, consumer) = runtime.block_on(async {
            let (connection, channel) = self.connect().await?;
            let durable = self.durability == Durability::Durable;
            let options = QueueDeclareOptions { durable, ..Default::default() };
            let mut arguments = FieldTable::default();
            let kind = if durable { "quorum" } else { "classic" };
            arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
            channel.queue_declare(queue.name.into(), options, arguments).await?;
            channel.basic_qos(AHEAD, BasicQosOptions::default()).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel.basic_consume(queue.name.into(), "".into(), options, arguments).await?;
            anyhow::Ok((connection, channel, consumer))
        })?;
        Ok(Consumer { runtime, consumer, _channel: channel, connection })
    }

    fn sender(&self, queue: Line<'_>, window: usize) -> Result<Publisher> {
        let runtime = runtime()?;
        let (connection, channel) = runtime.block_on(async {
            let (connection, channel) = self.connect().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            anyhow::Ok((connection, channel))
        })?;
        // 1 is transient, 2 persistent.
        let mode = if self.durability == Durability::Durable { 2 } else { 1 };
        Ok(Publisher {
            properties: BasicProperties::default().with_delivery_mode(mode),
            queue: queue.name.to_owned(),
            pending: Vec::new(),
            in_flight: VecDeque::new(),
            half: window.div_ceil(2),
            channel,
            _connection: connection,
            runtime,
        })
    }
}

/// A producer.
pub struct Publisher {
    properties: BasicProperties,
    queue: String,
    /// Messages that wait to be sent together: the client takes a round of its own thread for each that is
    /// sent alone.
    pending: Vec<Vec<u8>>,
    in_flight: VecDeque<PublisherConfirm>,
    /// Messages that are sent together; twice as many are unconfirmed at most.
    half: usize,
    channel: Channel,
    _connection: Connection,
    runtime: Runtime,
}

impl Publisher {
    /// Sends what is pending, and waits until no more than `leave` are unconfirmed.
    fn turn(&mut self, leave: usize) -> Result<()> {
        let Publisher { channel, queue, properties, in_flight, .. } = self;
        let publish = |payload| {
            let (options, properties) = (BasicPublishOptions::default(), properties.clone());
            channel.basic_publish("".into(), queue.as_str().into(), options, payload, properties)
        };
        self.runtime.block_on(async {
            in_flight.extend(try_join_all(self.pending.iter().map(Vec::as_slice).map(publish)).await?);
            let done = in_flight.len().saturating_sub(leave);
            for confirm in in_flight.drain(..done) {
                ensure!(confirm.await?.is_ack(), "RabbitMQ refused a message");
            }
            Ok(())
        })?;
        self.pending.clear();
        Ok(())
    }
}

impl Sender for Publisher {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.pending.push(payload.to_vec());
        if self.pending.len() < self.half { Ok(()) } else { self.turn(self.half) }
    }

    fn flush(&mut self) -> Result<()> {
        self.turn(0)
    }
}

/// A consumer.
pub struct Consumer {
    consumer: lapin::Consumer,
    _channel: Channel,
    connection: Connection,
    runtime: Runtime,
}

impl Receiver for Consumer {
    fn take(&mut self, max: usize, mut see: impl FnMut(&[u8])) -> Result<usize> {
        let consumer = &mut self.consumer;
        self.runtime.block_on(async {
            let Ok(first) = tokio::time::timeout(TICK, consumer.next()).await else { return Ok(0) };
            let mut last = first.context("RabbitMQ ended the delivery")??;
            see(&last.data);
            let mut taken = 1;
            while taken < max
                && let Some(next) = consumer.next().now_or_never()
            {
                last = next.context("RabbitMQ ended the delivery")??;
                see(&last.data);
                taken += 1;
            }
            // One acknowledgement for all up to the last.
            last.acker.ack(BasicAckOptions { multiple: true }).await?;
            Ok(taken)
        })
    }

    fn finish(&mut self) -> Result<()> {
        // What was acknowledged is written when the connection is closed.
        Ok(self.runtime.block_on(self.connection.close(0, "".into()))?)
    }
}
