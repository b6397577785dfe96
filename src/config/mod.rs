//! Settings as typed values.
//!
//! Every key has its default here and its sentence in `config/millstream.toml`.

mod duration;
mod settings;

pub use duration::Span;
pub use settings::{
    ApiSettings, ArchiveSettings, AuthSettings, CallbackSettings, DatabaseSettings, Durability, EdgeSettings,
    EndpointKind, EndpointSettings, FirstJoin, GroupSettings, LimitSettings, LogFormat, LogSettings, MetricsSettings,
    Preset, RedisSettings, ReplaySettings, RetentionSettings, Secret, Settings, ShutdownSettings, StartFrom,
};
