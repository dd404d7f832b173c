//! How much of the disk layers may take, all together.
//!
//! A layer that comes whole says what it takes as it is unpacked, one that comes in parts at once, as if all of it were there. What is
//! not kept gives back what it took.

use std::io::{self, Read};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Error, limits};

/// The room of a store.
pub(crate) struct Room {
    most: u64,
    used: Mutex<u64>,
}

impl Room {
    pub(crate) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { most, used: Mutex::new(0) })
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// Counts what was there when the server started, however much that is.
    pub(crate) fn set(&self, bytes: u64) {
        *self.used.lock() = bytes;
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(bytes);
    }

    /// Room for something that is on its way: none yet.
    pub(crate) fn taken(self: &Arc<Self>) -> Taken {
        Taken { room: Arc::clone(self), bytes: 0 }
    }
}

/// Room that something on its way has taken.
pub(crate) struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Taken {
    /// Takes more.
    pub(crate) fn more(&mut self, bytes: u64) -> Result<(), Error> {
        let mut used = self.room.used.lock();
        let all = used.saturating_add(bytes);
        if all > self.room.most {
            let most = self.room.most >> 30;
            return Err(Error::Room(format!(
                "the server's images take {most} GiB, which is all that they may: remove functions that have images, or \
                 start the server with a larger --images-gb"
            )));
        }
        *used = all;
        self.bytes += bytes;
        Ok(())
    }

    /// It is there, and takes so much for good.
    pub(crate) fn keep(mut self, bytes: u64) {
        let mut used = self.room.used.lock();
        *used = used.saturating_sub(self.bytes).saturating_add(bytes);
        drop(used);
        self.bytes = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

/// Reads what is to be written, as long as there is room for it.
pub(crate) struct Paying<'a, R> {
    inner: R,
    taken: &'a mut Taken,
    left: u64,
}

impl<'a, R: Read> Paying<'a, R> {
    pub(crate) fn new(inner: R, taken: &'a mut Taken) -> Self {
        Self { inner, taken, left: 0 }
    }
}

impl<R: Read> Read for Paying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        while self.left < count as u64 {
            self.taken.more(limits::ROOM_STEP).map_err(Error::into_io)?;
            self.left += limits::ROOM_STEP;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let step = limits::ROOM_STEP;
        let room = Room::new(3 * step);
        let mut one = room.taken();
        io::copy(&mut Paying::new(io::repeat(0).take(step + 1), &mut one), &mut io::sink()).unwrap();
        assert_eq!(room.used(), 2 * step);
        let mut two = room.taken();
        let error = io::copy(&mut Paying::new(io::repeat(0).take(step + 1), &mut two), &mut io::sink());
        let error = Error::unwrap_from(error.unwrap_err()).unwrap();
        assert!(matches!(&error, Error::Room(text) if text.contains("--images-gb")), "{error}");
        drop(two);
        assert_eq!(room.used(), 2 * step);
        one.keep(5);
        assert_eq!(room.used(), 5);
        room.give_back(5);
        assert_eq!(room.used(), 0);
    }
}
