//! The simulated disk: one directory that loses whatever it may lose.
//!
//! What processes see and what would be there after a power cut are two things. A write changes the first, and
//! each sector of 512 bytes that it touches gets one more *version* that a cut may or may not leave behind;
//! a sync makes the last versions the only ones. Names are kept in the same way: a cut does any of the
//! operations since the last sync of the directory, and not the others.
//!
//! One call can be told to go wrong ([`Fault`]). All that is random comes from the seed.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use inode::{Inode, sectors};

use super::Storage;

mod inode;

/// Numbers that look random, the same for the same seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// From 0 to less than this.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies in it; what it was to do was done, or not, or in part. All calls fail until
    /// [`Disk::revive`] or [`Disk::cut`].
    Die,
    /// EIO. What it was to do was done in part, and the rest can be tried again.
    Error,
    /// EIO from a sync, and all that it was to make durable is taken for clean: it is seen until the cache is
    /// dropped, and is never written. Other calls: as `Error`.
    ErrorAndLost,
    /// ENOSPC, from the calls that take place.
    NoSpace,
    /// Fewer bytes than asked for, from reads and writes.
    Short,
}

/// A change of names.
#[derive(Debug, Clone)]
enum Change {
    Added(String, usize),
    Renamed(String, String, usize),
    Removed(String, usize),
}

type Names = BTreeMap<String, usize>;

impl Change {
    /// Does it, if the names are such that it can be done.
    fn apply(&self, names: &mut Names) {
        match self {
            Change::Added(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Change::Renamed(from, to, inode) if names.get(from) == Some(inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Change::Removed(name, inode) if names.get(name) == Some(inode) => {
                names.remove(name);
            }
            Change::Renamed(..) | Change::Removed(..) => {}
        }
    }
}

struct State {
    random: Random,
    inodes: Vec<Inode>,
    names: Names,
    durable_names: Names,
    changes: Vec<Change>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    /// Short reads and writes now and then, without a fault.
    fickle: bool,
    dead: bool,
}

impl State {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    /// Does any of the changes of names, in their order.
    fn change_some(&mut self, kept: u64) {
        let changes = std::mem::take(&mut self.changes);
        for change in changes {
            if self.random.percent(kept) {
                change.apply(&mut self.durable_names);
            }
        }
    }

    fn inode_of(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| os_error(libc::ENOENT))
    }
}

fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// The disk. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Disk(Rc<RefCell<State>>);

impl Disk {
    pub(crate) fn new(seed: u64) -> Disk {
        let random = Random::new(seed);
        let (names, durable_names) = (Names::new(), Names::new());
        let (inodes, changes) = (Vec::new(), Vec::new());
        let (calls, fault, fickle, dead) = (0, None, false, false);
        let state = State { random, inodes, names, durable_names, changes, calls, fault, fickle, dead };
        Disk(Rc::new(RefCell::new(state)))
    }

    /// Has reads and writes be short now and then.
    pub(crate) fn be_fickle(&self) {
        self.0.borrow_mut().fickle = true;
    }

    /// How many calls there have been.
    pub(crate) fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    /// Has the call of this number go wrong; the first one is number 1.
    pub(crate) fn fail_call(&self, number: u64, fault: Fault) {
        self.0.borrow_mut().fault = Some((number, fault));
    }

    /// Whether a fault is still to come.
    pub(crate) fn is_fault_ahead(&self) -> bool {
        self.0.borrow().fault.is_some()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// Another process goes on.
    pub(crate) fn revive(&self) {
        let mut state = self.0.borrow_mut();
        state.dead = false;
        state.fault = None;
    }

    /// The power goes, and comes back.
    pub(crate) fn cut(&self) {
        self.revive();
        let state = &mut *self.0.borrow_mut();
        let kept = [0, 30, 50, 70, 100][state.random.below(5) as usize];
        state.change_some(kept);
        let kept = [0, 10, 50, 90, 100][state.random.below(5) as usize];
        for inode in &mut state.inodes {
            inode.cut(kept, &mut state.random);
        }
        state.names = state.durable_names.clone();
    }

    /// Flips one bit of a file, for good.
    pub(crate) fn flip(&self, name: &str, at: usize, bit: u8) {
        let state = &mut *self.0.borrow_mut();
        let inode = &mut state.inodes[state.names[name]];
        inode.view[at] ^= 1 << bit;
        inode.disk[at] = inode.view[at];
    }

    /// What processes see of a file.
    pub(crate) fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.0.borrow();
        state.inodes[state.names[name]].view.clone()
    }

    /// Makes all durable, and another disk with the same on it.
    pub(crate) fn copy(&self, seed: u64) -> Disk {
        let copy = Disk::new(seed);
        let state = self.0.borrow();
        for (inode, name) in state.names.keys().enumerate() {
            let bytes = &state.inodes[state.names[name]].view;
            let file = Inode::durable(bytes);
            let mut other = copy.0.borrow_mut();
            other.inodes.push(file);
            other.names.insert(name.clone(), inode);
            other.durable_names.insert(name.clone(), inode);
        }
        copy
    }

    /// One more call: what is to go wrong with it.
    fn call(&self) -> io::Result<(RefMut<'_, State>, Option<Fault>)> {
        let mut state = self.0.borrow_mut();
        if state.dead {
            return Err(io::Error::other("the process is dead"));
        }
        state.calls += 1;
        let fault = match state.fault {
            Some((number, fault)) if number == state.calls => {
                state.fault = None;
                Some(fault)
            }
            _ => None,
        };
        state.dead = fault == Some(Fault::Die);
        Ok((state, fault))
    }

