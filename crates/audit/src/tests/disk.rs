//! A disk that fails on command.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use crate::disk::{Disk, DiskFile, RealDisk};

/// What is wrong with the disk now.
#[derive(Default)]
pub(super) struct Faults {
    /// Bytes that still fit; `None` for plenty.
    pub(super) room: Option<usize>,
    pub(super) sync_fails: bool,
    pub(super) truncate_fails: bool,
    pub(super) create_fails: bool,
    /// Syncs wait until this is false.
    pub(super) stalled: bool,
    pub(super) syncs: u64,
    /// Syncs that wait now.
    pub(super) waiting: u64,
}

/// Shared by the test and the disk.
#[derive(Clone, Default)]
pub(super) struct Control(Arc<(Mutex<Faults>, Condvar)>);

impl Control {
    pub(super) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.0.lock().unwrap().syncs
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.0.0.lock().unwrap().waiting > 0
    }

    /// Takes room; says how many bytes fit.
    fn take(&self, bytes: usize) -> usize {
        let mut faults = self.0.0.lock().unwrap();
        match &mut faults.room {
            None => bytes,
            Some(room) => {
                let fits = bytes.min(*room);
                *room -= fits;
                fits
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut faults = self.0.0.lock().unwrap();
        faults.waiting += 1;
        let mut faults = self.0.1.wait_while(faults, |faults| faults.stalled).unwrap();
        faults.waiting -= 1;
        faults.syncs += 1;
        if faults.sync_fails { Err(io::Error::other("input/output error")) } else { Ok(()) }
    }
}

pub(super) struct FaultyDisk(pub(super) Control);

struct FaultyFile {
    file: Box<dyn DiskFile>,
    control: Control,
}

impl FaultyDisk {
    fn wrap(&self, file: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FaultyFile { file: file?, control: self.0.clone() }))
    }
}

impl Disk for FaultyDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.0.0.0.lock().unwrap().create_fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.wrap(RealDisk.create(path))
    }

    fn open(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.wrap(RealDisk.open(path))
    }

    fn probe(&mut self, path: &Path) -> io::Result<()> {
        let fits = {
            let faults = self.0.0.0.lock().unwrap();
            faults.room.is_none_or(|room| room >= 64 << 10)
        };
        if !fits {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.sync()?;
        RealDisk.probe(path)
    }
}

impl DiskFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = self.control.take(bytes.len());
        // Like the kernel: what fits is written.
        self.file.append(&bytes[..fits])?;
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.control.sync()?;
        self.file.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if self.control.0.0.lock().unwrap().truncate_fails {
            return Err(io::Error::other("input/output error"));
        }
        self.file.truncate(length)
    }
}
