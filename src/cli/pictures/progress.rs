//! The line that shows how far a job is: redrawn on a terminal, and elsewhere one line for each stage.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use super::exit::printable;
use crate::cli::printer::print_error;
use crate::config::Environment;

const REDRAW: Duration = Duration::from_millis(120);
/// Cells of the bar.
const BAR: usize = 24;
/// The width of a terminal that does not know its own.
const WIDTH: usize = 80;
/// A narrower terminal has no room for the bar beside its text.
const BAR_WIDTH_MIN: usize = 60;

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
    /// When the job was accepted, by the clock of this machine; `None`: by this command.
    pub(super) begun: Option<Instant>,
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
    pub(super) fn new(environment: &Environment) -> Self {
        let is_dumb = environment.get("TERM").is_some_and(|terminal| terminal == "dumb");
        Self {
            is_terminal: io::stderr().is_terminal() && !is_dumb,
            started: Instant::now(),
            progress: Progress { stage: Stage::Connecting, begun: None, expected: None, percent: None },
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
                print_error(format_args!("{}{}", self.progress.stage.text(), expected.unwrap_or_default()));
            }
            self.printed = Some(self.progress.stage.clone());
        }
    }

    /// Names the job where lines stay: whatever ends this command, it can be fetched.
    pub(super) fn job(&self, id: &str) {
        if !self.is_terminal {
            print_error(format_args!("job {id}"));
        }
    }

    /// Waits for something, and keeps the line moving meanwhile.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut frames = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => return done,
                _ = frames.tick(), if self.is_terminal => self.draw(),
            }
        }
    }

    /// Removes the line.
    pub(super) fn clear(&mut self) {
        if self.is_terminal {
            redraw("");
        }
    }

    fn draw(&mut self) {
        self.frames += 1;
        let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(WIDTH, |size| usize::from(size.ws_col));
        let width = if width == 0 { WIDTH } else { width };
        // A job that is fetched or joined is older than the command.
        let age = self.progress.begun.unwrap_or(self.started).elapsed();
        let line = line(&self.progress, age, self.started.elapsed(), self.frames, width);
        redraw(&line);
    }
}

/// Draws over the line that is there. A terminal that is gone ends no work.
fn redraw(line: &str) {
    let _ = io::stderr().write_all(format!("\r{line}\x1b[K").as_bytes());
}

/// Returns the line for a width. `age` is that of the job, and `elapsed` the time of the command.
fn line(progress: &Progress, age: Duration, elapsed: Duration, frame: usize, width: usize) -> String {
    let Progress { stage, expected, percent, .. } = progress;
    let working = matches!(stage, Stage::Queued(_) | Stage::Submitting | Stage::Processing);
    let by_time = expected.filter(|_| working).map(|expected| share(age, expected));
    // A server that gives a percentage knows more than a clock.
    let share = percent.filter(|_| working).or(by_time).map(|share| share.min(99));
    let mut text = String::new();
    if width >= BAR_WIDTH_MIN {
        text.push('[');
        for cell in 0..BAR {
            let filled = match share {
                Some(share) => cell * 100 < usize::from(share) * BAR,
                // A piece that wanders: nothing is known.
                None => (cell + 3 * BAR - frame % BAR) % BAR < 4,
            };
            text.push(if filled { '#' } else { '.' });
        }
        text.push_str("] ");
    }
    if let Some(share) = share {
        let _ = write!(text, "{share:>2} %  ");
    } else if !text.is_empty() {
        text.push(' ');
    }
    let _ = write!(text, "{}, {} s", stage.text(), elapsed.as_secs());
    if let Some(expected) = expected.filter(|_| working) {
        match expected.checked_sub(age).map(|left| left.as_secs()) {
            Some(left) if left > 0 => drop(write!(text, ", about {left} s left")),
            Some(_) | None => text.push_str(", a little longer than usual"),
        }
    }
    // One column less: a full last column makes some terminals begin a line.
    text.chars().take(width.saturating_sub(1)).collect()
}

/// Returns how much of a time has passed, in percent.
fn share(age: Duration, expected: Duration) -> u8 {
    let share = age.as_millis() * 100 / expected.as_millis().max(1);
    u8::try_from(share.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stage: Stage, expected: Option<u64>, percent: Option<u8>, elapsed: u64) -> String {
        let progress = Progress { stage, begun: None, expected: expected.map(Duration::from_secs), percent };
        line(&progress, Duration::from_secs(elapsed), Duration::from_secs(elapsed), 0, 120)
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
        let expected = Some(Duration::from_secs(40));
        let progress = Progress { stage: Stage::Processing, begun: None, expected, percent: Some(3) };
        let narrow = |width| line(&progress, Duration::ZERO, Duration::ZERO, 0, width);
        assert_eq!(narrow(40), " 3 %  being made, 0 s, about 40 s left", "the time matters more than the bar");
        assert_eq!(narrow(20).len(), 19);
    }

    #[test]
    fn an_older_job_has_the_share_and_the_rest_of_its_own_age() {
        let expected = Some(Duration::from_secs(40));
        let progress = Progress { stage: Stage::Processing, begun: None, expected, percent: None };
        let line = line(&progress, Duration::from_secs(30), Duration::from_secs(2), 0, 120);
        assert!(line.ends_with("] 75 %  being made, 2 s, about 10 s left"), "{line}");
    }
}
