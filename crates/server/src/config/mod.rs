//! What the service is told to do: `raw` is what was written, `resolve` is what it means.
//!
//! Defaults < `acemux.toml` < changes through pages ([`Overrides`]) < `.env` < environment < flags. Every problem is
//! reported at once, each with its name, its value, where it stands and what is accepted; then nothing is started.

mod clean;
mod format;
mod listing;
mod mask;
mod memory;
mod moved;
mod overrides;
mod page;
mod problem;
mod raw;
mod resolve;
mod secret;
mod setting;
mod settings;
#[cfg(test)]
mod tests;
mod typed;
pub mod value;
mod warning;

use std::path::Path;

pub use self::listing::{Carried, Coming, LeftOut, Setting, Source, carried, env_lines, listing};
pub use self::overrides::{Edit, Fault, Lack, Overrides, Wish};
pub use self::page::{env_example, settings_page, show, show_json};
pub use self::problem::{Problem, Problems};
pub use self::raw::{Origin, Written};
pub use self::secret::Secret;
pub use self::setting::Applies;
pub use self::typed::{
    Config, EngineRecipe, EngineSettings, Fleet, Listen, Log, LogFormat, Streams, TunnelSettings, Viewers,
    Vpn, VpnMode, WithoutKey,
};
pub use self::value::{ListenHost, PortRange};

/// Fewest characters of a key: what is shorter can be guessed.
pub const SHORTEST_KEY: usize = 16;

impl Config {
    /// Reads every source; `file` instead of `./acemux.toml`, `flags` as settings by name.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<(Self, Written), Problems> {
        let written = Written::gather(file, flags);
        Ok((resolve::resolve(&written)?, written))
    }

    /// What was written means this.
    pub fn of(written: &Written) -> Result<Self, Problems> {
        resolve::resolve(written)
    }

    /// The same from pairs, as if they stood in the environment and nothing else did.
    pub fn from_pairs<N: AsRef<str>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, Problems> {
        resolve::resolve(&Written::from_pairs(pairs))
    }

    /// What was written means this, whether or not all of it suits the rest: for what was checked as a whole, and in force
    /// only in part.
    pub(crate) fn meaning(written: &Written) -> Self {
        resolve::meaning(written)
    }

    /// What deserves a warning, though it is accepted.
    pub fn warnings(&self, written: &Written) -> Vec<String> {
        warning::all(written, self)
    }

    /// Where the constants went that the deployment guide edits in a file of the reference's, when such a file lies in the
    /// working directory.
    pub fn moved(written: &Written) -> Vec<String> {
        moved::constants(Path::new("."), written)
    }
}
