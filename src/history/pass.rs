//! One attempt at the requests of a partition: survey, look back, ask the archive, read the log.

use std::future::Future;

use futures_util::StreamExt as _;
use tracing::debug;

use super::archive::Archive;
use super::page::{Bounds, Reach};
use super::reading::{Begin, Found, Plan, Reading, Seek, plan};
use super::walk::{Cost, PATIENCE, walk};
use super::window::{Depth, Window};
use crate::config::ReplaySettings;
use crate::error::Result;
use crate::model::{Answer, Ask, Cursor, EntryId, PartitionId, Room};
use crate::stream::{Redis, Survey};
use crate::telemetry::names;

/// Entries that looking back from the log's end may cost, for all who look together.
const LOOK_BACK_ENTRIES: u64 = 2_000;
/// Messages of a room whose first one is looked for there: of a longer one, the archive knows it at once.
const LOOK_BACK_MESSAGES: u64 = 200;
/// Questions to the archive at the same time: as many as a process has connections by default.
const QUESTIONS_MAX: usize = 8;

/// What the archive covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// Nobody needed to know.
    Unasked,
    /// Complete up to here.
    At(EntryId),
    /// It doesn't answer.
    Away,
}

/// One attempt at the requests of a partition.
pub(super) struct Pass<'a> {
    pub(super) redis: &'a Redis,
    pub(super) archive: &'a Archive,
    pub(super) cost: Cost,
    pub(super) key: String,
    pub(super) survey: Survey,
    pub(super) checkpoint: Checkpoint,
    partition: PartitionId,
    window: Option<Window>,
}

impl<'a> Pass<'a> {
    /// An attempt that begins with this survey.
    pub(super) fn new(
        redis: &'a Redis,
        archive: &'a Archive,
        settings: &ReplaySettings,
        partition: PartitionId,
        survey: Survey,
    ) -> Self {
        let page = Bounds { entries: settings.page_entries.max(1), bytes: settings.page_bytes };
        let cost = Cost { page, budget: settings.scan_entries.max(1) };
        let key = redis.keys().log(partition);
        Self { redis, archive, cost, key, survey, checkpoint: Checkpoint::Unasked, partition, window: None }
    }

    /// Answers what can be answered: each request with its place in the batch. Those that are
    /// missing met a log that was being trimmed, and have to be tried again.
    pub(super) async fn run(&mut self, asks: &[(usize, &Room, &Ask)]) -> Result<Vec<(usize, Answer)>> {
        let (mut answers, mut readings) = (Vec::new(), Vec::new());
        for ((index, room, ask), head) in asks.iter().zip(&self.survey.heads) {
            match plan(ask, *head, self.survey.last) {
                Plan::Answered(answer) => answers.push((*index, answer)),
                Plan::Read(begin, shape) => {
                    let head = head.unwrap_or_default();
                    readings.push(Reading::new(*index, (*room).clone(), head, begin, shape));
                }
            }
        }
        if readings.is_empty() {
            return Ok(answers);
        }
        self.look_back(&mut readings).await?;
        if self.archive.is_none() {
            answers.extend(self.leave_out_far(&mut readings));
        }
        self.ask_checkpoint(&readings).await;
        self.seek_in_archive(&mut readings).await;
        self.look_deep(&mut readings).await?;
        self.serve_from_window(&mut readings);
        self.read_archive(&mut readings).await;
        let scanned = self.read_log(&mut readings).await?;
        metrics::histogram!(names::REPLAY_SCAN_ENTRIES).record(scanned as f64);
        let begin = self.log_begin_now().await?;
        for reading in readings {
            let index = reading.index;
            if let Some(answer) = self.finish(reading, begin).await? {
                answers.push((index, answer));
            }
        }
        Ok(answers)
    }

    /// First id that the log can have held at the survey; everything before it is gone from there.
    pub(super) fn log_begin(&self) -> EntryId {
        self.survey.first.unwrap_or(self.survey.last.next())
    }

