//! The file system as the store uses it: a thin seam, so that tests can make it fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// What the store is about to do to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    #[cfg(test)]
    Write,
    Sync,
    SyncDir,
    Rename,
    Remove,
    /// An LMDB transaction is about to commit.
    Commit,
    /// An LMDB transaction has just committed.
    Committed,
}

/// Does what it is told to the file system.
#[derive(Clone, Default)]
pub(super) struct Files {
    #[cfg(test)]
    pub faults: Option<std::sync::Arc<super::faults::Faults>>,
}

/// Zeros are written in pieces of this length.
const ZEROS: usize = 1 << 20;

impl Files {
    /// Lets a test refuse the operation.
    pub(super) fn gate(&self, op: Op) -> io::Result<()> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return faults.check(op);
        }
        let _ = op;
        Ok(())
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.gate(Op::Create)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    /// Writes all of `bytes` at `offset`.
    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            return faults.write(file, bytes, offset);
        }
        write_all_at(file, bytes, offset)
    }

    /// Writes zeros over `from..to`.
    pub(super) fn zero(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS.min((to - from) as usize)];
        let mut at = from;
        while at < to {
            let len = zeros.len().min((to - at) as usize);
            self.write_at(file, &zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }

    /// Makes the contents durable.
    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.gate(Op::Sync)?;
        file.sync_data()?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.synced(file);
        }
        Ok(())
    }

    /// Makes the contents and the length durable.
    pub(super) fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync(file)?;
        file.sync_all()
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate(Op::Rename)?;
        std::fs::rename(from, to)
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate(Op::Remove)?;
        std::fs::remove_file(path)
    }

    /// Makes names in a directory durable. Windows does so by itself.
    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.gate(Op::SyncDir)?;
        #[cfg(unix)]
        File::open(path)?.sync_all()?;
        #[cfg(not(unix))]
        let _ = path;
        Ok(())
    }
}

#[cfg(unix)]
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let written = file.seek_write(bytes, offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

#[cfg(windows)]
pub(super) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        let read = file.seek_read(bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}
