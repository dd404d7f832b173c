//! One statement on a connection: parameters by name, values in and out, and death after the first error.
//!
//! SQLite reads `$1` as a name and numbers names by their first appearance, so `$2 … $1` bound by position
//! would swap them silently. Parameters are therefore looked up by name.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ErrorCode, ToSql};

use crate::limits::MAX_TRANSACTION_BYTES;
use crate::{Error, Row, Tx, Value};

/// A transaction on a connection that somebody else begins and ends.
pub(crate) struct ConnectionTx<'a> {
    connection: &'a Connection,
    dead: bool,
    bytes: usize,
    disk_full: bool,
}

impl<'a> ConnectionTx<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, dead: false, bytes: 0, disk_full: false }
    }

    /// Whether a statement has failed.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    /// Bytes of all parameters so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the failure was a full disk.
    pub(crate) fn disk_full(&self) -> bool {
        self.disk_full
    }

    fn alive<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.dead {
            return Err(Error::Dead);
        }
        work(self).inspect_err(|error| {
            self.dead = true;
            self.disk_full = matches!(error, Error::Database(e) if is_disk_full(e));
        })
    }

    fn prepared(&mut self, sql: &str, params: &[Value]) -> Result<CachedStatement<'a>, Error> {
        refuse_control(sql)?;
        self.bytes += params.iter().map(size).sum::<usize>();
        if self.bytes > MAX_TRANSACTION_BYTES {
            return Err(Error::TooLarge(MAX_TRANSACTION_BYTES));
        }
        let mut statement = self.connection.prepare_cached(sql)?;
        bind(&mut statement, params)?;
        Ok(statement)
    }
}

impl Tx for ConnectionTx<'_> {
    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Error> {
        self.alive(|tx| Ok(tx.prepared(sql, params)?.raw_execute()? as u64))
    }

    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, Error> {
        self.alive(|tx| {
            let mut statement = tx.prepared(sql, params)?;
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut result = Vec::new();
            while let Some(row) = rows.next()? {
                let values = (0..columns).map(|column| value(row.get_ref(column)?, column));
                result.push(Row(values.collect::<Result<_, _>>()?));
            }
            Ok(result)
        })
    }
}

/// Whether the database says that the disk is full: nothing was lost, so it may be tried again.
pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// The transaction belongs to the store: a closure that ended it would take others' changes with it.
fn refuse_control(sql: &str) -> Result<(), Error> {
    const CONTROL: [&str; 11] = [
        "BEGIN",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "PRAGMA",
        "ATTACH",
        "DETACH",
        "VACUUM",
        "EXPLAIN",
    ];
    let start = sql.trim_start();
    let word = start.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    if word.is_empty() || CONTROL.iter().any(|control| word.eq_ignore_ascii_case(control)) {
        return Err(Error::Statement(format!("{word:?} may not begin one inside a transaction")));
    }
    Ok(())
}

fn bind(statement: &mut CachedStatement<'_>, params: &[Value]) -> Result<(), Error> {
    let expected = statement.parameter_count();
    if expected != params.len() {
        return Err(Error::Statement(format!("it has {expected} parameters, {} were given", params.len())));
    }
    for index in 1..=expected {
        let number = statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$'))
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|number| (1..=params.len()).contains(number))
            .ok_or_else(|| Error::Statement("parameters are $1, $2, … without gaps".into()))?;
        statement.raw_bind_parameter(index, Bound(&params[number - 1]))?;
    }
    Ok(())
}

struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Int(_) => 8,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    }
}

fn value(found: ValueRef<'_>, column: usize) -> Result<Value, Error> {
    Ok(match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(_) => return Err(Error::Column { column, problem: "a floating-point number" }),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => return Err(Error::Column { column, problem: "not UTF-8" }),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}
