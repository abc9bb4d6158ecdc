//! A value that must not be seen.

use zeroize::Zeroize;

/// A secret: no `Debug`, `Display`, `Serialize` or `Clone` by accident; zeroed on
/// drop. `expose` is the only way to the value, so a search for it finds every use.
pub struct Secret<T: Zeroize = String>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Callers must not log, store or return it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}
