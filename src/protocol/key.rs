//! The names of fields: long in JSON, partly short in MessagePack.

use super::Subprotocol;

macro_rules! keys {
    (client { $($client:ident $client_json:literal $client_msgpack:literal,)* }
     server { $($server:ident $server_json:literal $server_msgpack:literal,)* }) => {
        /// A field of a frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Key { $($client,)* $($server,)* }

        impl Key {
            /// How many fields a client's frames have; their numbers come first.
            pub(super) const CLIENT_COUNT: usize = [$(Self::$client,)*].len();

            /// Its name in JSON, and in messages for people.
            pub(super) const fn json(self) -> &'static str {
                match self { $(Self::$client => $client_json,)* $(Self::$server => $server_json,)* }
            }

            /// Its name in a subprotocol.
            pub(super) const fn name(self, subprotocol: Subprotocol) -> &'static str {
                match (subprotocol, self) {
                    (Subprotocol::Json, key) => key.json(),
                    $((Subprotocol::MsgPack, Self::$client) => $client_msgpack,)*
                    $((Subprotocol::MsgPack, Self::$server) => $server_msgpack,)*
                }
            }

            /// The field that a client means by `name`; `None` is ignored.
            pub(super) fn of_client(subprotocol: Subprotocol, name: &str) -> Option<Self> {
                match subprotocol {
                    Subprotocol::Json => match name { $($client_json => Some(Self::$client),)* _ => None },
                    Subprotocol::MsgPack => match name { $($client_msgpack => Some(Self::$client),)* _ => None },
                }
            }
        }
    };
}

keys! {
    client {
        Type "type" "t",
        Ref "ref" "q",
        Room "room" "r",
        Id "id" "i",
        Seq "seq" "s",
        Device "device" "d",
        Cid "cid" "c",
        Kind "kind" "k",
        Body "body" "b",
        Since "since" "f",
        Token "token" "token",
        Client "client" "client",
        File "file" "file",
        Url "url" "url",
        Name "name" "name",
        Before "before" "before",
        After "after" "after",
        Limit "limit" "limit",
        Last "last" "last",
    }
    server {
        User "user" "u",
        Entries "entries" "e",
        More "more" "m",
        Duplicate "duplicate" "x",
        Code "code" "o",
        Connection "connection" "connection",
        Server "server" "server",
        HeartbeatMs "heartbeat_ms" "heartbeat_ms",
        ExpiresAt "expires_at" "expires_at",
        Limits "limits" "limits",
        MessageBytes "message_bytes" "message_bytes",
        BodyBytes "body_bytes" "body_bytes",
        Rooms "rooms" "rooms",
        UnackedSends "unacked_sends" "unacked_sends",
        SendsPerSecond "sends_per_second" "sends_per_second",
        Resume "resume" "resume",
        Reason "reason" "reason",
        Head "head" "head",
        Unread "unread" "unread",
        SenderType "sender_type" "sender_type",
        At "at" "at",
        Event "event" "event",
        Data "data" "data",
        Received "received" "received",
        Read "read" "read",
        Floor "floor" "floor",
        Count "count" "count",
        Members "members" "members",
        Devices "devices" "devices",
        From "from" "from",
        Message "message" "message",
        Retryable "retryable" "retryable",
        RetryAfterMs "retry_after_ms" "retry_after_ms",
        Reconnect "reconnect" "reconnect",
        ReconnectAfterMs "reconnect_after_ms" "reconnect_after_ms",
    }
}
