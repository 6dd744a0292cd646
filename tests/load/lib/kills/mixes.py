"""The mixes of the kill loop: who asks for what, of a gateway with which settings, and what happens to it meanwhile."""

import random
import shutil
from dataclasses import dataclass, field

from lib.clients import ClientThreads
from lib.kills import helper as helpers
from lib.kills.kinds import FAILING, Asynchronous, Held, Keyed, Linked, Notified, Plain, Streaming
from lib.project import ROOT, give_up
from lib.rig import ONE, UPSTREAM_KEY, Rig

# Fast, and with pauses that lengthen the short phases of a purchase: a download comes in pieces.
SCENARIO = f"""
[life]
low_ms = [40, 220]
medium_ms = [40, 220]
size_counts = "no"
outcome_by_word = {{ "{FAILING}" = "failed_provider" }}
[limits]
poll_interval_min_ms = 0
[files]
piece_pause_ms = 2
"""
SECOND_KEY = f"{UPSTREAM_KEY}-second"
LARGE_BYTES = 20_000_000
# The pictures of SCENARIO have about 150 KB; where this is not set they are files.
PICTURES_IN_JOURNAL = {"GATEWAY_STORAGE__JOURNAL_PICTURE_BYTES_MAX": "250000"}


@dataclass(frozen=True)
class Mix:
    name: str
    # One client of each, at the same time.
    kinds: tuple
    # Of one operation, each a purchase of its own.
    pictures: int = 1
    cache: str = "on"
    settings: dict = field(default_factory=dict)
    # What differs from SCENARIO.
    scenario: dict = field(default_factory=dict)
    upstream_keys: tuple = (UPSTREAM_KEY,)
    # "kill", "pause" or "clock".
    disturbance: str = "kill"
    # The share of submits whose answer is lost.
    lost_answers: float = 0.01
    # The names of the accounts, as many as keys; and the share of the disturbances before which one of them is refused.
    accounts: tuple = ()
    refusals: float = 0.0
    # How much longer than with small pictures everything takes, and its share of the kills relative to the others'.
    slowness: float = 1.0
    share: float = 1.0
    # Delivered results may be deleted, the oldest first.
    evicts: bool = False


class LargeAsking(Plain):
    leaves_after_s = (0.05, 1.5)
    # Older results may have been deleted.
    repeated_max = 2


class Waiting(Plain):
    """A client that leaves often, and comes back only later: its result is unclaimed meanwhile."""
    leaves, reads_late = 0.4, 0.1
    leaves_after_s, returns_after_s = (0.02, 0.1), (0.5, 4.0)


class WaitingKeyed(Keyed):
    leaves, reads_late, seconds = 0.3, 0.1, 0.2
    leaves_after_s, returns_after_s = (0.02, 0.1), (0.5, 4.0)


class Impatient(Plain):
    """A client whose time-out is shorter than most pauses."""
    leaves = 0.3
    leaves_after_s, returns_after_s = (0.1, 0.8), (0.01, 0.1)


MIXES = {mix.name: mix for mix in (
    Mix("plain", (Plain,) * 4, settings=PICTURES_IN_JOURNAL),
    Mix("several", (Plain, Plain, Streaming, Asynchronous), pictures=3, lost_answers=0.04,
        settings={"GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": "8"}),
    Mix("keys", (Keyed,) * 4, cache="off"),
    Mix("streams", (Streaming,) * 4),
    Mix("webhooks", (Notified,) * 4),
    Mix("held", (Held,) * 4),
    Mix("accounts", (Plain,) * 4, upstream_keys=(UPSTREAM_KEY, SECOND_KEY), accounts=("one", "two"), refusals=0.4,
        settings={"GATEWAY_UPSTREAM__ACCOUNT_COOLDOWN_MAX_S": "5", "GATEWAY_UPSTREAM__PUSHBACK_MS": "100",
                  "GATEWAY_UPSTREAM__PUSHBACK_MAX_S": "1", "GATEWAY_UPSTREAM__LEARNING": "off",
                  "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": "2"}),
    Mix("links", (Linked,) * 4),
    Mix("large", (LargeAsking,) * 3, slowness=6.0, share=0.65, evicts=True,
        settings={"GATEWAY_STORAGE__RESULTS_BYTES_MAX": "400000000", "GATEWAY_STORAGE__EVICTION_INTERVAL_S": "2"},
        scenario={"pictures": {"padding_bytes": LARGE_BYTES, "kept": 2}, "files": {"piece_pause_ms": 1}}),
    # Scaled by 20, as the pauses are.
    Mix("pauses", (Plain, Impatient, Keyed, Notified), disturbance="pause", lost_answers=0.0,
        settings={"GATEWAY_UPSTREAM__SUBMIT_TIMEOUT_S": "1", "GATEWAY_UPSTREAM__POLL_TIMEOUT_S": "1",
                  "GATEWAY_UPSTREAM__DOWNLOAD_IDLE_TIMEOUT_S": "1", "GATEWAY_UPSTREAM__CONNECT_TIMEOUT_S": "1"}),
    Mix("clock", (Waiting, WaitingKeyed, Notified, Plain), disturbance="clock",
        settings={"GATEWAY_STORAGE__EVICTION_INTERVAL_S": "1"}),
    Mix("together", (Plain, Keyed, Streaming, Notified, Held, Linked), lost_answers=0.02),
)}


