//! The text at the start, on standard output; logs go to standard error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::budget::{Obstacle, Readiness};
use crate::config::SANDBOX_KEY;
use crate::ledger::quoted;
use crate::model::AccountId;
use crate::operator::reachable_address;
use crate::simulator::Profile;

/// Where a gateway listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) scheme: &'static str,
    pub(super) client: SocketAddr,
    pub(super) operator: SocketAddr,
    /// The playground is served.
    pub(super) has_pages: bool,
}

impl Addresses {
    /// Returns the line of the playground, with what is added to its address.
    fn playground(self, added: &str) -> String {
        let (client, _) = self.origins();
        if self.has_pages { format!("  playground   {client}/{added}\n") } else { String::new() }
    }

    /// Returns the origins at which this machine reaches the listeners.
    fn origins(self) -> (String, String) {
        let (client, operator) = (reachable_address(self.client), reachable_address(self.operator));
        (format!("{}://{client}", self.scheme), format!("http://{operator}"))
    }
}

pub(super) fn gateway(addresses: Addresses, file: Option<&Path>, accounts: &[(&AccountId, Readiness)]) {
    let (client, operator) = addresses.origins();
    let file = file.map(|file| format!("  configuration {}\n", file.display())).unwrap_or_default();
    println!(
        "gptproto-gateway {version}\n\n  \
           OpenAI API   {client}/v1\n\
         {playground}  \
           operator     {operator}/   (status page, health, metrics)\n{file}{accounts}",
        accounts = account_lines(accounts),
        version = env!("CARGO_PKG_VERSION"),
        playground = addresses.playground(""),
    );
}

/// Returns a line for each account: whether it can buy, by a question that is free of charge.
fn account_lines(accounts: &[(&AccountId, Readiness)]) -> String {
    let line = |&(account, known): &(&AccountId, Readiness)| {
        let words = match (known, known.obstacle().map(Obstacle::text)) {
            (_, Some(obstacle)) => format!("CANNOT BUY: {obstacle}"),
            (Readiness::Unasked, None) => "no answer yet; the status page and the log will say".to_owned(),
            (Readiness::Unclear, None) => {
                "the upstream did not say whether it accepts its key; the first purchase will show".to_owned()
            }
            (_, None) => "the upstream accepts its key".to_owned(),
        };
        format!("  account      {account}: {words}\n")
    };
    accounts.iter().map(line).collect()
}

pub(super) fn sandbox(addresses: Addresses, simulator: SocketAddr, profile: Profile, sample: &Path) {
    let (client, operator) = addresses.origins();
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("gptproto-gateway"));
    println!(
        "gptproto-gateway {version}, sandbox: simulated pictures, no account, no cost\n\n  \
           profile      {profile}\n  \
           OpenAI API   {client}/v1\n  \
           key          {SANDBOX_KEY}\n\
         {playground}  \
           operator     {operator}/   (status page, health, metrics)\n  \
           simulator    http://{simulator}/   (/_simulator/counters, /_simulator/refusals)\n\n\
         Edit a picture in another terminal (takes a few seconds):\n\n  \
           {command}\n\n\
         Stop with Ctrl-C.\n",
        version = env!("CARGO_PKG_VERSION"),
        profile = profile.name(),
        playground = addresses.playground(&format!("#key={SANDBOX_KEY}")),
        command = edit_command(&program, sample, &client),
    );
}

/// Returns a command that works in every folder and terminal of this machine.
fn edit_command(program: &Path, sample: &Path, client: &str) -> String {
    let sample = std::path::absolute(sample).unwrap_or_else(|_| sample.to_owned());
    let path = |path: &Path| quoted(&path.to_string_lossy());
    format!(
        "{} edit --url {client}/v1 \\\n    {} 'make it a winter night' \\\n    -o {} --force",
        path(program),
        path(&sample),
        path(&sample.with_file_name("winter-night.png")),
    )
}

pub(super) fn simulator(address: SocketAddr, keys: &[String]) {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("gptproto-gateway"));
    let key = keys.first().map_or("", String::as_str);
    // Without a file and in a folder of its own: what is configured for the service would not fit, and simulated pictures do
    // not belong among paid ones.
    println!(
        "gptproto-gateway {version}, GPTProto simulator\n\n  \
           API          http://{address}/api/v3/... and /v1/images/...\n  \
           key          {keys}\n  \
           control      http://{address}/_simulator/counters, /_simulator/refusals, /_simulator/scenario, /_simulator/faults\n\n\
         Buy a simulated picture in another terminal:\n\n  \
           curl http://{address}/api/v3/openai/gpt-image-2/text-to-image -H {authorization} \\\n    \
             -H 'content-type: application/json' -d '{{\"prompt\": \"a lighthouse\"}}'\n\n\
         Start a gateway on it in another terminal, with the client key {CLIENT_KEY}:\n\n  \
           GPTPROTO_API_KEY={key} GATEWAY_UPSTREAM__BASE_URL=http://{address} \\\n    \
             GATEWAY_CLIENT_KEYS=me:{CLIENT_KEY} GATEWAY_STORAGE__DIRECTORY=./simulated \\\n    \
             {program} serve --config /dev/null\n",
        version = env!("CARGO_PKG_VERSION"),
        keys = keys.join(", "),
        authorization = quoted(&format!("authorization: Bearer {key}")),
        key = quoted(key),
        program = quoted(&program.to_string_lossy()),
    );
}

/// A client key for a gateway in front of the simulator, where nothing can be bought. The sandbox's own is refused there.
const CLIENT_KEY: &str = "sk-try-the-simulator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_has_a_line_that_says_whether_it_can_buy() {
        let (one, two) = (AccountId("one".into()), AccountId("two".into()));
        let lines =
            account_lines(&[(&one, Readiness::Ready), (&two, Readiness::KeyRefused), (&one, Readiness::Unclear)]);
        assert_eq!(
            lines,
            "  account      one: the upstream accepts its key\n  \
               account      two: CANNOT BUY: the upstream refuses the key; replace it\n  \
               account      one: the upstream did not say whether it accepts its key; the first purchase will show\n"
        );
    }

    #[test]
    fn the_command_has_absolute_paths_and_is_quoted() {
        let command = edit_command(Path::new("/opt/my tools/gw"), Path::new("data/sample.png"), "http://127.0.0.1:1");
        let here = std::env::current_dir().unwrap();
        assert!(command.starts_with("'/opt/my tools/gw' edit --url http://127.0.0.1:1/v1 "), "{command}");
        assert!(command.contains(&format!("{}/data/sample.png", here.display())), "{command}");
    }
}
