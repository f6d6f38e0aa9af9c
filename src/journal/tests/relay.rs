//! One writer dies, another one that was alive all the time takes over and dies too, and then the power goes:
//! each at every call.

use super::super::{Durability, JournalError, LogOptions, Tail, Writer, read};
use crate::journal::simulated::{Disk, Fault};

const STORE: [u8; 16] = *b"a relay of dying";
const OPTIONS: LogOptions = LogOptions { segment_len: 64 << 10, spares: 1 };

type Step = fn(&mut Writer<Disk>, Tail) -> Result<(), JournalError>;

fn recycle(writer: &mut Writer<Disk>, tail: Tail) -> Result<(), JournalError> {
    writer.recycle_below(tail.segment).map(|_| ())
}

fn recycle_one(writer: &mut Writer<Disk>, tail: Tail) -> Result<(), JournalError> {
    writer.recycle_below(tail.segment - 2).map(|_| ())
}

fn next_segment(writer: &mut Writer<Disk>, tail: Tail) -> Result<(), JournalError> {
    writer.next_segment(tail).map(|_| ())
}

/// A log of four segments that has no place left, with a record in each.
fn full_log() -> (Disk, Tail) {
    let disk = Disk::new(1);
    let (mut writer, mut tail) = Writer::create(disk.clone(), OPTIONS, STORE).expect("create");
    for segment in 1..=4 {
        writer.reserve(1, 0, segment, 0, Writer::<Disk>::largest_body(&OPTIONS)).expect("room").fill(1);
        tail = writer.commit(Durability::Synced).expect("commit");
        if segment < 4 {
            tail = writer.next_segment(tail).expect("next segment");
        }
    }
    (disk, tail)
}

/// Has the writer die at this call of the step: `false` if it has fewer.
fn die_in(disk: &Disk, step: Step, writer: &mut Writer<Disk>, tail: Tail, call: u64) -> bool {
    disk.fail_call(disk.calls() + call, Fault::Die);
    let done = step(writer, tail);
    let died = disk.is_dead();
    assert!(died || done.is_ok(), "{done:?}");
    disk.revive();
    died
}

#[test]
fn two_deaths_and_a_power_cut_lose_nothing() {
    let (full, tail) = full_log();
    let writer_on = |disk: &Disk| Writer::resume(disk.clone(), OPTIONS, STORE).expect("resume");
    let mut runs = 0;
    let steps: [(Step, Step, u64); 5] = [
        (recycle, recycle, 10),
        (recycle_one, recycle, 3),
        (recycle, next_segment, 2),
        (next_segment, recycle, 2),
        (next_segment, next_segment, 2),
    ];
    for (first, second, seeds) in steps {
        for first_call in 1.. {
            let mut died = false;
            for second_call in 1.. {
                let mut again = false;
                for seed in 0..seeds {
                    let disk = full.copy(runs << 8 | seed);
                    died = die_in(&disk, first, &mut writer_on(&disk), tail, first_call);
                    again = die_in(&disk, second, &mut writer_on(&disk), tail, second_call);
                    disk.cut();
                    let mut lsns = Vec::new();
                    let found = read(&disk, Some(STORE), &mut |entry| lsns.push(entry.lsn));
                    let found = found.unwrap_or_else(|error| panic!("{first_call}, {second_call}: {error}"));
                    let first_lsn = found.segments[0].first_lsn;
                    assert_eq!((lsns, found.tail.lsn), ((first_lsn..tail.lsn).collect(), tail.lsn));
                }
                runs += 1;
                if !again {
                    break;
                }
            }
            if !died {
                break;
            }
        }
    }
    assert!(runs > 100);
}
