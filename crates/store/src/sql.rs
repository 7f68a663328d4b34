//! One statement text for both engines: a statement with its values, and the rows that come back.

use std::borrow::Cow;

use jiff::Timestamp;
use skerry_types::{
    BuildId, FailureReason, KeyId, NodeId, OrgId, Profile, SandboxId, SandboxState, SnapshotId,
    TemplateId, VolumeId,
};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Postgres, Row as _, Sqlite, Type};
use uuid::Uuid;

use crate::error::{Result, StoreError};

/// A value for a placeholder. Each kind knows its type when it is NULL, which PostgreSQL wants to hear.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Id(Option<Uuid>),
    Int(Option<i64>),
    Text(Option<String>),
    Flag(Option<bool>),
    Bytes(Option<Vec<u8>>),
    Json(serde_json::Value),
}

macro_rules! values {
    ($($type:ty => $kind:ident, $value:ident => $into:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                Self::$kind(Some($into))
            }
        }

        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Self {
                Self::$kind(value.map(|$value| $into))
            }
        }
    )*};
}

values! {
    crate::page::Cursor => Id, cursor => cursor.uuid();
    OrgId => Id, id => id.uuid();
    KeyId => Id, id => id.uuid();
    NodeId => Id, id => id.uuid();
    SandboxId => Id, id => id.uuid();
    SnapshotId => Id, id => id.uuid();
    TemplateId => Id, id => id.uuid();
    VolumeId => Id, id => id.uuid();
    BuildId => Id, id => id.uuid();
    i64 => Int, n => n;
    u32 => Int, n => i64::from(n);
    uuid::Uuid => Id, id => id;
    Timestamp => Int, at => at.as_microsecond();
    String => Text, text => text;
    &str => Text, text => text.to_owned();
    SandboxState => Text, state => state.as_str().to_owned();
    FailureReason => Text, reason => reason.as_str().to_owned();
    Profile => Text, profile => profile.as_str().to_owned();
    bool => Flag, flag => flag;
    Vec<u8> => Bytes, bytes => bytes;
    [u8; 32] => Bytes, bytes => bytes.to_vec();
}

impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value)
    }
}

/// A statement with the values of its placeholders `$1`, `$2` …
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    pub(crate) text: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
    lock: &'static str,
}

/// A statement without values yet.
pub(crate) fn sql(text: &'static str) -> Sql {
    Sql {
        text: Cow::Borrowed(text),
        values: Vec::new(),
        lock: "",
    }
}

impl Sql {
    /// The value of the next placeholder.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// More text.
    pub(crate) fn push(mut self, text: &str) -> Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// A placeholder in the text, and its value.
    pub(crate) fn push_bind(self, value: impl Into<Value>) -> Self {
        let next = self.values.len() + 1;
        self.push(&format!("${next}")).bind(value)
    }

    /// Locks the rows that are read until the transaction ends. `SQLite` has one writer, whose transaction is lock enough.
    pub(crate) fn for_update(mut self) -> Self {
        self.lock = " FOR UPDATE";
        self
    }

    /// The same, and passes over rows that another transaction has locked.
    pub(crate) fn for_update_skip_locked(mut self) -> Self {
        self.lock = " FOR UPDATE SKIP LOCKED";
        self
    }

    /// The statement as PostgreSQL wants it.
    pub(crate) fn with_lock(self) -> Self {
        let lock = self.lock;
        if lock.is_empty() {
            self
        } else {
            self.push(lock)
        }
    }
}

/// Gives a statement of this engine its values.
macro_rules! bind_all {
    ($sql:expr, $text:expr) => {{
        let mut query = sqlx::query($text);
        for value in $sql.values {
            query = match value {
                $crate::sql::Value::Id(id) => query.bind(id),
                $crate::sql::Value::Int(n) => query.bind(n),
                $crate::sql::Value::Text(text) => query.bind(text),
                $crate::sql::Value::Flag(flag) => query.bind(flag),
                $crate::sql::Value::Bytes(bytes) => query.bind(bytes),
                $crate::sql::Value::Json(json) => query.bind(sqlx::types::Json(json)),
            };
        }
        query
    }};
}
pub(crate) use bind_all;

/// A row of either engine, read by column name.
#[derive(Debug)]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Pg(PgRow),
}

impl Row {
    /// The value of a column, or of an `Option` where it may be NULL.
    pub(crate) fn get<T>(&self, column: &'static str) -> Result<T>
    where
        T: for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> Decode<'r, Postgres>
            + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Pg(row) => row.try_get(column)?,
        })
    }

    /// A number that is never negative and fits.
    pub(crate) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T> {
        T::try_from(self.get::<i64>(column)?).map_err(|_| StoreError::BadValue { column })
    }

    /// The same, where there is one.
    pub(crate) fn count_opt<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>> {
        self.get::<Option<i64>>(column)?
            .map(T::try_from)
            .transpose()
            .map_err(|_| StoreError::BadValue { column })
    }

    /// A time.
    pub(crate) fn time(&self, column: &'static str) -> Result<Timestamp> {
        self.time_opt(column)?
            .ok_or(StoreError::BadValue { column })
    }

    /// A time, where there is one.
    pub(crate) fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>> {
        self.get::<Option<i64>>(column)?
            .map(Timestamp::from_microsecond)
            .transpose()
            .map_err(|_| StoreError::BadValue { column })
    }

    /// A word of a closed list.
    pub(crate) fn word<T>(&self, column: &'static str, read: fn(&str) -> Option<T>) -> Result<T> {
        read(&self.get::<String>(column)?).ok_or(StoreError::BadValue { column })
    }

    /// A word of a closed list, where there is one.
    pub(crate) fn word_opt<T>(
        &self,
        column: &'static str,
        read: fn(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        self.get::<Option<String>>(column)?
            .map(|word| read(&word).ok_or(StoreError::BadValue { column }))
            .transpose()
    }

    /// A document.
    pub(crate) fn json<T>(&self, column: &'static str) -> Result<T>
    where
        T: serde::de::DeserializeOwned + 'static,
    {
        Ok(self.get::<sqlx::types::Json<T>>(column)?.0)
    }

    /// A document in a column of text, where there is one.
    pub(crate) fn text_json<T>(&self, column: &'static str) -> Result<Option<T>>
    where
        T: serde::de::DeserializeOwned,
    {
        self.get::<Option<String>>(column)?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| StoreError::BadValue { column })
    }
}
