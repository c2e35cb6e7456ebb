//! A value that is used and never shown.

use std::fmt;

/// Shows nothing of what it holds, wherever it is printed.
#[derive(Clone)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Holds `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub const fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
