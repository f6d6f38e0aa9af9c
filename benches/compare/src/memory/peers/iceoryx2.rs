//! iceoryx2, publish-subscribe between one publisher and one subscriber, zero-copy: messages are loaned,
//! written in place, sent, and read in place. Without overflow, and a publisher that finds the subscriber's
//! buffer full waits, so that nothing need be lost.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use iceoryx2::port::backpressure_strategy::BackpressureStrategy;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};

/// A message of a fixed size, at an address that words can be read from.
#[derive(Debug, Clone, Copy, ZeroCopySend)]
#[repr(C)]
pub struct Sample<const N: usize> {
    align: [u64; 0],
    bytes: [u8; N],
}

/// A service. It is made by the first of its two processes; its files have a prefix of their own, by which
/// what is left of killed ones is found.
pub struct Iceoryx2<const N: usize> {
    setup: Setup,
    config: Config,
    prefix: String,
}

type Service<const N: usize> = PortFactory<ipc::Service, Sample<N>, ()>;

impl<const N: usize> Iceoryx2<N> {
    fn service(&self) -> Result<(Node<ipc::Service>, Service<N>)> {
        set_log_level(LogLevel::Fatal);
        let node = NodeBuilder::new().config(&self.config).create::<ipc::Service>().map_err(explain)?;
        let name: ServiceName = self.setup.name.as_str().try_into().map_err(explain)?;
        let service = node
            .service_builder(&name)
            .publish_subscribe::<Sample<N>>()
            .enable_safe_overflow(false)
            .history_size(0)
            .subscriber_max_buffer_size(self.setup.capacity)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
            .map_err(explain)?;
        Ok((node, service))
    }
}

impl<const N: usize> Peer for Iceoryx2<N> {
    type Sender = Sending<N>;
    type Receiver = Receiving<N>;

    fn create(setup: &Setup) -> Result<Self> {
        let mut config = Config::default();
        let prefix = format!("{}_", setup.name);
        config.global.prefix = prefix.as_str().try_into().map_err(explain)?;
        let root = setup.dir.to_str().context("the directory's path is no text")?;
        let root: iceoryx2::prelude::Path = root.try_into().map_err(explain)?;
        config.global.set_root_path(&root);
        Ok(Iceoryx2 { setup: setup.clone(), config, prefix })
    }

    fn sender(&self, _index: usize) -> Result<Sending<N>> {
        let (node, service) = self.service()?;
        let builder = service.publisher_builder();
        let builder = builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
        let publisher = builder.create().map_err(explain)?;
        Ok(Sending { publisher, _node: node })
    }

    fn receiver(&self, _index: usize) -> Result<Receiving<N>> {
        let (node, service) = self.service()?;
        let subscriber = service.subscriber_builder().create().map_err(explain)?;
        Ok(Receiving { subscriber, pace: self.setup.pace, _node: node })
    }
}

impl<const N: usize> Drop for Iceoryx2<N> {
    /// Removes what killed participants left in /dev/shm.
    fn drop(&mut self) {
        for entry in fs::read_dir(Path::new("/dev/shm")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The publisher.
pub struct Sending<const N: usize> {
    publisher: Publisher<ipc::Service, Sample<N>, ()>,
    _node: Node<ipc::Service>,
}

impl<const N: usize> Sender for Sending<N> {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut sample = self.publisher.loan_uninit().map_err(explain)?;
        // SAFETY: new shared memory is zeros, later it is older messages, and all bytes are valid.
        fill(&mut unsafe { sample.payload_mut().assume_init_mut() }.bytes);
        // SAFETY: as above, and `fill` wrote all of it.
        let sample = unsafe { sample.assume_init() };
        sample.send().map_err(explain)?;
        Ok(())
    }
}

/// The subscriber.
pub struct Receiving<const N: usize> {
    subscriber: Subscriber<ipc::Service, Sample<N>, ()>,
    pace: Pace,
    _node: Node<ipc::Service>,
}

impl<const N: usize> Receiver for Receiving<N> {
    #[inline]
    fn try_recv(&mut self, mut read: impl FnMut(&[u8])) -> Result<usize> {
        let Some(sample) = self.subscriber.receive().map_err(explain)? else { return Ok(0) };
        read(&sample.payload().bytes);
        Ok(1)
    }

    #[inline]
    fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
        self.poll(self.pace, read)
    }
}

fn explain(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("iceoryx2: {error:?}")
}
