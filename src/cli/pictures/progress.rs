//! The line that shows how far a job is: redrawn on a terminal, and elsewhere one line for each stage.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::exit::printable;

const REDRAW: Duration = Duration::from_millis(120);
/// Cells of the bar.
const BAR: usize = 24;
/// The width of a terminal that does not know its own.
const WIDTH: usize = 80;

/// What is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Uploading,
    /// With its position, where that is known.
    Queued(Option<u64>),
    Submitting,
    Processing,
    /// Something else, in words.
    Other(String),
}

impl Stage {
    fn text(&self) -> String {
        match self {
            Self::Connecting => "connecting".to_owned(),
            Self::Uploading => "sending".to_owned(),
            Self::Queued(None) => "queued".to_owned(),
            Self::Queued(Some(position)) => format!("queued, position {position}"),
            Self::Submitting => "submitting".to_owned(),
            Self::Processing => "being made".to_owned(),
            Self::Other(text) => printable(text).replace('\n', " "),
        }
    }
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Progress {
    pub(super) stage: Stage,
    /// The whole time that is expected, where it is known.
    pub(super) expected: Option<Duration>,
    /// As the server says.
    pub(super) percent: Option<u8>,
}

/// The line on standard error.
#[derive(Debug)]
pub(super) struct ProgressLine {
    is_terminal: bool,
    started: Instant,
    progress: Progress,
    /// Frames drawn so far, which move the bar of unknown length.
    frames: usize,
    /// The stage that was printed last, where lines are not redrawn.
    printed: Option<Stage>,
}

impl ProgressLine {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            started: Instant::now(),
            progress: Progress { stage: Stage::Connecting, expected: None, percent: None },
            frames: 0,
            printed: None,
        }
    }

    /// Shows another stage, of which nothing else is known.
    pub(super) fn stage(&mut self, stage: Stage) {
        let progress = Progress { stage, ..self.progress.clone() };
        self.update(progress);
    }

    pub(super) fn update(&mut self, progress: Progress) {
        self.progress = progress;
        if self.is_terminal {
            self.draw();
        } else if self.printed.as_ref() != Some(&self.progress.stage) {
            // A position changes often, and a log has no use for each.
            let same =
                |printed: &Stage| matches!((printed, &self.progress.stage), (Stage::Queued(_), Stage::Queued(_)));
            if !self.printed.as_ref().is_some_and(same) {
                let expected = self.progress.expected.map(|time| format!(", expected to take {} s", time.as_secs()));
                eprintln!("{}{}", self.progress.stage.text(), expected.unwrap_or_default());
            }
            self.printed = Some(self.progress.stage.clone());
        }
    }

    /// Waits for something, and keeps the line moving meanwhile.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                _ = redraw.tick(), if self.is_terminal => self.draw(),
            }
        }
    }

    /// Removes the line.
    pub(super) fn clear(&mut self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }

    fn draw(&mut self) {
        self.frames += 1;
        let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width };
        let line = line(&self.progress, self.started.elapsed(), self.frames, width);
        eprint!("\r{line}\x1b[K");
        let _ = io::stderr().flush();
    }
}

/// Returns the line for a width.
fn line(progress: &Progress, elapsed: Duration, frame: usize, width: usize) -> String {
    let Progress { stage, expected, percent } = progress;
    let working = matches!(stage, Stage::Queued(_) | Stage::Submitting | Stage::Processing);
    let by_time = expected.filter(|_| working).map(|expected| share(elapsed, expected));
    // A server that gives a percentage knows more than a clock.
    let share = percent.filter(|_| working).or(by_time).map(|share| share.min(99));
    let mut text = String::from("[");
    for cell in 0..BAR {
        let filled = match share {
            Some(share) => cell * 100 < usize::from(share) * BAR,
            // A piece that wanders: nothing is known.
            None => (cell + 3 * BAR - frame % BAR) % BAR < 4,
        };
        text.push(if filled { '#' } else { '.' });
    }
    text.push(']');
    if let Some(share) = share {
        let _ = write!(text, " {share:>2} %");
    }
    let _ = write!(text, "  {}, {} s", stage.text(), elapsed.as_secs());
    if let Some(expected) = expected.filter(|_| working) {
        match expected.checked_sub(elapsed).map(|left| left.as_secs()) {
            Some(left) if left > 0 => drop(write!(text, ", about {left} s left")),
            Some(_) | None => text.push_str(", a little longer than usual"),
        }
    }
    // One column less: a full last column makes some terminals begin a line.
    text.chars().take(width.saturating_sub(1)).collect()
}

/// Returns how much of a time has passed, in percent.
fn share(elapsed: Duration, expected: Duration) -> u8 {
    let share = elapsed.as_millis() * 100 / expected.as_millis().max(1);
    u8::try_from(share.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stage: Stage, expected: Option<u64>, percent: Option<u8>, elapsed: u64) -> String {
        let progress = Progress { stage, expected: expected.map(Duration::from_secs), percent };
        line(&progress, Duration::from_secs(elapsed), 0, 120)
    }

    #[test]
    fn the_bar_goes_by_the_server_else_by_time_and_never_to_its_end() {
        let half = shown(Stage::Processing, Some(40), None, 20);
        assert_eq!(half, "[############............] 50 %  being made, 20 s, about 20 s left");
        assert!(shown(Stage::Processing, Some(40), Some(75), 20).starts_with("[##################......] 75 %"));
        let late = shown(Stage::Processing, Some(40), None, 90);
        assert!(late.contains("] 99 %") && late.ends_with("90 s, a little longer than usual"), "{late}");
        let unknown = shown(Stage::Queued(Some(3)), None, None, 1);
        assert_eq!(unknown, "[####....................]  queued, position 3, 1 s");
        assert!(!shown(Stage::Uploading, Some(40), None, 1).contains('%'));
    }

    #[test]
    fn the_line_fits_into_the_terminal() {
        let progress = Progress { stage: Stage::Processing, expected: None, percent: Some(3) };
        assert_eq!(line(&progress, Duration::ZERO, 0, 20).len(), 19);
    }
}
