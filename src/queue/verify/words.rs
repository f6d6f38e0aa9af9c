//! The header, the queue's words, roles, records, groups and notes.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::{Look, expect, standing};
use crate::delivery::policy::MAX_DELIVERIES_MAX;
use crate::layout::header::{Header, QUEUE_MAGIC, at};
use crate::layout::queue::{GroupWords, group};
use crate::layout::{ATTACHMENTS, NAME_MAX, PAGE};
use crate::memory::Memory;
use crate::queue::admin::ADMIN_BYTE;
use crate::queue::attach::{Role, Who};
use crate::queue::core::QueueCore;
use crate::queue::groups::{BACKOFF_MAX, name_of};
use crate::ring::repair::find_tail;
use crate::sys::files::check_name;
use crate::sys::lock;

/// How far ahead a clock reading of another process may be, in milliseconds.
pub(super) const CLOCK_SLACK_MS: u64 = 1000;

impl QueueCore {
    /// Whether the file is shorter than what is mapped of it.
    pub(super) fn cut_short(&self) -> Option<String> {
        let expected = self.mapped.plan().file_len;
        match self.mapped.file().metadata() {
            Ok(metadata) if metadata.len() >= expected => None,
            Ok(metadata) => Some(format!(
                "found a length of {} bytes, expected {expected}: close all that use the queue, and remove it",
                metadata.len()
            )),
            Err(error) => Some(format!("it cannot be looked at: {error}")),
        }
    }
}

