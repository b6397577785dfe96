//! `millstream token`: a token for a user, alone on standard output.

use super::ending::Outcome;
use super::publish::SenderName;
use super::{output, settings};
use crate::auth::{Grant, Mint, mint};
use crate::model::UserId;
use crate::service::SettingsArgs;

/// Makes a token for a user, signed with auth.hs256_secret.
///
/// Nothing but the token is written to standard output, so that it can go straight into a variable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream token --user alice --rooms 'team:*=rw' --rooms lobby=r\n  \
    TOKEN=$(millstream token --user alice --rooms '*=rw' --ttl 30days)\n  \
    millstream token --user billing --sender-type service --rooms 'orders:*=w'")]
pub(super) struct TokenArgs {
    /// Who it is for: its `sub`.
    #[arg(long)]
    user: String,
    /// What it grants: a room's name with * and r (join, history), w (send) or rw; may be repeated.
    #[arg(long, value_name = "PATTERN=rw", num_args = 1..)]
    rooms: Vec<Grant>,
    /// How long it is valid.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    ttl: humantime::Duration,
    /// As what it sends.
    #[arg(long, value_name = "TYPE", default_value = "user")]
    sender_type: SenderName,
}

/// Makes the token.
pub(super) fn run(args: TokenArgs, flags: &SettingsArgs) -> Outcome {
    let settings = settings::load(flags)?;
    let token = Mint {
        user: UserId::new(&args.user)?,
        sender_type: args.sender_type.into(),
        grants: args.rooms,
        ttl: args.ttl.into(),
    };
    output::line(mint(&settings.auth, &token)?)
}
