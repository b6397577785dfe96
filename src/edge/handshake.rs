//! The request before the upgrade: is it ours to serve, and for whom?
//!
//! Sources: RFC 6455, section 4.2 (opening handshake); RFC 9110 (methods and status codes).

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use hyper::{Method, Request, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::server::create_response;

use super::{Edge, Greeting};
use crate::auth::Claims;
use crate::protocol::{Offer, negotiate};
use crate::telemetry::{Readiness, names};

/// The only path that is upgraded.
const CONNECT_PATH: &str = "/v1/connect";

pub(super) type Answer = Response<Full<Bytes>>;

/// What becomes of a request.
pub(super) enum Verdict {
    /// Upgrade: this answer goes out first.
    Upgrade(Answer, Greeting),
    /// This answer, and nothing more.
    Answer(Answer),
}

/// Looks at a request.
pub(super) fn judge(edge: &Edge, readiness: &Readiness, address: IpAddr, request: &Request<Incoming>) -> Verdict {
    match request.uri().path() {
        CONNECT_PATH => connect(edge, address, request),
        "/livez" if reads(request) => Verdict::Answer(text(StatusCode::OK, "ok\n")),
        "/readyz" if reads(request) => Verdict::Answer(ready(readiness)),
        "/livez" | "/readyz" => Verdict::Answer(text(StatusCode::METHOD_NOT_ALLOWED, "GET it\n")),
        _ => Verdict::Answer(text(StatusCode::NOT_FOUND, "the WebSocket is at /v1/connect\n")),
    }
}

fn reads(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn ready(readiness: &Readiness) -> Answer {
    let report = readiness.report();
    if report.ready {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", report.failures()))
    }
}

fn connect(edge: &Edge, address: IpAddr, request: &Request<Incoming>) -> Verdict {
    let refused = |status, reason, why: &str| {
        metrics::counter!(names::HANDSHAKES_REFUSED, "reason" => reason).increment(1);
        Verdict::Answer(text(status, &format!("{why}\n")))
    };
    if let Err(wait) = edge.limits.handshake(address) {
        metrics::counter!(names::HANDSHAKES_REFUSED, "reason" => "rate_limited").increment(1);
        let mut answer = text(StatusCode::TOO_MANY_REQUESTS, "too many handshakes from this address\n");
        answer.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
        return Verdict::Answer(answer);
    }
    if !origin_allowed(&edge.settings.edge.allowed_origins, request.headers()) {
        return refused(StatusCode::FORBIDDEN, "origin", "this origin is not in edge.allowed_origins");
    }
    let protocols = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let protocols: Result<Vec<&str>, _> = protocols.iter().map(|value| value.to_str()).collect();
    let Ok(offer) = protocols.map_err(drop).and_then(|offered| negotiate(offered).map_err(drop)) else {
        let why = "offer the subprotocol millstream.v1.json or millstream.v1.msgpack";
        return refused(StatusCode::BAD_REQUEST, "subprotocol", why);
    };
    let claims = match claims(edge, request.headers(), &offer) {
        Ok(claims) => claims,
        Err(why) => return refused(StatusCode::UNAUTHORIZED, "token", &why),
    };
    let Ok(upgrade) = create_response(&without_body(request)) else {
        return refused(StatusCode::BAD_REQUEST, "upgrade", "not a WebSocket upgrade of version 13");
    };
    if !edge.limits.enter() {
        metrics::counter!(names::HANDSHAKES_REFUSED, "reason" => "connections").increment(1);
        let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, "as many connections as this edge lets in\n");
        // The next one needs the socket.
        answer.headers_mut().insert(CONNECTION, hyper::header::HeaderValue::from_static("close"));
        return Verdict::Answer(answer);
    }
    let mut answer = upgrade.map(|()| Full::default());
    if let Some(name) = offer.echo {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, hyper::header::HeaderValue::from_static(name));
    }
    Verdict::Upgrade(answer, Greeting { subprotocol: offer.subprotocol, claims })
}

/// Absent is allowed: only browsers send it, and only they must be kept from other sites' pages.
fn origin_allowed(allowed: &[String], headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
}

/// What the request's token says, if it has one. Each token must be good, so that nobody who looks at one of
/// them (a proxy, a log) takes the client for somebody else; of two, the header's counts.
fn claims(edge: &Edge, headers: &HeaderMap, offer: &Offer<'_>) -> Result<Option<Claims>, String> {
    let header = bearer(headers).map_err(|()| "the authorization header is not one Bearer <token>")?;
    if offer.token_again {
        return Err("more than one token is offered as a subprotocol".into());
    }
    let verify = |token: Option<&str>| {
        token.map(|token| edge.verifier.verify(token)).transpose().map_err(|refusal| refusal.to_string())
    };
    let (header, offered) = (verify(header)?, verify(offer.token)?);
    Ok(header.or(offered))
}

/// The token of the `Authorization` header, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    let value = value.to_str().map_err(drop)?;
    let (scheme, token) = value.split_once(' ').ok_or(())?;
    // Source: RFC 9110, 11.1: the scheme's case doesn't matter.
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(()) }
}

fn without_body(request: &Request<Incoming>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn text(status: StatusCode, body: &str) -> Answer {
    let mut answer = Response::new(Full::from(body.to_owned()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
