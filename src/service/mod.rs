//! What every process does: read its settings, say how it is, start, stop.
//!
//! Owns the way from the command line to an exit code ([`main()`]) and the health listener. Promises
//! that a mistake in the settings ends with code 2 and a sentence before anything is touched; that a
//! Redis or Postgres which is not there yet is waited for, with `/livez` true and `/readyz` false;
//! that `ready <name> <addr>` is printed once everything answers; and that a process which is asked
//! to stop has ended within `shutdown.grace`.
//!
//! Knows nothing of what the processes do: `parts` hands over to their modules.

mod args;
mod health;
mod listen;
mod main;
mod parts;
mod run;
mod start;

pub use args::SettingsArgs;
pub use main::{exit_code, main, prepare};
pub use run::Service;