    async fn log_begin_now(&self) -> Result<EntryId> {
        let emptied = if self.survey.first.is_none() { self.log_begin() } else { EntryId::MAX };
        Ok(self.redis.first_id(&self.key).await?.unwrap_or(emptied))
    }

    /// About how many entries the log holds after an id, if they came evenly.
    fn estimate(&self, after: EntryId) -> u64 {
        let (begin, end) = (self.log_begin().ms, self.survey.last.ms);
        let share = end.saturating_sub(after.ms.max(begin)) as f64 / (end.saturating_sub(begin).max(1)) as f64;
        (self.survey.length as f64 * share) as u64
    }

    /// Whether reading the log after an id is impossible, or dearer than asking the archive.
    fn needs_archive(&self, after: EntryId) -> bool {
        after.next() < self.log_begin() || self.estimate(after) > self.cost.budget
    }

    async fn look_back(&mut self, readings: &mut [Reading]) -> Result<()> {
        let begin = self.log_begin();
        let near = |r: &Reading| {
            let whole = r.seek() != Some(Seek::Oldest) || r.head.seq <= LOOK_BACK_MESSAGES;
            whole && r.head.id >= begin && self.estimate(r.head.id) <= 2 * LOOK_BACK_ENTRIES
        };
        let wanted: Vec<(Room, Seek)> = seeks(readings.iter().filter(|r| near(r)));
        if wanted.is_empty() {
            return Ok(());
        }
        let mut window = Window::new(readings.iter().map(|r| r.room.clone()), self.survey.last);
        let depth = Depth { entries: LOOK_BACK_ENTRIES, down_to: EntryId::ZERO };
        window.extend(self.redis, &self.key, &wanted, depth).await?;
        find_in(&window, readings);
        self.window = Some(window);
        Ok(())
    }

    /// Leaves out, unanswered, who would need an archive where there is none.
    fn leave_out_far(&self, readings: &mut Vec<Reading>) -> Vec<(usize, Answer)> {
        let mut far = Vec::new();
        readings.retain_mut(|reading| {
            // Nothing says of a room of the system that it was made.
            let may_begin = !reading.room.is_system() && self.survey.length <= self.cost.budget;
            if reading.seek() == Some(Seek::Oldest) && may_begin {
                reading.begin_with_room(self.log_begin().previous());
            }
            let from = reading.pending_from();
            let near = from.is_some_and(|after| self.is_in_window(reading, after) || !self.needs_archive(after));
            if !near {
                far.push((reading.index, Answer::Unavailable));
            }
            near
        });
        far
    }

    /// Whether the window holds all that there is of the room after an id.
    fn is_in_window(&self, reading: &Reading, after: EntryId) -> bool {
        let reaches = |window: &Window| window.low() <= after && after.next() >= self.log_begin();
        reading.whole_in_window || self.window.as_ref().is_some_and(reaches)
    }

    async fn ask_checkpoint(&mut self, readings: &[Reading]) {
        let needed = readings.iter().any(|r| match r.pending_from() {
            None => r.found.is_none(),
            Some(after) => !self.is_in_window(r, after) && self.needs_archive(after),
        });
        if needed {
            self.checkpoint = match self.archive.checkpoint(self.partition).await {
                Ok(id) => Checkpoint::At(id),
                Err(_) => Checkpoint::Away,
            };
        }
    }

    async fn seek_in_archive(&mut self, readings: &mut [Reading]) {
        let Checkpoint::At(checkpoint) = self.checkpoint else { return };
        let mut questions = Vec::new();
        let begin = self.log_begin();
        for reading in readings.iter_mut().filter(|r| r.seek().is_some()) {
            questions.push(seek_one(self.archive, reading, checkpoint, begin));
        }
        if !all_answered(questions).await {
            self.checkpoint = Checkpoint::Away;
        }
    }

