//! Where the data lives.

use std::path::PathBuf;

use bartizan_model::Secret;

/// A database address. The Postgres form holds a password and is therefore a secret.
pub enum StoreUrl {
    /// A file; created when absent.
    Sqlite(PathBuf),
    /// Gone with the process.
    Memory,
    /// `postgres://…`
    Postgres(Secret<String>),
}

/// The text is not a database address. It is not repeated here: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store url must start with `sqlite:` or `postgres://`")]
pub struct UrlError;

impl StoreUrl {
    /// Reads `sqlite:PATH`, `sqlite://PATH`, `sqlite::memory:` or `postgres://…`.
    ///
    /// # Errors
    /// [`UrlError`] for anything else and for an empty path.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(Secret::new(text.to_owned())));
        }
        let path = text.strip_prefix("sqlite:").ok_or(UrlError)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" => Err(UrlError),
            ":memory:" => Ok(Self::Memory),
            path => Ok(Self::Sqlite(PathBuf::from(path))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o1_urls_of_both_engines_are_read() {
        assert!(matches!(StoreUrl::parse("sqlite:/a/b.db"), Ok(StoreUrl::Sqlite(p)) if p.as_os_str() == "/a/b.db"));
        assert!(matches!(StoreUrl::parse("sqlite:///a/b.db"), Ok(StoreUrl::Sqlite(p)) if p.as_os_str() == "/a/b.db"));
        assert!(matches!(StoreUrl::parse("sqlite:b.db"), Ok(StoreUrl::Sqlite(p)) if p.as_os_str() == "b.db"));
        assert!(matches!(StoreUrl::parse("sqlite::memory:"), Ok(StoreUrl::Memory)));
        assert!(matches!(StoreUrl::parse("postgres://u:p@h/d"), Ok(StoreUrl::Postgres(_))));
        assert!(matches!(StoreUrl::parse("postgresql://u:p@h/d"), Ok(StoreUrl::Postgres(_))));
    }

    #[test]
    fn o1_a_refused_url_does_not_show_its_password() {
        for bad in ["", "sqlite:", "mysql://u:hunter2@h/d", "hunter2", "/a/b.db"] {
            let error = StoreUrl::parse(bad).err().expect("refused");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
