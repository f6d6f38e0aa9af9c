//! SQLite: a table as a queue, in write-ahead mode.
//!
//! A row is inserted, leased by an `UPDATE … RETURNING` that gives it a deadline, and deleted. The consumer
//! deletes what it has done and leases more in one transaction. A database wakes nobody, so an idle consumer
//! asks again and again whether the file has changed.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rusqlite::{Connection, TransactionBehavior, params};
use tempfile::TempDir;

use super::pending::Outbox;
use super::server::Durability;
use super::{Broker, Line, Receiver, Sender, TICK};

/// How long a message stays with its consumer, in milliseconds.
const LEASE_MS: i64 = 30_000;

/// Tries for the lock that only give up the processor in between; further ones sleep.
const EAGER_TRIES: i32 = 200;

/// Tries for the lock after which it is an error: some 30 s.
const TRIES: i32 = 300_000;

/// A database file.
#[derive(Debug)]
pub struct Sqlite {
    _directory: TempDir,
    file: PathBuf,
    durability: Durability,
}

impl Sqlite {
    pub fn new(durability: Durability) -> Result<Sqlite> {
        let directory = durability.directory()?;
        let sqlite = Sqlite { file: directory.path().join("queue.db"), _directory: directory, durability };
        // The file remembers it. Two processes that do it at once find each other in the way.
        sqlite.open()?.pragma_update(None, "journal_mode", "wal")?;
        Ok(sqlite)
    }

    fn open(&self) -> Result<Connection> {
        let connection = Connection::open(&self.file).context("cannot open the database")?;
        connection.busy_handler(Some(be_patient))?;
        let sync = match self.durability {
            Durability::Volatile => "off",
            Durability::Durable => "full",
        };
        connection.pragma_update(None, "synchronous", sync)?;
        Ok(connection)
    }
}

/// Another connection holds the lock.
fn be_patient(tries: i32) -> bool {
    if tries < EAGER_TRIES {
        thread::yield_now();
    } else {
        thread::sleep(Duration::from_micros(100));
    }
    tries < TRIES
}

impl Broker for Sqlite {
    type Sender = Inserter;
    type Receiver = Leaser;

    fn receiver(&self, queue: Line<'_>) -> Result<Leaser> {
        let queue = queue.name;
        let connection = self.open()?;
        connection.execute_batch(&format!(
            "CREATE TABLE {queue} (id INTEGER PRIMARY KEY, leased INTEGER NOT NULL, payload BLOB NOT NULL)"
        ))?;
        let lease = format!(
            "UPDATE {queue} SET leased = ?1 WHERE id IN
             (SELECT id FROM {queue} WHERE leased <= ?2 ORDER BY id LIMIT ?3) RETURNING id, payload"
        );
        let delete = format!("DELETE FROM {queue} WHERE id = ?1 AND leased = ?2");
        Ok(Leaser { connection, lease, delete, held: Vec::new(), deadline: 0 })
    }

    fn sender(&self, queue: Line<'_>, window: usize) -> Result<Inserter> {
        let insert = format!("INSERT INTO {} (leased, payload) VALUES (0, ?1)", queue.name);
        Ok(Inserter { connection: self.open()?, insert, pending: Outbox::new(window) })
    }
}

/// A producer.
#[derive(Debug)]
pub struct Inserter {
    connection: Connection,
    insert: String,
    /// Wait for the transaction.
    pending: Outbox,
}

impl Sender for Inserter {
    fn send(&mut self, payload: &[u8]) -> Result<()> {
        if self.pending.add(payload) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if let [payload] = self.pending.messages() {
            self.connection.prepare_cached(&self.insert)?.execute([payload])?;
        } else {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut insert = transaction.prepare_cached(&self.insert)?;
            for payload in self.pending.messages() {
                insert.execute([payload])?;
            }
            drop(insert);
            transaction.commit()?;
        }
        self.pending.clear();
        Ok(())
    }
}

/// A consumer.
#[derive(Debug)]
pub struct Leaser {
    connection: Connection,
    lease: String,
    delete: String,
    /// Rows that were handed over and are not deleted yet.
    held: Vec<i64>,
    /// The deadline of their lease, which proves that they are still this consumer's.
    deadline: i64,
}

impl Leaser {
    /// Deletes what is held and leases up to `max` rows, in one transaction.
    fn turn(&mut self, max: usize) -> Result<Vec<Vec<u8>>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut delete = transaction.prepare_cached(&self.delete)?;
        for id in self.held.drain(..) {
            let deleted = delete.execute(params![id, self.deadline])?;
            anyhow::ensure!(deleted == 1, "the lease on row {id} was lost");
        }
        drop(delete);
        let mut payloads = Vec::new();
        if max > 0 {
            self.deadline = now + LEASE_MS;
            let mut lease = transaction.prepare_cached(&self.lease)?;
            let mut rows = lease.query(params![self.deadline, now, max as i64])?;
            while let Some(row) = rows.next()? {
                self.held.push(row.get(0)?);
                payloads.push(row.get(1)?);
            }
        }
        transaction.commit()?;
        Ok(payloads)
    }

    /// A number that changes when another connection commits.
    fn version(&self) -> Result<i64> {
        Ok(self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
    }
}

impl Receiver for Leaser {
    fn take(&mut self, max: usize, mut see: impl FnMut(&[u8])) -> Result<usize> {
        let start = Instant::now();
        loop {
            let version = self.version()?;
            let payloads = self.turn(max)?;
            for payload in &payloads {
                see(payload);
            }
            if max == 1 && !payloads.is_empty() {
                self.finish()?;
            }
            if !payloads.is_empty() || start.elapsed() > TICK {
                return Ok(payloads.len());
            }
            while self.version()? == version && start.elapsed() <= TICK {
                thread::yield_now();
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        if self.held.is_empty() { Ok(()) } else { self.turn(0).map(drop) }
    }
}