    /// Looks for what is neither near the log's end nor archived: the log after the checkpoint, or
    /// all of it if the archive is away.
    async fn look_deep(&mut self, readings: &mut [Reading]) -> Result<()> {
        let wanted = seeks(readings.iter());
        if wanted.is_empty() {
            return Ok(());
        }
        let down_to = match self.checkpoint {
            Checkpoint::At(id) => id,
            Checkpoint::Unasked | Checkpoint::Away => EntryId::ZERO,
        };
        let rooms = readings.iter().map(|r| r.room.clone());
        let mut window = self.window.take().unwrap_or_else(|| Window::new(rooms, self.survey.last));
        let depth = Depth { entries: self.cost.budget.saturating_mul(PATIENCE), down_to };
        window.extend(self.redis, &self.key, &wanted, depth).await?;
        find_in(&window, readings);
        for reading in readings.iter_mut() {
            let Some(seek) = reading.seek() else { continue };
            match (self.checkpoint, reading.is_archived) {
                (Checkpoint::At(id), Some(true)) if window.low() <= id => {
                    reading.found = Some(window.beyond(&reading.room, seek, reading.head));
                }
                (Checkpoint::At(id), Some(false)) if window.low() <= id => {
                    // Its messages are all here; events before them may be archived.
                    reading.found = Some(window.first(&reading.room, seek, reading.head));
                }
                (Checkpoint::Away, _) if seek == Seek::Oldest && window.shows_first_message(&reading.room) => {
                    reading.found = Some(Found::at(Cursor::START));
                    reading.whole_in_window = true;
                }
                _ => debug!(partition = %self.partition, "what a request looks for is out of reach now"),
            }
        }
        self.window = Some(window);
        Ok(())
    }

    fn serve_from_window(&self, readings: &mut [Reading]) {
        let Some(window) = &self.window else { return };
        for reading in readings {
            let Some(after) = reading.pending_from() else { continue };
            if self.is_in_window(reading, after) {
                let first = window.entries(&reading.room, after).next().filter(|_| reading.whole_in_window);
                self.take_from(window, reading, after);
                reading.log_from = first.map(|entry| entry.id.previous().max(after)).or(reading.log_from);
            }
        }
    }

    fn take_from(&self, window: &Window, reading: &mut Reading, after: EntryId) {
        let room = reading.room.clone();
        let draft = reading.draft(self.cost.page);
        for entry in window.entries(&room, after) {
            draft.take(entry.clone());
        }
        let high = window.high();
        let reach = if draft.is_closed() { Reach::Part(high) } else { Reach::End(high) };
        (reading.log_from, reading.reach) = (Some(after), Some(reach));
    }

    async fn read_archive(&mut self, readings: &mut [Reading]) {
        let Checkpoint::At(checkpoint) = self.checkpoint else { return };
        let mut questions = Vec::new();
        for reading in readings.iter_mut() {
            if reading.pending_from().is_some_and(|after| self.needs_archive(after)) {
                questions.push(self.read_archive_for(reading, checkpoint));
            }
        }
        if !all_answered(questions).await {
            self.checkpoint = Checkpoint::Away;
        }
    }

    async fn read_archive_for(&self, reading: &mut Reading, checkpoint: EntryId) -> Result<()> {
        let Some(after) = reading.pending_from() else { return Ok(()) };
        let mut position = after;
        while position < checkpoint {
            let slice = match self.archive.page(&reading.room, position, checkpoint, self.cost.page).await {
                Ok(slice) => slice,
                Err(error) => {
                    // Begun in the archive and gone on in the log, the page would have a hole.
                    (reading.draft, reading.archive_rows) = (None, 0);
                    return Err(error);
                }
            };
            let draft = reading.draft(self.cost.page);
            let rows = slice.entries.len();
            position = slice.entries.last().filter(|_| slice.more).map_or(checkpoint, |entry| entry.id);
            slice.entries.into_iter().for_each(|entry| draft.take(entry));
            // A page of the archive is as large as a page may be; only history may want several.
            let full = draft.is_closed() || (slice.more && !reading.is_history());
            reading.archive_rows += rows;
            if full {
                reading.archive_asked = true;
                reading.reach = Some(Reach::Part(position));
                return Ok(());
            }
        }
        reading.archive_asked = true;
        reading.position = position.max(after);
        Ok(())
    }