    /// A call that is done whole or not at all.
    fn whole<T>(&self, takes_place: bool, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let (mut state, fault) = self.call()?;
        match fault {
            None | Some(Fault::Short) => act(&mut state),
            Some(Fault::NoSpace) if !takes_place => act(&mut state),
            Some(Fault::NoSpace) => Err(os_error(libc::ENOSPC)),
            Some(Fault::Die | Fault::Error | Fault::ErrorAndLost) => {
                if state.random.percent(50) {
                    act(&mut state)?;
                }
                Err(os_error(libc::EIO))
            }
        }
    }

    /// A write: what is written of it, into the cache and, if it is to be durable, onto the disk.
    fn write(&self, inode: usize, bytes: &[u8], at: u64, durably: bool) -> io::Result<usize> {
        let (mut state, fault) = self.call()?;
        let State { inodes, random, fickle, .. } = &mut *state;
        let inode = &mut inodes[inode];
        let at = at as usize;
        let part = random.below(bytes.len() as u64 + 1) as usize;
        match fault {
            None | Some(Fault::Short) => {
                let short = fault.is_some() || *fickle && random.percent(10);
                let len = if short { part.max(1).min(bytes.len()) } else { bytes.len() };
                inode.write(&bytes[..len], at);
                if durably {
                    inode.sync_len();
                    sectors(at, len).for_each(|sector| inode.sync_sector(sector));
                }
                Ok(len)
            }
            Some(Fault::NoSpace) => {
                inode.write(&bytes[..part], at);
                Err(os_error(libc::ENOSPC))
            }
            Some(Fault::Die | Fault::Error | Fault::ErrorAndLost) => {
                inode.write(&bytes[..part], at);
                if durably {
                    let touched: Vec<_> = sectors(at, part).collect();
                    inode.sync_badly(&touched, fault == Some(Fault::ErrorAndLost), random);
                }
                Err(os_error(libc::EIO))
            }
        }
    }
}

impl Storage for Disk {
    type File = usize;

    fn list(&self) -> io::Result<Vec<String>> {
        self.whole(false, |state| Ok(state.names.keys().cloned().collect()))
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.whole(false, |state| state.inode_of(name))
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.whole(true, |state| {
            if state.names.contains_key(name) {
                return Err(os_error(libc::EEXIST));
            }
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.change(Change::Added(name.to_owned(), inode));
            Ok(inode)
        })
    }

    fn allocate(&self, file: &usize, len: u64) -> io::Result<()> {
        self.whole(true, |state| {
            state.inodes[*file].set_len(len as usize);
            Ok(())
        })
    }

    fn len(&self, file: &usize) -> io::Result<u64> {
        self.whole(false, |state| Ok(state.inodes[*file].view.len() as u64))
    }

    fn write_at(&self, file: &usize, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.write(*file, bytes, at, false)
    }

    fn write_durably(&self, file: &usize, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.write(*file, bytes, at, true)
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let (mut state, fault) = self.call()?;
        let State { inodes, random, .. } = &mut *state;
        let inode = &mut inodes[*file];
        match fault {
            None | Some(Fault::Short) => {
                inode.sync();
                Ok(())
            }
            Some(fault) => {
                let dirty: Vec<_> = inode.versions.keys().copied().collect();
                inode.sync_badly(&dirty, fault == Fault::ErrorAndLost, random);
                Err(os_error(if fault == Fault::NoSpace { libc::ENOSPC } else { libc::EIO }))
            }
        }
    }

    fn read_at(&self, file: &usize, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let (mut state, fault) = self.call()?;
        let State { inodes, random, fickle, .. } = &mut *state;
        let there = inodes[*file].view.get(at as usize..).unwrap_or_default();
        let mut len = there.len().min(buffer.len());
        match fault {
            Some(Fault::Die | Fault::Error | Fault::ErrorAndLost) => return Err(os_error(libc::EIO)),
            Some(Fault::Short) => len = len.min(1 + random.below(len as u64) as usize),
            _ if *fickle && random.percent(10) => len = len.min(1 + random.below(len as u64) as usize),
            _ => {}
        }
        buffer[..len].copy_from_slice(&there[..len]);
        Ok(len)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole(true, |state| {
            let inode = state.inode_of(from)?;
            state.change(Change::Renamed(from.to_owned(), to.to_owned(), inode));
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.whole(false, |state| {
            let inode = state.inode_of(name)?;
            state.change(Change::Removed(name.to_owned(), inode));
            Ok(())
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        let (mut state, fault) = self.call()?;
        match fault {
            None | Some(Fault::Short) => {
                state.change_some(100);
                Ok(())
            }
            Some(fault) => {
                // The first ones may be durable all the same. No others are lost: where names cannot be
                // written, file systems stop.
                let pending = state.changes.len() as u64;
                let done = state.random.below(pending + 1) as usize;
                let rest = state.changes.split_off(done);
                state.change_some(100);
                state.changes = rest;
                Err(os_error(if fault == Fault::NoSpace { libc::ENOSPC } else { libc::EIO }))
            }
        }
    }

    fn forget_cache(&self, file: &usize) {
        self.0.borrow_mut().inodes[*file].forget();
    }

    fn will_read(&self, _: &usize, _: u64, _: u64) {}

    fn random(&self) -> u64 {
        self.0.borrow_mut().random.next()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated").join(name)
    }
}
