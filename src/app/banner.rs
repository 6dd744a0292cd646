//! The text at the start, on standard output; logs go to standard error.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::SANDBOX_KEY;
use crate::operator::reachable_address;
use crate::simulator::Profile;

pub(super) fn gateway(scheme: &str, client: SocketAddr, operator: SocketAddr) {
    let (client, operator) = (reachable_address(client), reachable_address(operator));
    println!(
        "gptproto-gateway {version}\n\n  \
           OpenAI API   {scheme}://{client}/v1\n  \
           operator     http://{operator}/   (status page, health, metrics)\n",
        version = env!("CARGO_PKG_VERSION"),
    );
}

pub(super) fn sandbox(
    scheme: &str,
    client: SocketAddr,
    operator: SocketAddr,
    simulator: SocketAddr,
    profile: Profile,
    sample: &Path,
) {
    let (client, operator) = (reachable_address(client), reachable_address(operator));
    println!(
        "gptproto-gateway {version}, sandbox: simulated pictures, no account, no cost\n\n  \
           profile      {profile}\n  \
           OpenAI API   {scheme}://{client}/v1\n  \
           key          {SANDBOX_KEY}\n  \
           operator     http://{operator}/   (status page, health, metrics)\n  \
           simulator    http://{simulator}/   (/_simulator/counters, /_simulator/refusals)\n\n\
         Edit a picture and save it (takes a few seconds):\n\n  \
           curl -s {scheme}://{client}/v1/images/edits -H 'Authorization: Bearer {SANDBOX_KEY}' \\\n    \
             -F image=@'{sample}' -F prompt='make it a winter night' \\\n    \
             | grep -o '\"b64_json\":\"[^\"]*' | cut -d'\"' -f4 | base64 -d > edited.png\n\n\
         Stop with Ctrl-C.\n",
        version = env!("CARGO_PKG_VERSION"),
        profile = profile.name(),
        sample = sample.display(),
    );
}

pub(super) fn simulator(address: SocketAddr, keys: &[String]) {
    println!(
        "gptproto-gateway {version}, GPTProto simulator\n\n  \
           API          http://{address}/api/v3/... and /v1/images/...\n  \
           key          {keys}\n  \
           control      http://{address}/_simulator/counters, /_simulator/refusals, /_simulator/scenario, /_simulator/faults\n\n\
         Point a gateway at it:\n\n  \
           GPTPROTO_API_KEY={key} GATEWAY_UPSTREAM__BASE_URL=http://{address} gptproto-gateway serve\n",
        version = env!("CARGO_PKG_VERSION"),
        keys = keys.join(", "),
        key = keys.first().map_or("", String::as_str),
    );
}
