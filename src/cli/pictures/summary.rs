//! What is printed when the pictures are saved.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::follow::Finished;
use crate::cli::printer::{print, print_error};
use crate::http::gateway_headers::HIT;

/// A piece of work that is done.
#[derive(Debug)]
pub(super) struct Summary {
    files: Vec<PathBuf>,
    finished: Finished,
    took: Duration,
    /// The server is a sandbox.
    is_simulated: bool,
}

impl Summary {
    pub(super) fn new(files: Vec<PathBuf>, finished: Finished, took: Duration, is_simulated: bool) -> Self {
        Self { files, finished, took, is_simulated }
    }

    /// Prints the summary on standard output, and warnings of the text form on standard error.
    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            print(format_args!("{:#}\n", self.json()));
            return;
        }
        print(self.text());
        for warning in &self.finished.warnings {
            print_error(format_args!("warning: {warning}"));
        }
    }

    /// Shows the files with the programs that the system has for them. A missing program is no failure: the files are saved.
    pub(super) fn open(&self) {
        let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        for file in &self.files {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            let mut command = Command::new(program);
            command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if let Err(error) = command.spawn() {
                print_error(format_args!("warning: {} cannot be shown, {program}: {error}", file.display()));
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (file, bytes) in self.files.iter().zip(&self.finished.pictures) {
            let size = size_of(bytes).map(|(width, height)| format!("{width}x{height}, ")).unwrap_or_default();
            let _ = writeln!(text, "{}  ({size}{})", file.display(), amount(bytes.len()));
        }
        let mut parts = vec![self.price(), format!("{:.1} s", self.took.as_secs_f64())];
        parts.extend(self.finished.model.clone());
        parts.extend(self.finished.job.clone());
        let _ = writeln!(text, "{}", parts.join("  ·  "));
        text
    }

    fn price(&self) -> String {
        let Finished { cache, cost_usd, cost_is_estimated, .. } = &self.finished;
        match (cache.as_deref(), cost_usd) {
            (Some(HIT), _) => "$0, from the cache (--fresh makes a new one)".to_owned(),
            (Some("joined"), _) => "$0, joined a job that was under way or done".to_owned(),
            (_, Some(usd)) if self.is_simulated => format!("${usd:.4} simulated"),
            (_, Some(usd)) if *cost_is_estimated => format!("${usd:.4} (estimated)"),
            (_, Some(usd)) => format!("${usd:.4}"),
            (_, None) => "price not reported".to_owned(),
        }
    }

    fn json(&self) -> Value {
        let Finished { pictures, job, model, cost_usd, cost_is_estimated, cache, warnings } = &self.finished;
        let file = |(file, bytes): (&PathBuf, &Vec<u8>)| {
            let size = size_of(bytes);
            json!({
                "path": absolute(file),
                "bytes": bytes.len(),
                "width": size.map(|(width, _)| width),
                "height": size.map(|(_, height)| height),
            })
        };
        json!({
            "files": self.files.iter().zip(pictures).map(file).collect::<Vec<_>>(),
            "prediction": job,
            "model": model,
            "cost_usd": cost_usd,
            "cost_estimated": cost_is_estimated,
            "simulated": self.is_simulated,
            "cache": cache,
            "seconds": (self.took.as_secs_f64() * 1000.0).round() / 1000.0,
            "warnings": warnings,
            "exit_code": 0,
        })
    }
}

fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

fn size_of(bytes: &[u8]) -> Option<(usize, usize)> {
    imagesize::blob_size(bytes).ok().map(|size| (size.width, size.height))
}

/// Returns a number of bytes as a person reads it.
fn amount(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} KB", bytes / 1_000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(cache: &str, cost_usd: Option<f64>) -> Summary {
        let finished = Finished {
            pictures: vec![vec![0; 1_250_000]],
            job: Some("pred_1".to_owned()),
            model: Some("gpt-image-2".to_owned()),
            cost_usd,
            cost_is_estimated: false,
            cache: Some(cache.to_owned()),
            warnings: Vec::new(),
        };
        Summary::new(vec![PathBuf::from("out.png")], finished, Duration::from_millis(2340), false)
    }

    #[test]
    fn the_text_has_the_file_the_price_the_time_and_the_job() {
        let bought = summary("miss", Some(0.0421)).text();
        assert_eq!(bought, "out.png  (1.2 MB)\n$0.0421  ·  2.3 s  ·  gpt-image-2  ·  pred_1\n");
        assert!(summary("hit", Some(0.0)).text().contains("$0, from the cache"));
        assert!(summary("joined", Some(0.0)).text().contains("$0, joined a job"));
        assert!(summary("miss", None).text().contains("price not reported"));
        assert_eq!(summary("miss", Some(0.5)).json()["cost_usd"], 0.5);
        let simulated = Summary { is_simulated: true, ..summary("miss", Some(0.0192)) };
        assert!(simulated.text().contains("$0.0192 simulated") && simulated.json()["simulated"] == true);
    }
}
