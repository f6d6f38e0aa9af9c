//! NATS JetStream: a work-queue stream, a pull consumer with explicit acknowledgements.
//!
//! The client library is asynchronous; it runs on a runtime of one thread, made after the fork, inside each
//! call.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::mem::ManuallyDrop;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Runtime;

use super::server::{Durability, Server, find, free_port};
use super::version::{installed, is_at_least};
use super::{Broker, Line, Receiver, Sender, TICK, runtime};

/// Messages that the server hands out ahead of their acknowledgement.
const AHEAD: usize = 512;

/// A server.
#[derive(Debug)]
pub struct Nats {
    _server: Server,
    address: String,
    durability: Durability,
}

/// Whether the server that is installed can be told to sync each message: since version 2.10.
pub fn can_sync_always() -> bool {
    installed("nats-server", Some("--version")).is_some_and(|version| is_at_least(&version, (2, 10)))
}

impl Nats {
    pub fn start(durability: Durability) -> Result<Nats> {
        let program =
            find("nats-server").context("nats-server is not installed (apt-get install nats-server)")?;
        let mut server = Server::new("nats-server", durability)?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = server.path().join("config");
        let sync = match durability {
            Durability::Durable if can_sync_always() => ", sync_interval: always",
            _ => "",
        };
        let place = server.text_path("data")?;
        std::fs::write(
            &config,
            format!("listen: \"{address}\"\njetstream {{ store_dir: \"{place}\"{sync} }}\n"),
        )?;
        server.start(&program, [Path::new("--config"), &config], &[])?;
        server.wait_until(|| ask(&address))?;
        Ok(Nats { _server: server, address, durability })
    }

    async fn connect(&self) -> Result<async_nats::Client> {
        async_nats::connect(&self.address).await.context("cannot connect to NATS")
    }
}

/// Whether JetStream answers. In plain text: the client needs a runtime, which a process that forks should
/// not have.
fn ask(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"CONNECT {\"verbose\":false}\r\nSUB answer 1\r\n")?;
    stream.write_all(b"PUB $JS.API.INFO answer 0\r\n\r\n")?;
    for line in BufReader::new(stream).lines() {
        if line?.starts_with("MSG answer") {
            return Ok(());
        }
    }
    bail!("NATS closed the connection")
}

impl Broker for Nats {
    type Sender = Publisher;
    type Receiver = Puller;

    fn receiver(&self, queue: Line<'_>) -> Result<Puller> {
        let runtime = runtime()?;
        let (client, messages) = runtime.block_on(async {
            let client = self.connect().await?;
            let memory = self.durability == Durability::Volatile;
            let stream = stream::Config {
                name: queue.name.to_owned(),
                subjects: vec![queue.name.to_owned()],
                retention: stream::RetentionPolicy::WorkQueue,
                storage: if memory { stream::StorageType::Memory } else { stream::StorageType::File },
                ..Default::default()
            };
            let stream = jetstream::new(client.clone()).create_stream(stream).await?;
            let config = pull::Config {
                durable_name: Some("workers".to_owned()),
                ack_policy: AckPolicy::Explicit,
                max_ack_pending: 4 * AHEAD as i64,
                memory_storage: memory,
                ..Default::default()
            };
            let consumer = stream.create_consumer(config).await?;
            let messages = consumer.stream().max_messages_per_batch(AHEAD).messages().await?;
            anyhow::Ok((client, messages))
        })?;
        Ok(Puller { runtime, client, messages: ManuallyDrop::new(messages) })
    }

    fn sender(&self, queue: Line<'_>, window: usize) -> Result<Publisher> {
        let runtime = runtime()?;
        // It starts a task of its own, so it needs the runtime around it.
        let context = runtime.block_on(async { anyhow::Ok(jetstream::new(self.connect().await?)) })?;
        Ok(Publisher { runtime, context, subject: queue.name.to_owned(), in_flight: VecDeque::new(), window })
    }
}

/// A producer.
pub struct Publisher {
    runtime: Runtime,
    context: jetstream::Context,
    subject: String,
    in_flight: VecDeque<PublishAckFuture>,
    window: usize,
}

impl Publisher {
    fn confirm(&mut self, leave: usize) -> Result<()> {
        let done = self.in_flight.len().saturating_sub(leave);
        self.runtime.block_on(async {
            for ack in self.in_flight.drain(..done) {
                ack.await.context("NATS refused a message")?;
            }
            Ok(())
        })
    }
}

impl Sender for Publisher {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        let payload = Bytes::copy_from_slice(payload);
        let sent = self.context.publish(self.subject.clone(), payload);
        self.in_flight.push_back(self.runtime.block_on(sent.into_future())?);
        if self.in_flight.len() < self.window { Ok(()) } else { self.confirm(self.window / 2) }
    }

    fn flush(&mut self) -> Result<()> {
        self.confirm(0)
    }
}

/// A consumer.
pub struct Puller {
    runtime: Runtime,
    client: async_nats::Client,
    /// To drop it takes a runtime around it, and the process ends soon.
    messages: ManuallyDrop<pull::Stream>,
}

impl Receiver for Puller {
    fn take(&mut self, max: usize, mut see: impl FnMut(&[u8])) -> Result<usize> {
        let messages = &mut self.messages;
        self.runtime.block_on(async {
            let Ok(first) = tokio::time::timeout(TICK, messages.next()).await else { return Ok(0) };
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(message) = next {
                let message = message.context("NATS closed the stream")?.context("NATS hands out no more")?;
                see(&message.payload);
                message.ack().await.map_err(|error| anyhow!("NATS refused an acknowledgement: {error}"))?;
                taken += 1;
                next = if taken < max { messages.next().now_or_never() } else { None };
            }
            Ok(taken)
        })
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.runtime.block_on(self.client.flush())?)
    }
}
