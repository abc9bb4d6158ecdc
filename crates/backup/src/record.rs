//! What the stream consists of: kind (1), length (4), content.

use std::io::{Read, Write};

use bartizan_store::dump::Value;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::Summary;
use crate::error::BackupError;
use crate::open::Opener;
use crate::seal::Sealer;

/// Largest record, bytes: a row with the largest body that is ever kept, as base64, and then some.
const MOST: usize = 64 << 20;
/// Bytes of a file per record.
pub(crate) const PIECE: usize = 64 * 1024;

/// What an archive says of itself, first of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Versions of the schema that were applied.
    pub versions: Vec<i64>,
    /// Name of the master key that sealed; the key itself is nowhere.
    pub master_key: String,
    /// Names of the older keys beside it, which some of what is sealed may still need.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older_keys: Vec<String>,
    /// `sqlite` or `postgres`; an archive of either fits both.
    pub engine: String,
}

/// A table begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TableHead {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
}

/// A file begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileHead {
    pub(crate) path: String,
}

/// One record.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Manifest(Manifest),
    Table(TableHead),
    Row(Vec<Value>),
    File(FileHead),
    Data(Vec<u8>),
    End(Summary),
}

fn json_bytes(value: &impl Serialize) -> Result<Vec<u8>, BackupError> {
    serde_json::to_vec(value).map_err(|_| BackupError::Content("a record that cannot be written"))
}

fn row_bytes(values: &[Value]) -> Result<Vec<u8>, BackupError> {
    let row: Vec<Json> = values
        .iter()
        .map(|value| match value {
            Value::Null => Json::Null,
            Value::Int(number) => json!(number),
            Value::Text(text) => json!(text),
            Value::Blob(bytes) => json!({"b": STANDARD.encode(bytes)}),
        })
        .collect();
    json_bytes(&row)
}

fn row(bytes: &[u8]) -> Result<Vec<Value>, BackupError> {
    const BAD: BackupError = BackupError::Content("a row that is none");
    let row: Vec<Json> = serde_json::from_slice(bytes).map_err(|_| BAD)?;
    row.into_iter()
        .map(|value| match value {
            Json::Null => Ok(Value::Null),
            Json::Number(number) => number.as_i64().map(Value::Int).ok_or(BAD),
            Json::String(text) => Ok(Value::Text(text)),
            Json::Object(object) if object.len() == 1 => {
                let text = object.get("b").and_then(Json::as_str).ok_or(BAD)?;
                STANDARD.decode(text).map(Value::Blob).map_err(|_| BAD)
            }
            _ => Err(BAD),
        })
        .collect()
}

impl Record {
    pub(crate) fn write<W: Write>(&self, to: &mut Sealer<'_, W>) -> Result<(), BackupError> {
        let (kind, bytes) = match self {
            Self::Manifest(manifest) => (b'M', json_bytes(manifest)?),
            Self::Table(table) => (b'T', json_bytes(table)?),
            Self::Row(values) => (b'R', row_bytes(values)?),
            Self::File(file) => (b'F', json_bytes(file)?),
            Self::Data(bytes) => return frame(to, b'D', bytes),
            Self::End(summary) => (b'E', json_bytes(summary)?),
        };
        frame(to, kind, &bytes)
    }

    pub(crate) fn read<R: Read>(from: &mut Opener<'_, R>) -> Result<Self, BackupError> {
        const BAD: BackupError = BackupError::Content("a record that is none");
        let mut head = [0u8; 5];
        from.read(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MOST || (kind == b'D' && length > PIECE) {
            return Err(BackupError::Content("a record that is too large"));
        }
        let mut bytes = vec![0u8; length];
        from.read(&mut bytes)?;
        Ok(match kind {
            b'M' => Self::Manifest(serde_json::from_slice(&bytes).map_err(|_| BAD)?),
            b'T' => Self::Table(serde_json::from_slice(&bytes).map_err(|_| BAD)?),
            b'R' => Self::Row(row(&bytes)?),
            b'F' => Self::File(serde_json::from_slice(&bytes).map_err(|_| BAD)?),
            b'D' => Self::Data(bytes),
            b'E' => Self::End(serde_json::from_slice(&bytes).map_err(|_| BAD)?),
            _ => return Err(BAD),
        })
    }
}

fn frame<W: Write>(to: &mut Sealer<'_, W>, kind: u8, bytes: &[u8]) -> Result<(), BackupError> {
    if bytes.len() > MOST {
        return Err(BackupError::Content("a row that is larger than an archive takes"));
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.write(&[kind])?;
    to.write(&length.to_be_bytes())?;
    to.write(bytes)
}