impl Look<'_> {
    pub(super) fn header(&self) -> Option<String> {
        let file = self.queue.mapped.file();
        let mut page = vec![0; PAGE as usize];
        let read = file.metadata().and_then(|metadata| {
            file.read_exact_at(&mut page, 0)?;
            Ok(metadata.len())
        });
        let header = match read {
            Ok(len) => Header::decode(&page, QUEUE_MAGIC, len, self.queue.name.as_ref()),
            Err(error) => return Some(format!("it cannot be read: {error}")),
        };
        let header = match header {
            Ok(header) => header,
            Err(error) => return Some(error.to_string()),
        };
        let geometry = *self.queue.mapped.geometry();
        expect(header.geometry() == geometry, header.geometry(), format!("{geometry:?}"))
            .or_else(|| expect(header.store_id == self.store.id, "another store's id", "this store's"))
            .or_else(|| {
                let rest = page[at::END..].iter().all(|&byte| byte == 0);
                expect(rest, "something behind the header", "zeros to the end of its page")
            })
    }

    pub(super) fn queue_words(&self) -> Option<String> {
        let words = self.queue.mapped.words();
        // The hint first: the tail does not go back.
        let hint = words.tail.load(Acquire);
        let tail = find_tail(&self.queue.mapped);
        let groups = self.queue.mapped.geometry().max_groups;
        let beyond = if groups < 64 { u64::MAX << groups } else { 0 };
        let (active, sleepers) = (words.active.load(Acquire), words.sleepers.load(Acquire));
        let swept_ms = words.swept_ms.load(Acquire);
        let latest = self.now_ms + CLOCK_SLACK_MS;
        expect(hint <= tail, format_args!("the tail hint {hint}"), format!("at most the tail, {tail}"))
            .or_else(|| {
                let found = format_args!("the active groups {active:#x}");
                expect(active & beyond == 0, found, format!("none beyond the {groups} there can be"))
            })
            .or_else(|| {
                let found = format_args!("the groups with sleepers {sleepers:#x}");
                expect(sleepers & beyond == 0, found, format!("none beyond the {groups} there can be"))
            })
            .or_else(|| {
                let found = format_args!("the last sweep at {swept_ms} ms since boot");
                expect(swept_ms <= latest, found, format!("at most {latest}"))
            })
    }

    pub(super) fn role(&self, group: Option<u8>) -> Option<String> {
        let mapped = &self.queue.mapped;
        let (word, expected) = match group {
            None => (&mapped.words().producer_role, Role::Producer { exclusive: true }),
            Some(group) => (&mapped.group(group).role, Role::Consumer { group, exclusive: true }),
        };
        // The record is written before the role, and goes after it.
        let (bits, record) = standing(|| {
            let bits = word.load(Acquire);
            let index = (bits as u32 as usize).wrapping_sub(1) % ATTACHMENTS;
            (bits, mapped.attachment(index).who.load(Acquire))
        })?;
        if bits == 0 {
            return None;
        }
        let (owner, index) = (bits >> 32, (bits as u32 as usize).wrapping_sub(1));
        if index >= ATTACHMENTS {
            return expect(false, format_args!("{bits:#x}"), format!("a record below {ATTACHMENTS}"));
        }
        let holds = |who: Who| who.role == expected && u64::from(who.owner.index()) == owner;
        if !Who::decode(record).is_some_and(holds) {
            return Some(format!(
                "found participant {owner} with record {index}, expected that record to be its exclusive {}; found it to be {record:#x}",
                if group.is_none() { "producer" } else { "consumer" }
            ));
        }
        let other =
            self.queue.attachments().find(|(at, who)| *at != index && who.role.shares_ledger(expected));
        let other = other.map(|(at, who)| {
            format!("found participant {owner} with record {index}, expected no other; found record {at} of participant {}", who.owner.index())
        });
        other.or_else(|| self.owner(owner))
    }

    pub(super) fn record(&self, index: usize) -> Option<String> {
        let mapped = &self.queue.mapped;
        let state_of = |bits: u64| mapped.group((bits >> 24) as u8).state.load(Acquire);
        let (bits, state) = standing(|| {
            let bits = mapped.attachment(index).who.load(Acquire);
            (bits, state_of(bits))
        })?;
        if bits == 0 {
            return None;
        }
        let Some(who) = Who::decode(bits) else {
            return expect(false, format_args!("{bits:#x}"), "0, or a kind from 1 to 4");
        };
        if let Role::Consumer { group, .. } = who.role {
            let limit = mapped.geometry().max_groups;
            if u32::from(group) >= limit {
                return Some(format!("found group {group}, expected one of the {limit} there can be"));
            }
            if !matches!(state, group::ACTIVE | group::LEAVING) {
                return Some(format!("found a consumer of group {group}, expected that group to be in use"));
            }
        }
        self.owner(bits & 0xffff)
    }

    pub(super) fn group(&self, index: u8) -> Option<String> {
        let mapped = &self.queue.mapped;
        let words = mapped.group(index);
        let read = || (words.state.load(Acquire), mapped.words().active.load(Acquire) >> index & 1 == 1);
        let (state, active) = standing(read)?;
        match state {
            group::FREE => expect(!active, "its bit in the active groups", "none, as it is free"),
            group::FORMING | group::LEAVING if !self.is_administered() => Some(format!(
                "found it half {}, by a process that died: add or remove a group to clear it away",
                if state == group::FORMING { "made" } else { "removed" }
            )),
            group::FORMING => None,
            group::ACTIVE if !active => Some("found no bit in the active groups, expected one".to_owned()),
            group::ACTIVE | group::LEAVING => self.group_words(index, words),
            state => expect(false, format_args!("state {state}"), "0 to 3"),
        }
    }

    /// Whether somebody is making or removing a group. If that cannot be known: yes.
    fn is_administered(&self) -> bool {
        lock::write_locked(self.queue.mapped.file().as_fd(), ADMIN_BYTE).unwrap_or(true)
    }

    fn group_words(&self, index: u8, words: &GroupWords) -> Option<String> {
        let (head, start, birth) =
            (words.head.load(Acquire), words.start.load(Acquire), words.birth.load(Acquire));
        let tail = find_tail(&self.queue.mapped);
        let capacity = self.queue.mapped.capacity();
        let bounds = format!("{capacity} to the tail, {tail}");
        let within = |position: u64| (capacity..=tail).contains(&position);
        self.name(index, words)
            .or_else(|| expect(within(start), format_args!("the start {start}"), &bounds))
            .or_else(|| expect(within(birth), format_args!("the birth {birth}"), &bounds))
            .or_else(|| {
                expect(
                    start <= birth,
                    format_args!("the start {start}"),
                    format!("at most the birth, {birth}"),
                )
            })
            .or_else(|| expect(head <= tail, format_args!("the head hint {head}"), &bounds))
            .or_else(|| settings(words))
            .or_else(|| {
                let sweep_at = words.sweep_at.load(Relaxed);
                let expected = format!("less than {capacity}");
                expect(u64::from(sweep_at) < capacity, format_args!("the sweep at slot {sweep_at}"), expected)
            })
    }

    fn name(&self, index: u8, words: &GroupWords) -> Option<String> {
        let bytes: Vec<u8> = words.name.iter().map(|byte| byte.load(Relaxed)).collect();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(NAME_MAX);
        let name = String::from_utf8_lossy(&bytes[..end]);
        if let Err(error) = check_name(&name) {
            return Some(error.to_string());
        }
        let zeros = bytes[end..].iter().all(|&byte| byte == 0);
        let mut others = self.queue.groups_in_use().filter(|&other| other != index);
        expect(zeros, "something behind the name", "zeros").or_else(|| {
            let double = others.any(|other| name_of(self.queue.mapped.group(other)) == name);
            expect(!double, format_args!("the name {name}"), "one that no other group has")
        })
    }

    pub(super) fn note(&self, group: u8, index: u64) -> Option<String> {
        let note = self.queue.mapped.note(group, index);
        let (position, len) = standing(|| (note.position.load(Acquire), note.len.load(Relaxed)))?;
        if position == 0 {
            return None;
        }
        let (capacity, tail) = (self.queue.mapped.capacity(), find_tail(&self.queue.mapped));
        let room = note.text.len() as u64;
        expect(
            (capacity..tail).contains(&position),
            format_args!("position {position}"),
            format!("0, or one from {capacity} to before the tail, {tail}"),
        )
        .or_else(|| expect(len <= room, format_args!("a text of {len} bytes"), format!("at most {room}")))
    }
}

/// What is wrong with a group's settings.
fn settings(words: &GroupWords) -> Option<String> {
    let longest = BACKOFF_MAX.as_millis() as u64;
    let cap = words.backoff_cap_ms.load(Relaxed);
    let bounds = [
        ("max_deliveries", &words.max_deliveries, u64::from(MAX_DELIVERIES_MAX)),
        ("ordered", &words.ordered, 1),
        ("from_oldest", &words.from_oldest, 1),
        ("a backoff's cap in ms", &words.backoff_cap_ms, longest),
        ("a backoff's base in ms", &words.backoff_base_ms, cap.into()),
        ("a backoff's jitter in per cent", &words.backoff_jitter, 100),
    ];
    bounds.into_iter().find_map(|(what, word, most)| {
        let found = word.load(Relaxed);
        expect(u64::from(found) <= most, format_args!("{what} = {found}"), format!("at most {most}"))
    })
}
