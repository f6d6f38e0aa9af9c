//! The processes on stage, and what their logs show.

use std::time::{Duration, Instant};

use super::Narrator;
use super::evidence::Evidence;
use super::part::log_path;
use super::stage::{Player, Stage, failed};
use crate::exit::Failure;
use crate::signals::Stop;

/// Between two looks at the logs.
const LOOK: Duration = Duration::from_millis(1);

/// Without any news for this long, what has not been delivered is lost.
const PATIENCE: Duration = Duration::from_secs(8);

/// About how long two workers should have to do, and the longest that one order takes.
const PLAYTIME: Duration = Duration::from_millis(2_500);
const SLOWEST: Duration = Duration::from_millis(20);

pub(super) struct Company<'a> {
    stage: &'a Stage,
    stop: &'a Stop,
    narrator: &'a Narrator,
    pub(super) evidence: Evidence,
    /// How many records there were when there last were more, and when that was.
    news: (u64, Instant),
    /// By number, order services and workers; `None` is dead.
    pub(super) players: Vec<Option<Player>>,
}

impl<'a> Company<'a> {
    pub(super) fn new(stage: &'a Stage, stop: &'a Stop, narrator: &'a Narrator) -> Company<'a> {
        let (evidence, news, players) = (Evidence::new(), (0, Instant::now()), Vec::new());
        Company { stage, stop, narrator, evidence, news, players }
    }

    /// Starts an order service and workers, and waits until these are at work. The service's number.
    pub(super) fn enter(&mut self, workers: usize, orders: usize) -> Result<usize, Failure> {
        let cook = SLOWEST.min(PLAYTIME * 2 / orders as u32);
        let service = self.players.len();
        self.start("demo-service", Duration::ZERO)?;
        for _ in 0..workers {
            self.start("demo-worker", cook)?;
        }
        let ready = self.evidence.ready + workers;
        self.until(|evidence| (evidence.ready == ready).then_some(()))?;
        Ok(service)
    }

    fn start(&mut self, part: &str, cook: Duration) -> Result<(), Failure> {
        let number = self.players.len();
        self.players.push(Some(self.stage.start(part, number, cook)?));
        self.evidence.add(&log_path(self.stage.dir(), number))
    }

    /// Sends a line to one of them.
    pub(super) fn tell(&mut self, number: usize, line: &str) -> Result<(), Failure> {
        self.players[number].as_mut().map_or(Ok(()), |player| player.tell(line))
    }

    /// Reads the logs until they show something; `None` if there is no news for too long.
    pub(super) fn until<T>(
        &mut self,
        mut shows: impl FnMut(&mut Evidence) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        loop {
            self.evidence.read()?;
            self.narrator.bar.set_position(self.evidence.delivered);
            if let Some(shown) = shows(&mut self.evidence) {
                return Ok(Some(shown));
            }
            if self.stop.asked() {
                return Err(Failure::Interrupted);
            }
            for player in self.players.iter_mut().flatten() {
                if let Some(status) = player.ended()? {
                    return Err(failed(&player.name, status));
                }
            }
            if self.evidence.records > self.news.0 {
                self.news = (self.evidence.records, Instant::now());
            } else if self.news.1.elapsed() > PATIENCE {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Kills all at once, and reads what they still wrote. How many there were.
    pub(super) fn kill_all(&mut self) -> Result<usize, Failure> {
        for player in self.players.iter().flatten() {
            player.strike()?;
        }
        let mut killed = 0;
        for player in self.players.iter_mut().filter_map(Option::take) {
            killed += 1;
            // Waits for its end.
            drop(player);
        }
        self.evidence.read()?;
        Ok(killed)
    }

    /// Sends everyone home, and reads what they still wrote.
    pub(super) fn dismiss(&mut self) -> Result<(), Failure> {
        for player in self.players.iter_mut().filter_map(Option::take) {
            player.dismiss()?;
        }
        self.evidence.read()
    }

    pub(super) fn say(&self, line: &str) -> Result<(), Failure> {
        self.narrator.say(line)
    }
}
