//! Countries of addresses (A3), from a MaxMind DB file that is kept in memory.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use maxminddb::{PathElement, Reader};

use crate::facts::country_code;

/// Largest file, bytes.
const MAX_FILE: u64 = 1 << 30;

/// Why a file of countries cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct CountriesError {
    /// Which one.
    pub path: PathBuf,
    /// What is wrong.
    pub why: String,
}

/// A file of countries. Cheap to clone.
#[derive(Clone)]
pub struct Countries(Arc<Inner>);

struct Inner {
    path: PathBuf,
    reader: ArcSwap<Reader<Vec<u8>>>,
    seen: Mutex<Option<Stamp>>,
}

/// What a file looks like from outside.
type Stamp = (u64, i64, i64, u64);

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Countries({})", self.0.path.display())
    }
}

impl Countries {
    /// Reads a file.
    ///
    /// # Errors
    /// [`CountriesError`] when it cannot be read or is no such database.
    pub fn open(path: &Path) -> Result<Self, CountriesError> {
        let seen = stamp(path);
        let reader = read(path)?;
        Ok(Self(Arc::new(Inner {
            path: path.to_path_buf(),
            reader: ArcSwap::from_pointee(reader),
            seen: Mutex::new(seen),
        })))
    }

    /// Reads the file again when it has changed; true when a new one is in use. To be called every few seconds.
    ///
    /// # Errors
    /// [`CountriesError`] when the new one cannot be used, once per change; the former stays.
    pub fn look(&self) -> Result<bool, CountriesError> {
        let now = stamp(&self.0.path);
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.0.reader.store(Arc::new(read(&self.0.path)?));
        Ok(true)
    }

    /// The country of an address, ISO 3166-1 alpha-2 in upper case.
    pub(crate) fn country(&self, address: IpAddr) -> Option<Arc<str>> {
        let reader = self.0.reader.load();
        let found = reader.lookup(address.to_canonical()).ok()?;
        let code: Option<&str> =
            found.decode_path(&[PathElement::Key("country"), PathElement::Key("iso_code")]).ok()?;
        code.and_then(country_code)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.len(), about.mtime(), about.mtime_nsec(), about.ino()))
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, CountriesError> {
    let wrong = |why: String| CountriesError { path: path.to_path_buf(), why };
    let about = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if about.len() > MAX_FILE {
        return Err(wrong("the file is larger than 1 GiB".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let reader = Reader::from_source(bytes).map_err(|error| wrong(error.to_string()))?;
    // A file that is still being copied has its end missing, which the metadata, found from the end, shows; what is
    // broken within would otherwise only show as missing countries.
    reader.verify().map_err(|error| wrong(error.to_string()))?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(country: Option<&Countries>, address: &str) -> Option<String> {
        country.unwrap().country(address.parse().unwrap()).map(|code| code.to_string())
    }

    #[test]
    fn a3_countries_come_from_the_file_and_a_new_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("geo.mmdb");
        assert!(Countries::open(&path).is_err());
        std::fs::write(&path, bartizan_testkit::mmdb::countries(&[("192.0.2.0/24", "DE"), ("2001:db8::/32", "fr")]))
            .unwrap();
        let countries = Countries::open(&path).unwrap();
        let of = |address: &str| code(Some(&countries), address);
        assert_eq!(of("192.0.2.77").as_deref(), Some("DE"));
        assert_eq!(of("::ffff:192.0.2.77").as_deref(), Some("DE"));
        assert_eq!(of("2001:db8::1").as_deref(), Some("FR"));
        assert_eq!((of("198.51.100.1"), of("::1"), of("127.0.0.1")), (None, None, None));
        assert_eq!(countries.look(), Ok(false));
        let whole = bartizan_testkit::mmdb::countries(&[("192.0.2.0/24", "US")]);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(countries.look(), Ok(true));
        assert_eq!(of("192.0.2.77").as_deref(), Some("US"));
        // Half a file, no file, another file: the former stays, and it is said once.
        for spoilt in [&whole[..whole.len() / 2], b"", b"text", &[0xff; 4096]] {
            std::fs::write(&path, spoilt).unwrap();
            assert!(countries.look().is_err(), "{}", spoilt.len());
            assert_eq!(countries.look(), Ok(false));
            assert_eq!(of("192.0.2.77").as_deref(), Some("US"));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(countries.look().is_err());
        assert_eq!(of("192.0.2.77").as_deref(), Some("US"));
    }

    #[test]
    fn a3_a_damaged_file_of_countries_panics_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("geo.mmdb");
        let whole = bartizan_testkit::mmdb::countries(&[("192.0.2.0/24", "DE")]);
        for at in 0..whole.len() {
            for value in [0x00, 0xff, 0x20, 0x5f] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                std::fs::write(&path, &damaged).unwrap();
                if let Ok(countries) = Countries::open(&path) {
                    let _ = code(Some(&countries), "192.0.2.77");
                    let _ = code(Some(&countries), "2001:db8::1");
                }
            }
        }
    }
}
