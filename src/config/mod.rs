//! Settings as typed values, from a file, the environment and flags.
//!
//! Every key has its default in `settings` and its sentence in `config/millstream.toml`; a test
//! compares them. Layers, each over the one before: defaults, the file given by `--config`, the
//! environment, `--set`. Promises that all mistakes are told in one run, each with its key, where it
//! was given and what was probably meant; and that nothing here shows a secret.
//!
//! # Design
//! Layers are merged key by key in a flat map with the source of each value ([`Loaded::sources`]),
//! not as trees: so every value is checked where it was given, and one that doesn't fit can't hide
//! the others. The list of keys is found by walking the defaults, so no key can be forgotten.

mod check;
mod choices;
mod duration;
mod environment;
mod file;
mod key;
mod load;
mod mistake;
mod print;
mod process;
mod secret;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod tree;

pub use choices::{Durability, EndpointKind, FirstJoin, LogFormat, Preset, StartFrom};
pub use duration::Span;
pub use load::{Inspected, Line, LoadOptions, Loaded};
pub use mistake::{Mistake, Mistakes, Warning};
pub use print::mask_url;
pub use process::Process;
pub use secret::Secret;
pub use settings::{
    ApiSettings, ArchiveSettings, AuthSettings, CallbackSettings, DatabaseSettings, EdgeSettings, EndpointSettings,
    GroupSettings, LimitSettings, LogSettings, MetricsSettings, RedisSettings, ReplaySettings, RetentionSettings,
    Settings, ShutdownSettings,
};
pub use source::Source;
