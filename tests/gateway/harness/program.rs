//! The program itself, with the environment that a test gives it and nothing else.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use gptproto_gateway::config::Environment;
use serde_json::Value;
use tempfile::TempDir;

use super::gateway::{environment, page};
use super::{ALICE, Client, Upstream, output, until};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A directory and an environment to run the program in.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) directory: Arc<TempDir>,
    pub(crate) environment: Environment,
    /// The limit of open files; `None`: that of the test.
    files_max: Option<u32>,
}

impl Program {
    /// With an empty environment.
    pub(crate) fn bare() -> Self {
        Self { directory: Arc::new(output::directory()), environment: Environment::new(), files_max: None }
    }

    /// Configured to serve with `upstream`.
    pub(crate) fn on(upstream: &Upstream) -> Self {
        Self::at(&upstream.origin, &[("log.filter", "trace")])
    }

    /// Configured to serve with the upstream at `origin`, with some keys changed.
    pub(crate) fn at(origin: &str, changes: &[(&str, &str)]) -> Self {
        let mut program = Self::bare();
        program.environment = environment(origin, &program.directory, changes);
        program
    }

    pub(crate) fn without(mut self, variable: &str) -> Self {
        self.environment.remove(variable);
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn files_max(mut self, count: u32) -> Self {
        self.files_max = Some(count);
        self
    }

    /// Writes a file into the program's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_gptproto-gateway");
        let mut command = match self.files_max {
            Some(count) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg("-c").arg(format!("ulimit -n {count} && exec \"$0\" \"$@\"")).arg(program);
                shell
            }
            None => Command::new(program),
        };
        command.args(arguments).env_clear().envs(&self.environment).current_dir(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Run {
        self.run_with_input(arguments, "").await
    }

    /// Runs the program to its end, with a text on its standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut command = self.command(arguments);
        if !input.is_empty() {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(input.as_bytes()).unwrap();
            file.rewind().unwrap();
            command.stdin(file);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        output::keep("runs", &[output.stdout.as_slice(), &output.stderr].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Run { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs the program to its end without a reader of what it writes. Returns the exit code.
    pub(crate) async fn run_unread(&self, arguments: &[&str]) -> Option<i32> {
        let mut command = self.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap().code()
    }

    /// Starts the program as a gateway, and waits for the addresses it prints.
    pub(crate) async fn serve(&self, arguments: &[&str]) -> Serving {
        self.start(arguments, "operator").await
    }

    /// Starts the program, and does not wait for it.
    pub(crate) async fn begin(&self, arguments: &[&str]) -> Serving {
        self.start(arguments, "").await
    }

    /// Starts the program as a simulator.
    pub(crate) async fn serve_simulator(&self) -> Serving {
        self.start(&["simulate", "--listen", "127.0.0.1:0"], "control").await
    }

    /// Starts the program as a gateway, or returns how it ended instead of serving.
    pub(crate) async fn try_serve(&self, arguments: &[&str]) -> Result<Serving, Run> {
        self.try_start(arguments, "operator").await
    }

    async fn start(&self, arguments: &[&str], announced: &str) -> Serving {
        self.try_start(arguments, announced).await.unwrap_or_else(|run| panic!("it ended: {run:?}"))
    }

    /// Starts the program as a gateway with sockets that it inherits, three at most, as systemd does: their descriptors begin
    /// with 3. Returns how it ended where it does not serve.
    pub(crate) async fn serve_inherited(&self, sockets: Vec<OwnedFd>) -> Result<Serving, Run> {
        // A child inherits only its three standard streams, so they carry the sockets to a shell, which moves them.
        const MOVE: &str = "exec 3<&0 4<&1 5<&2 </dev/null >\"$STDOUT\" 2>\"$STDERR\"
            unset STDOUT STDERR; export LISTEN_PID=\"${LISTEN_PID-$$}\"; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", MOVE, "sh", env!("CARGO_BIN_EXE_gptproto-gateway"), "serve"]);
        command.env_clear().envs(&self.environment).current_dir(self.directory.path());
        command.env("LISTEN_FDS", sockets.len().to_string());
        let [stdout, stderr] = self.outputs();
        command.env("STDOUT", &stdout).env("STDERR", &stderr);
        for path in [&stdout, &stderr] {
            File::create(path).unwrap();
        }
        let mut sockets = sockets.into_iter();
        let mut next = || sockets.next().map_or_else(Stdio::null, Stdio::from);
        command.stdin(next()).stdout(next()).stderr(next());
        self.announced(command, "operator").await
    }

    fn outputs(&self) -> [PathBuf; 2] {
        ["stdout", "stderr"].map(|name| self.directory.path().join(name))
    }

    async fn try_start(&self, arguments: &[&str], announced: &str) -> Result<Serving, Run> {
        let [stdout, stderr] = self.outputs();
        let mut command = self.command(arguments);
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        self.announced(command, announced).await
    }

    /// Spawns a command that writes to [`Self::outputs`], and waits for its banner or its end.
    async fn announced(&self, mut command: Command, announced: &str) -> Result<Serving, Run> {
        let [stdout, stderr] = self.outputs();
        let child = command.spawn().unwrap();
        let mut serving = Serving { child, stdout, stderr, _directory: Arc::clone(&self.directory) };
        let mut ended = None;
        until("the program prints its banner", async || {
            ended = serving.ended();
            ended.is_some() || serving.banner().contains(announced)
        })
        .await;
        match ended {
            None => Ok(serving),
            Some(status) => Err(Run { code: status.code(), stdout: serving.banner(), stderr: serving.log() }),
        }
    }
}

/// The program while it serves. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    _directory: Arc<TempDir>,
}

impl Serving {
    pub(crate) fn banner(&self) -> String {
        read(&self.stdout)
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        read(&self.stderr)
    }

