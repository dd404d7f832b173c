//! SQLite: one writer thread with group commit, a few reader threads.

use std::path::Path;

use crate::{Error, Migration, Tx};

/// Cheap to clone.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Opens or makes the database file and applies the migrations that it lacks.
    pub fn open(_file: &Path, _migrations: &[&[Migration]]) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Runs the closure in a write transaction; `Ok` is durable. The closure may run more than once and
    /// must have no effect but through `tx`. An `Err` from it rolls its changes back and is returned.
    pub async fn write<T, E, F>(&self, _work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        unimplemented!()
    }

    /// Runs the closure in a read transaction: one consistent snapshot.
    pub async fn read<T, E, F>(&self, _work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        unimplemented!()
    }
}
