//! Which encoding a connection speaks, agreed on in the handshake.

use std::fmt;

/// How frames are encoded on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Subprotocol {
    /// `millstream.v1.json`: text messages, one JSON object each.
    #[default]
    Json,
    /// `millstream.v1.msgpack`: binary messages, one MessagePack map each.
    MsgPack,
}

impl Subprotocol {
    /// Both, for tables by subprotocol.
    pub const ALL: [Self; 2] = [Self::Json, Self::MsgPack];

    /// Its name in `Sec-WebSocket-Protocol`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "millstream.v1.json",
            Self::MsgPack => "millstream.v1.msgpack",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subprotocol| subprotocol.name() == name)
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What comes before a token that is offered as a subprotocol (browsers can't set headers).
const BEARER: &str = "bearer.";

/// What a handshake offered, understood.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Offer<'a> {
    /// What the connection will speak.
    pub subprotocol: Subprotocol,
    /// What to answer in `Sec-WebSocket-Protocol`; `None` (no such header) if the client named none.
    pub echo: Option<&'static str>,
    /// The token of `bearer.<jwt>`; never echoed.
    pub token: Option<&'a str>,
    /// Whether there were more tokens than that one.
    pub token_again: bool,
}

impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is never printed.
        f.debug_struct("Offer")
            .field("subprotocol", &self.subprotocol)
            .field("echo", &self.echo)
            .field("token", &self.token.map(|_| "***"))
            .field("token_again", &self.token_again)
            .finish()
    }
}

/// Only subprotocols that this server doesn't speak were offered: HTTP 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSubprotocol;

impl fmt::Display for UnknownSubprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [json, msgpack] = Subprotocol::ALL;
        write!(f, "no offered subprotocol is known: {json} and {msgpack} are")
    }
}

impl std::error::Error for UnknownSubprotocol {}

/// Chooses the subprotocol from the values of all `Sec-WebSocket-Protocol` headers, each of which
/// may be a comma-separated list. The first that is known wins; none at all (or only a token) means JSON.
///
/// ```
/// use millstream::protocol::{Subprotocol, negotiate};
/// let offer = negotiate(["millstream.v1.msgpack, bearer.abc.def.ghi"]).unwrap();
/// assert_eq!(offer.subprotocol, Subprotocol::MsgPack);
/// assert_eq!(offer.echo, Some("millstream.v1.msgpack"));
/// assert_eq!(offer.token, Some("abc.def.ghi"));
/// assert_eq!(negotiate([]).unwrap().subprotocol, Subprotocol::Json);
/// assert!(negotiate(["chat"]).is_err());
/// ```
///
/// # Errors
/// If something was offered, and nothing of it is known.
pub fn negotiate<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<Offer<'a>, UnknownSubprotocol> {
    let (mut chosen, mut token, mut token_again, mut others) = (None, None, false, false);
    for name in headers.into_iter().flat_map(|value| value.split(',')).map(str::trim).filter(|name| !name.is_empty()) {
        if let Some(jwt) = name.strip_prefix(BEARER) {
            token_again |= token.is_some();
            token = token.or(Some(jwt));
        } else if let Some(subprotocol) = Subprotocol::named(name) {
            chosen = chosen.or(Some(subprotocol));
        } else {
            others = true;
        }
    }
    match chosen {
        None if others => Err(UnknownSubprotocol),
        _ => Ok(Offer {
            subprotocol: chosen.unwrap_or_default(),
            echo: chosen.map(Subprotocol::name),
            token,
            token_again,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_or_only_a_token_means_json_without_an_echo() {
        for (headers, token) in [(vec![], None), (vec![""], None), (vec!["bearer.t"], Some("t"))] {
            let expected = Offer { subprotocol: Subprotocol::Json, echo: None, token, token_again: false };
            assert_eq!(negotiate(headers).unwrap(), expected);
        }
    }

    #[test]
    fn the_first_known_name_wins_whatever_stands_beside_it() {
        let offer = negotiate(["chat,millstream.v1.json", "millstream.v1.msgpack ,bearer.a", "bearer.b"]).unwrap();
        assert_eq!(offer.subprotocol, Subprotocol::Json);
        assert_eq!(offer.echo, Some("millstream.v1.json"));
        assert_eq!((offer.token, offer.token_again), (Some("a"), true));
    }

    #[test]
    fn only_unknown_names_are_refused_even_with_a_token() {
        for offered in ["chat", "Millstream.v1.json", "millstream.v2.json, bearer.t"] {
            assert_eq!(negotiate([offered]), Err(UnknownSubprotocol), "{offered}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", negotiate(["bearer.secret"]).unwrap()).contains("secret"));
    }
}