    /// The word after a label at the start of a line of the banner.
    pub(crate) fn banner_value(&self, word: &str) -> String {
        let banner = self.banner();
        let line = banner.lines().find_map(|line| line.trim().strip_prefix(word));
        let line = line.unwrap_or_else(|| panic!("no {word} in {banner}"));
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// `host:port` of the client listener.
    pub(crate) fn address(&self) -> String {
        self.banner_value("OpenAI API").replace("http://", "").replace("/v1", "")
    }

    pub(crate) fn client(&self, key: &str) -> Client {
        Client::new(self.address(), key)
    }

    pub(crate) fn alice(&self) -> Client {
        self.client(ALICE)
    }

    /// The id of its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn operator(&self) -> String {
        self.banner_value("operator").trim_end_matches('/').to_owned()
    }

    /// Waits until it polls this number of purchases, whose ids are then in the journal.
    pub(crate) async fn follows(&self, count: u64) {
        until("the program follows the prediction", async || self.status("engine", "polling").await == count).await;
    }

    /// Returns how the program has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Returns status and text of a page of the operator listener.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        page(&self.operator(), path).await
    }

    /// Returns one number of the status page: `engine`, `waiters`.
    pub(crate) async fn status(&self, part: &str, name: &str) -> u64 {
        let status: Value = serde_json::from_str(&page(&self.operator(), "/status.json").await.1).unwrap();
        status[part][name].as_u64().unwrap()
    }

    /// Returns how many requests wait for a job.
    pub(crate) async fn waiters(&self) -> u64 {
        self.status("engine", "waiters").await
    }

    /// Returns the file that it logs to.
    pub(crate) fn stderr(&self) -> PathBuf {
        self.stderr.clone()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; returns the exit code.
    pub(crate) async fn exit_code(mut self) -> Option<i32> {
        let mut code = None;
        until("the program has stopped", async || match self.child.try_wait().unwrap() {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        })
        .await;
        code
    }

    /// Sends SIGTERM and waits for the end; returns the exit code.
    pub(crate) async fn terminate(self) -> Option<i32> {
        self.signal("TERM");
        self.exit_code().await
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