class Stage:
    """The rig of a mix, its clients, and the server beside them."""

    def __init__(self, mix, arguments, seed):
        self.mix = mix
        self.helper = helpers.Helper(seed)
        workers = len(mix.kinds)
        settings = {
            # Fewer places than clients, so that intents wait.
            "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": str(workers - 1),
            "GATEWAY_CACHE__MODE": mix.cache,
            **mix.settings, **helpers.settings(self.helper),
        }
        if mix.accounts:
            settings |= {"GPTPROTO_API_KEY": None,
                         "GPTPROTO_API_KEYS": ",".join(f"{name}:{key}" for name, key in zip(mix.accounts, mix.upstream_keys))}
        if any(issubclass(kind, Linked) for kind in mix.kinds):
            # The addresses of the pictures, like the simulator that fetches them, are on this machine.
            settings |= {"GATEWAY_UPSTREAM__INPUTS": "links", "GATEWAY_SERVER__PICTURE_ADDRESSES": "any"}
        self.rig = Rig(arguments.binary, workers, SCENARIO, settings, mix.pictures, mix.upstream_keys, arguments.profile)
        self.rig.helper = self.helper.url
        if "GATEWAY_UPSTREAM__INPUTS" in settings:
            self.rig.environment["GATEWAY_SERVER__PUBLIC_URL"] = f"http://127.0.0.1:{self.rig.port}"
        if mix.pictures > 1:
            # A catalogue in which every model makes one picture a purchase; those that do are slow to draw.
            lines = (ROOT / "config" / "models.toml").read_text().splitlines(keepends=True)
            catalogue = self.rig.folder / "models.toml"
            catalogue.write_text("".join(line for line in lines if not line.startswith("n_max = ")))
            self.rig.environment["GATEWAY_MODELS__FILE"] = str(catalogue)
            self.rig.fields = ONE | {"n": str(mix.pictures)}
        self.rig.call_simulator("PUT", "/_simulator/scenario", mix.scenario)
        self.seed = seed
        # One account in the whole run: a job that met the refusal of each, one after the other, would rightly fail.
        self.refused_key = random.Random(seed).choice(mix.upstream_keys)
        self.clients = None

    def begin(self):
        """Starts the gateway and the clients."""
        self.rig.start()
        share = 0.3 if self.mix.cache == "on" or all(kind.keyed for kind in self.mix.kinds) else 0.0
        self.clients = ClientThreads([kind(self.rig, number, self.seed) for number, kind in enumerate(self.mix.kinds)], share)

    def vary(self, rng):
        """Makes the simulator slow, forgetful or unwilling, at random, until the next kill."""
        lost = self.mix.lost_answers
        scenario = {"submit": {"delay_ms": rng.choice([0, 0, 0, 5, 30])},
                    "faults": {"submit": "drop_after" if lost else "none", "submit_share": lost}}
        if self.mix.refusals:
            # In the ways in which a service refuses an account: its key, its balance, its rate.
            keys, one = self.mix.upstream_keys, self.refused_key
            how = rng.choice(("revoked", "empty", "rate")) if rng.random() < self.mix.refusals else "none"
            scenario["auth"] = {"revoked": [one] if how == "revoked" else []}
            scenario["balance"] = {"empty_keys": [one] if how == "empty" else []}
            scenario["limits"] = {"keys": {key: {"submits_per_minute": int(how == "rate" and key == one)} for key in keys}}
        self.rig.call_simulator("PUT", "/_simulator/scenario", scenario)

    def calm(self):
        """Ends all trouble at the upstream."""
        self.rig.call_simulator("PUT", "/_simulator/scenario", {
            "submit": {"delay_ms": 0}, "faults": {"submit": "none"}, "files": {"piece_pause_ms": 0},
            "auth": {"revoked": []}, "balance": {"empty_keys": []},
            "limits": {"keys": {key: {"submits_per_minute": 0} for key in self.mix.upstream_keys}}})

    def close(self, keep):
        self.helper.close()
        if "pictures" in self.mix.scenario and not keep:
            # Large pictures are not kept for the scan.
            shutil.rmtree(self.rig.directory / "results", ignore_errors=True)
        self.rig.close(keep)


def named(name):
    """Returns the mixes of `--mix NAME`."""
    if name == "all":
        return list(MIXES.values())
    if name not in MIXES:
        give_up(f"there is no mix {name}: all, {', '.join(MIXES)}")
    return [MIXES[name]]
