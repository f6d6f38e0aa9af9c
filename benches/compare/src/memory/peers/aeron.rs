//! Aeron over shared memory: an exclusive publication and a subscription, with a media driver that is started
//! and ended here. It builds Aeron's C for minutes, hence the feature `aeron`.

use crate::memory::peers::Entry;

const NAME: &str = "Aeron IPC";

/// The line of the tables. Every subscription gets every message, so it is for one pair.
#[cfg(feature = "aeron")]
pub fn entry() -> Entry {
    Entry::new::<linked::Aeron>(NAME).pair()
}

/// The line of the tables.
#[cfg(not(feature = "aeron"))]
pub fn entry() -> Entry {
    Entry::absent(NAME, || {
        let needs = "needs cmake 3.30 or newer (pip install cmake), libclang-dev, uuid-dev and libbsd-dev";
        Some(format!("not built in: add --features aeron, which {needs}"))
    })
}

#[cfg(feature = "aeron")]
mod linked {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use anyhow::{Result, anyhow, bail};
    use ringway_measure::{Child, Error, spawn};
    use rusteron_media_driver::{
        Aeron as Client, AeronCError, AeronDriver, AeronDriverContext, AeronExclusivePublication,
        AeronFragmentClosureAssembler, AeronHeader, AeronSubscription, Handlers, IntoCString,
        bindings::aeron_threading_mode_enum,
    };

    use crate::memory::peer::{Pace, Peer, Receiver, Sender, Setup};
    use crate::memory::runner::explain as explain_spawn;

    /// How long the driver may take to start, and to answer.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Messages per poll, as in Aeron's samples.
    const FRAGMENTS: usize = 10;

    /// The longest message that is not cut into pieces by default.
    const WHOLE: usize = 1376;

    /// A stream, and the driver of its directory, which the first of a run's streams starts.
    pub struct Aeron {
        dir: PathBuf,
        channel: String,
        stream: i32,
        setup: Setup,
        _driver: Option<Child<()>>,
    }

    impl Aeron {
        fn client(&self) -> Result<Client> {
            Client::connect_dir(&self.dir.to_string_lossy()).map_err(explain)
        }
    }

    impl Peer for Aeron {
        type Sender = Sending;
        type Receiver = Receiving;

        fn create(setup: &Setup) -> Result<Self> {
            let dir = setup.dir.join("aeron");
            // Whoever makes this starts the driver.
            let first = fs::create_dir(setup.dir.join("driver")).is_ok();
            let driver = if first { Some(start(dir.clone())?) } else { None };
            // Room for about as many messages as the others have; the longest are cut in two at least.
            let options = if setup.payload <= WHOLE { "term-length=4m" } else { "term-length=16m|mtu=65504" };
            let stream = i32::from(setup.name.bytes().last().unwrap_or_default());
            let channel = format!("aeron:ipc?{options}");
            Ok(Aeron { dir, channel, stream, setup: setup.clone(), _driver: driver })
        }

        fn sender(&self, _index: usize) -> Result<Sending> {
            let client = self.client()?;
            let channel = self.channel.as_str().into_c_string();
            let adding = client.async_add_exclusive_publication(&channel, self.stream).map_err(explain)?;
            let publication = adding.poll_blocking(PATIENCE).map_err(explain)?;
            Ok(Sending { publication, buffer: self.setup.buffer(), pace: self.setup.pace, _client: client })
        }

        fn receiver(&self, _index: usize) -> Result<Receiving> {
            let client = self.client()?;
            let channel = self.channel.as_str().into_c_string();
            let (none, nobody) = (Handlers::NONE, Handlers::NONE);
            let adding =
                client.async_add_subscription(&channel, self.stream, none, nobody).map_err(explain)?;
            let subscription = adding.poll_blocking(PATIENCE).map_err(explain)?;
            let cut = self.setup.payload > WHOLE;
            let assembler = cut.then(AeronFragmentClosureAssembler::new).transpose().map_err(explain)?;
            Ok(Receiving { subscription, assembler, pace: self.setup.pace, _client: client })
        }
    }

    /// Starts a media driver, as a process that ends when its handle is dropped.
    fn start(dir: PathBuf) -> Result<Child<()>> {
        let ready = dir.join("cnc.dat");
        let driver =
            spawn(move || drive(&dir).map_err(|error| Error::new(format!("media driver: {error:?}"))));
        let mut driver = driver.map_err(explain_spawn)?;
        for _ in 0..PATIENCE.as_millis() {
            if let Some(result) = driver.try_join(Duration::from_millis(1)) {
                result.map_err(explain_spawn)?;
                bail!("the media driver ended");
            }
            // Clients wait until it is filled in.
            if ready.exists() {
                return Ok(driver);
            }
        }
        bail!("the media driver has not started within {PATIENCE:?}")
    }

    /// The driver's life: one thread for all its parts.
    fn drive(dir: &std::path::Path) -> Result<(), AeronCError> {
        let context = AeronDriverContext::new()?;
        context.set_dir(&dir.to_string_lossy().as_ref().into_c_string())?;
        context.set_threading_mode(aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED)?;
        let driver = AeronDriver::new(&context)?;
        driver.start(true)?;
        loop {
            driver.main_idle_strategy(driver.main_do_work()?);
        }
    }

    /// A publication.
    pub struct Sending {
        publication: AeronExclusivePublication,
        buffer: Vec<u8>,
        pace: Pace,
        _client: Client,
    }

    impl Sender for Sending {
        #[inline]
        fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            fill(&mut self.buffer);
            self.pace.until(|| match self.publication.offer(&self.buffer) {
                Ok(_) => Ok(Some(())),
                Err(error) if error.is_retryable() => Ok(None),
                Err(error) => bail!("Aeron: {error}"),
            })
        }
    }

    /// A subscription.
    pub struct Receiving {
        subscription: AeronSubscription,
        assembler: Option<AeronFragmentClosureAssembler>,
        pace: Pace,
        _client: Client,
    }

    /// What is given the messages that were put together.
    struct Reading<F> {
        read: F,
        found: usize,
    }

    impl<F: FnMut(&[u8])> Reading<F> {
        fn take(&mut self, message: &[u8], _header: AeronHeader) {
            (self.read)(message);
            self.found += 1;
        }
    }

    impl Receiver for Receiving {
        #[inline]
        fn try_recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
            let mut reading = Reading { read, found: 0 };
            match &mut self.assembler {
                Some(assembler) => {
                    assembler.poll(&self.subscription, &mut reading, Reading::take, FRAGMENTS).map(drop)
                }
                None => {
                    let take = |message: &[u8], header| reading.take(message, header);
                    self.subscription.poll_fn(take, FRAGMENTS).map(drop)
                }
            }
            .map_err(explain)?;
            Ok(reading.found)
        }

        #[inline]
        fn recv(&mut self, read: impl FnMut(&[u8])) -> Result<usize> {
            self.poll(self.pace, read)
        }
    }

    fn explain(error: AeronCError) -> anyhow::Error {
        anyhow!("Aeron: {error:?}")
    }
}
