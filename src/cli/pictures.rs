//! The terminal client: `edit`, `generate` and `fetch`, for the gateway of this machine, for another one, and for servers that
//! have `OpenAI`'s API and nothing else.
//!
//! What can be known to fail is checked before anything is sent. A request has an idempotency key, so that it can be repeated
//! when its connection is lost, and a gateway is asked to accept it as a job (`Prefer: respond-async`) that is followed by its
//! id. A server that ignores this responds with the pictures themselves, and its requests are never repeated.

use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use super::printer::program;
use crate::config::Environment;
use crate::ledger::quoted;

mod arguments;
mod client;
mod exit;
mod follow;
mod form;
mod inputs;
mod output;
mod progress;
mod summary;
mod target;
mod terminal_key;

pub use arguments::{EditArguments, FetchArguments, GenerateArguments};
pub(super) use target::base_of;

use arguments::{RequestArguments, ResultArguments, ServerArguments};
use client::GatewayClient;
use exit::{Failure, FailureKind};
use follow::{Follower, is_id};
use form::PictureForm;
use output::Output;
use progress::ProgressLine;
use summary::Summary;

/// Edits pictures. Returns the exit code.
pub async fn edit(arguments: EditArguments, environment: &Environment) -> u8 {
    let EditArguments { words, mask, request, result, server } = arguments;
    let command = Command { result: &result, server: &server, environment };
    let prepared = inputs::of_edit(&words, mask.as_deref()).and_then(|inputs| {
        let name = format!("{}-edited", inputs.stem());
        command.prepare(&name, &request, PictureForm::new(inputs, &request))
    });
    command.run(prepared).await
}

/// Makes pictures from a prompt. Returns the exit code.
pub async fn generate(arguments: GenerateArguments, environment: &Environment) -> u8 {
    let GenerateArguments { prompt, request, result, server } = arguments;
    let command = Command { result: &result, server: &server, environment };
    let prepared = inputs::of_generation(&prompt)
        .and_then(|inputs| command.prepare("generated", &request, PictureForm::new(inputs, &request)));
    command.run(prepared).await
}

/// Waits for a job and saves its pictures. Returns the exit code.
pub async fn fetch(arguments: FetchArguments, environment: &Environment) -> u8 {
    let FetchArguments { id, format, result, server } = arguments;
    let command = Command { result: &result, server: &server, environment };
    let prepared = if is_id(&id) {
        let output = Output::planned(result.output.as_deref(), &id, format, 1, result.force);
        output.map(|output| {
            let query = output.format().map(|format| format!("?output_format={}", format.name())).unwrap_or_default();
            (Work::Fetch(id, query), output)
        })
    } else {
        Err(format!("{id:?} is no id of a job; it begins with pred_"))
    };
    command.run(prepared.map_err(Failure::usage)).await
}

/// What a command asks the server for.
#[derive(Debug)]
enum Work {
    Make(PictureForm),
    /// The id of a job, and the query that asks for an encoding.
    Fetch(String, String),
}

/// The arguments that all three commands have.
#[derive(Clone, Copy, Debug)]
struct Command<'a> {
    result: &'a ResultArguments,
    server: &'a ServerArguments,
    environment: &'a Environment,
}

impl Command<'_> {
    /// Plans the files of a request.
    ///
    /// # Errors
    ///
    /// Why they could not be written.
    fn prepare(&self, name: &str, request: &RequestArguments, form: PictureForm) -> Result<(Work, Output), Failure> {
        let ResultArguments { output, force, .. } = self.result;
        let output = Output::planned(output.as_deref(), name, request.format, request.n, *force);
        let output = output.map_err(Failure::usage)?;
        let form = form.with_format(output.format());
        Ok((Work::Make(form), output))
    }

    async fn run(self, prepared: Result<(Work, Output), Failure>) -> u8 {
        let mut progress = ProgressLine::new(self.environment);
        let ended = match prepared {
            Ok((work, output)) => self.work(work, &output, &mut progress).await,
            Err(failure) => Err(failure),
        };
        progress.clear();
        match ended {
            Ok(summary) => {
                summary.print(self.result.json);
                if self.result.open {
                    summary.open();
                }
                0
            }
            Err(failure) => {
                failure.print(self.result.json);
                failure.exit_code()
            }
        }
    }

    async fn work(&self, work: Work, output: &Output, progress: &mut ProgressLine) -> Result<Summary, Failure> {
        let started = Instant::now();
        let target = target::resolve(self.server, self.environment)?;
        let client = GatewayClient::connect(target, progress).await?;
        let ended = self.follow(&client, &work, output, progress, started).await;
        // What may go on needs its key: a purchase that waits is cancelled when that ends.
        if !ended.as_ref().is_err_and(|failure| failure.kind == FailureKind::MaybeBought) {
            client.end_key();
        }
        ended
    }

    async fn follow(
        &self,
        client: &GatewayClient,
        work: &Work,
        output: &Output,
        progress: &mut ProgressLine,
        started: Instant,
    ) -> Result<Summary, Failure> {
        let hint = self.fetch_hint(client, output);
        let mut follower = Follower::new(client, progress, hint.clone());
        let finished = tokio::select! {
            finished = follower.finish(work) => finished,
            () = stop_requested() => Err(follower.interrupted()),
        }?;
        let files = output.write(&finished.pictures).map_err(|problem| finished.unsaved(&problem, &hint))?;
        Ok(Summary::new(files, finished, started.elapsed(), client.is_sandbox()))
    }

    /// Returns how a job of this command is fetched by another one.
    fn fetch_hint(&self, client: &GatewayClient, output: &Output) -> FetchHint {
        let server = match &self.server.config {
            _ if self.server.url.is_some() => format!(" --url {}", quoted(client.base().as_str())),
            Some(config) => format!(" --config {}", quoted(&config.to_string_lossy())),
            None => String::new(),
        };
        FetchHint { program: program(self.environment), arguments: format!("{}{server}", output.arguments()) }
    }
}

/// Waits for Ctrl-C or SIGTERM. Where signals cannot be received, they end the process as usual.
async fn stop_requested() {
    let [interrupt, terminate] = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// How a job is fetched with another command.
#[derive(Clone, Debug)]
struct FetchHint {
    program: String,
    arguments: String,
}

impl FetchHint {
    /// Returns the command for a job.
    fn command(&self, id: &str) -> String {
        format!("{} fetch {id}{}", self.program, self.arguments)
    }
}
