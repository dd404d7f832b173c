//! Memory files that nobody can change any more, whoever holds them: what the server hands to workers.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// What a file is for.
#[derive(Clone, Copy)]
pub(crate) enum Holds {
    /// Code, to be mapped and run.
    Code,
    /// What is only read.
    Data,
}

/// A file of these bytes.
pub(crate) fn file(holds: Holds, bytes: &[u8]) -> io::Result<OwnedFd> {
    // `MFD_EXEC` and `MFD_NOEXEC_SEAL`, which older kernels do not know and do not need.
    let (name, kind) = match holds {
        Holds::Code => ("code", MemfdFlags::from_bits_retain(0x10)),
        Holds::Data => ("data", MemfdFlags::from_bits_retain(0x8)),
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags | kind).or_else(|error| match error {
        Errno::INVAL => rustix::fs::memfd_create(name, flags),
        other => Err(other),
    })?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// All of it, wherever others who hold the same file have read to.
pub(crate) fn read(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_changes_it() {
        for holds in [Holds::Code, Holds::Data] {
            let mut file = File::from(file(holds, b"as it is").unwrap());
            assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
            assert_eq!(read(&file).unwrap(), b"as it is");
            assert_eq!(read(&file).unwrap(), b"as it is");
        }
    }
}
