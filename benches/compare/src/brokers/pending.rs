//! What a producer has not seen through yet: messages that wait for their batch, commands that wait to be
//! sent, and confirmations that have not come.

use std::mem;

use anyhow::Result;

/// Messages that wait until their batch is full. Their memory is used again.
#[derive(Debug)]
pub struct Outbox {
    messages: Vec<Vec<u8>>,
    /// How many of them wait.
    count: usize,
    size: usize,
}

impl Outbox {
    /// Batches of this many.
    pub fn new(size: usize) -> Outbox {
        Outbox { messages: Vec::new(), count: 0, size }
    }

    /// Adds a message. Whether the batch is full.
    #[inline]
    pub fn add(&mut self, payload: &[u8]) -> bool {
        match self.messages.get_mut(self.count) {
            Some(place) => payload.clone_into(place),
            None => self.messages.push(payload.to_vec()),
        }
        self.count += 1;
        self.count == self.size
    }

    /// Those that wait.
    pub fn messages(&self) -> &[Vec<u8>] {
        &self.messages[..self.count]
    }

    /// All were sent.
    pub fn clear(&mut self) {
        self.count = 0;
    }
}

/// Commands to a server that answers each: half of a window is sent in one write, while the answers to the
/// other half are on their way.
#[derive(Debug)]
pub struct Window {
    commands: Vec<u8>,
    buffered: usize,
    in_flight: usize,
    half: usize,
}

impl Window {
    /// At most this many unanswered commands.
    pub fn new(size: usize) -> Window {
        Window { commands: Vec::new(), buffered: 0, in_flight: 0, half: size.div_ceil(2) }
    }

    /// How many unanswered ones leave room for a write.
    pub fn half(&self) -> usize {
        self.half
    }

    /// Adds a command, which `encode` appends. Whether it is time to write.
    pub fn add(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        encode(&mut self.commands);
        self.buffered += 1;
        self.buffered == self.half
    }

    /// Sends what there is.
    pub fn write(&mut self, send: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        if self.buffered > 0 {
            send(&self.commands)?;
            self.commands.clear();
            self.in_flight += mem::take(&mut self.buffered);
        }
        Ok(())
    }

    /// Reads answers until at most this many are left.
    pub fn confirm(&mut self, leave: usize, mut answer: impl FnMut() -> Result<()>) -> Result<()> {
        while self.in_flight > leave {
            answer()?;
            self.in_flight -= 1;
        }
        Ok(())
    }
}