    async fn read_log(&mut self, readings: &mut [Reading]) -> Result<u64> {
        let mut open: Vec<&mut Reading> = Vec::new();
        for reading in readings.iter_mut() {
            let Some(after) = reading.pending_from() else { continue };
            reading.position = after;
            if reading.position < reading.head.id {
                reading.log_from = Some(reading.position);
            }
            match &self.window {
                // Those who looked back have read already what follows the archive.
                Some(window) if reading.archive_asked && window.low() <= reading.position => {
                    self.take_from(window, reading, reading.position);
                }
                _ => open.push(reading),
            }
        }
        let looked_back = self.window.as_ref().map_or(0, Window::scanned);
        if open.is_empty() {
            return Ok(looked_back);
        }
        Ok(looked_back + walk(self.redis, &self.key, self.survey.last, self.cost, &mut open).await?)
    }
}

/// Asks the archive, a few questions at a time.
async fn all_answered(questions: Vec<impl Future<Output = Result<()>>>) -> bool {
    let answers: Vec<Result<()>> =
        futures_util::stream::iter(questions).buffer_unordered(QUESTIONS_MAX).collect().await;
    answers.iter().all(Result::is_ok)
}

fn seeks<'r>(readings: impl Iterator<Item = &'r Reading>) -> Vec<(Room, Seek)> {
    readings.filter_map(|r| Some((r.room.clone(), r.seek()?))).collect()
}

fn find_in(window: &Window, readings: &mut [Reading]) {
    for reading in readings {
        if let Some(seek) = reading.seek() {
            reading.found = window.find(&reading.room, seek);
            reading.whole_in_window = reading.found.is_some() && seek == Seek::Oldest;
        }
    }
}

/// Looks for a message in the archive. Found nowhere, it is in the log after the checkpoint or not held.
/// A room that is younger than the log, which begins at `begin`, is read from there.
async fn seek_one(archive: &Archive, reading: &mut Reading, checkpoint: EntryId, begin: EntryId) -> Result<()> {
    let Begin::Seek(seek) = reading.begin else { return Ok(()) };
    let before = |message: Cursor| match message.seq {
        0 | 1 => Cursor::START,
        seq => Cursor::new(message.id.previous(), seq - 1),
    };
    if let Seek::At(seq) | Seek::After(seq) = seek
        && let Some(message) = archive.message(&reading.room, seq).await?
    {
        let at = if seek == Seek::At(seq) { Cursor::new(message.id.previous(), seq - 1) } else { message };
        reading.found = Some(Found::at(at));
        return Ok(());
    }
    let oldest = archive.oldest_message(&reading.room).await?;
    reading.is_archived = Some(oldest.is_some());
    let next = match (seek, oldest) {
        (_, None) => None,
        (Seek::Oldest, Some(oldest)) => Some(oldest),
        (Seek::At(seq) | Seek::After(seq), Some(oldest)) if oldest.seq > seq => Some(oldest),
        // Older and perhaps newer messages are archived and this one isn't: it was given up.
        (Seek::At(seq) | Seek::After(seq), Some(_)) => archive.message_after(&reading.room, seq, checkpoint).await?,
    };
    reading.found = next.map(|message| Found::instead(seek, before(message)));
    if let (Some(Cursor::START), Some(message)) = (reading.found.map(|found| found.after), next)
        && message.id >= begin
        && let Some(oldest) = archive.oldest_entry(&reading.room).await?
    {
        // The archive is complete up to its checkpoint, so nothing of the room is before its oldest entry.
        reading.position = oldest.previous();
    }
    Ok(())
}
