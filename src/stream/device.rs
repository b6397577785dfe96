//! What Redis keeps of a device and its user: cursors, read markers, who holds the connection.

use std::time::Duration;

use super::{Arg, Redis, Reply, Script};
use crate::error::{Error, Kind, Result};
use crate::model::{Cursor, DeviceId, Room, UserId};

/// Raises read markers, never lowers them.
static RAISE: Script = Script::new(
    "raise read markers",
    "for i = 2, #ARGV, 2 do \
       local old = redis.call('HGET', KEYS[1], ARGV[i]) \
       if not old or tonumber(old) < tonumber(ARGV[i + 1]) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end \
     end \
     redis.call('PEXPIRE', KEYS[1], ARGV[1]) return 1",
);

/// Moves cursors (`ms-n,seq`) forward, never back: a write may come late, from an edge that the device
/// has left.
static ADVANCE: Script = Script::new(
    "advance cursors",
    "for i = 2, #ARGV, 2 do \
       local old = redis.call('HGET', KEYS[1], ARGV[i]) \
       local ms, n = string.match(ARGV[i + 1], '^(%d+)-(%d+),') \
       local old_ms, old_n = string.match(old or '', '^(%d+)-(%d+),') \
       ms, n, old_ms, old_n = tonumber(ms), tonumber(n), tonumber(old_ms or -1), tonumber(old_n or -1) \
       if ms > old_ms or ms == old_ms and n >= old_n then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end \
     end \
     redis.call('PEXPIRE', KEYS[1], ARGV[1]) return 1",
);

static HOLD: Script = Script::new("note who holds a device", include_str!("lua/hold_device.lua"));
static RELEASE: Script = Script::new("release a device", include_str!("lua/release_device.lua"));
static RAISE_GENERATION: Script = Script::new("raise a device's generation", include_str!("lua/raise_generation.lua"));

/// Orders the connections of a device: a newer one has a higher generation. 0: no connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// Who has the connection of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHolder {
    /// The edge.
    pub edge: String,
    /// Its connection.
    pub connection: u64,
}

impl DeviceHolder {
    fn text(&self) -> String {
        format!("{} {}", self.edge, self.connection)
    }

    /// Nothing if only a generation is left.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (edge, connection) = (words.next()?, words.next()?);
        Some(Self { edge: edge.to_owned(), connection: connection.parse().ok()? })
    }
}

/// Cursors of one device that changed.
#[derive(Debug, Clone)]
pub struct DeviceCursors {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// What it has taken over.
    pub cursors: Vec<(Room, Cursor)>,
}

impl Redis {
    /// All saved cursors of a device.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn cursors(&self, user: &UserId, device: &DeviceId) -> Result<Vec<(Room, Cursor)>> {
        let fields = self.command("HGETALL", vec![self.keys().cursor(user, device)]).await?.list()?;
        pairs(&fields, |value| value.parse())
    }

    /// The read markers of a user.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn read_markers(&self, user: &UserId) -> Result<Vec<(Room, u64)>> {
        let fields = self.command("HGETALL", vec![self.keys().read_marker(user)]).await?.list()?;
        pairs(&fields, |value| value.parse().map_err(|_| Error::invalid("read a read marker")))
    }

    /// Saved cursor and read marker of one room.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn cursor_in(&self, user: &UserId, device: &DeviceId, room: &Room) -> Result<(Option<Cursor>, u64)> {
        let cursor = self.command("HGET", vec![self.keys().cursor(user, device), room.to_string()]);
        let read = self.command("HGET", vec![self.keys().read_marker(user), room.to_string()]);
        let (cursor, read) = futures_util::try_join!(cursor, read)?;
        Ok((
            cursor.optional_text()?.and_then(|text| text.parse().ok()),
            read.optional_text()?.and_then(|text| text.parse().ok()).unwrap_or(0),
        ))
    }

    /// Saves cursors of many devices, all under way at once; each hash lives `ttl` from now. A cursor
    /// that is further on already stays.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn save_cursors(&self, devices: &[DeviceCursors], ttl: Duration) -> Result<()> {
        let saved = devices.iter().map(|device| {
            let mut args = vec![Arg::from(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))];
            for (room, cursor) in &device.cursors {
                args.extend([Arg::from(room.as_str()), Arg::from(cursor.to_string())]);
            }
            ADVANCE.run(self, vec![self.keys().cursor(&device.user, &device.device)], args)
        });
        futures_util::future::try_join_all(saved).await.map(|_| ())
    }

    /// Raises read markers of a user; lower ones are ignored.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn save_read_markers(&self, user: &UserId, markers: &[(Room, u64)], ttl: Duration) -> Result<()> {
        let mut args = vec![Arg::from(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))];
        args.extend(markers.iter().flat_map(|(room, seq)| [Arg::from(room.as_str()), Arg::from(*seq)]));
        RAISE.run(self, vec![self.keys().read_marker(user)], args).await.map(|_| ())
    }

    /// Notes that `holder` has the connection of a device; gives who had it before, and the connection's
    /// generation.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn hold_device(
        &self,
        user: &UserId,
        device: &DeviceId,
        holder: &DeviceHolder,
        ttl: Duration,
    ) -> Result<(Option<DeviceHolder>, Generation)> {
        let args = vec![Arg::from(holder.text()), u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into()];
        let mut parts = HOLD.run(self, vec![self.keys().device(user, device)], args).await?.list()?.into_iter();
        let mut part = || parts.next().unwrap_or(Reply::Nil);
        let generation = part().text()?.parse().map_err(|_| Error::new(Kind::Corrupt, "read a generation"))?;
        Ok((part().optional_text()?.and_then(DeviceHolder::parse), Generation(generation)))
    }

    /// Who has the connection of a device.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn device_holder(&self, user: &UserId, device: &DeviceId) -> Result<Option<DeviceHolder>> {
        let holder = self.command("GET", vec![self.keys().device(user, device)]).await?;
        Ok(holder.optional_text()?.and_then(DeviceHolder::parse))
    }

    /// Forgets the connection of a device if `holder` still has it. Its generation is kept for `ttl`: as long
    /// as what the device has sent is remembered, for Redis' clock may be set back.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn release_device(
        &self,
        user: &UserId,
        device: &DeviceId,
        holder: &DeviceHolder,
        ttl: Duration,
    ) -> Result<()> {
        let args = vec![Arg::from(holder.text()), u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into()];
        RELEASE.run(self, vec![self.keys().device(user, device)], args).await.map(|_| ())
    }

    /// Has the next connection of a device get a higher generation than `reached`, which something of it was
    /// stored with.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn raise_generation(
        &self,
        user: &UserId,
        device: &DeviceId,
        reached: Generation,
        ttl: Duration,
    ) -> Result<()> {
        let args = vec![Arg::from(reached.0), u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).into()];
        RAISE_GENERATION.run(self, vec![self.keys().device(user, device)], args).await.map(|_| ())
    }
}

/// Fields and values in turn; what can't be read is as good as absent.
fn pairs<T>(fields: &[Reply], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<(Room, T)>> {
    let mut found = Vec::with_capacity(fields.len() / 2);
    for pair in fields.chunks_exact(2) {
        if let (Ok(room), Ok(value)) = (Room::new(pair[0].text()?), parse(pair[1].text()?)) {
            found.push((room, value));
        }
    }
    Ok(found)
}
