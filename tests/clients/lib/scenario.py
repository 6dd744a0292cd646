"""Prints a scenario file with the differences of a profile of config/profiles.toml: `scenario.py FILE PROFILE`.

`simulate` takes a file or a profile, and the suites need both: a reset of the simulator returns to what it was started with.
"""

import json
import sys
import tomllib
from pathlib import Path

PROFILES = Path(__file__).resolve().parents[3] / "config" / "profiles.toml"


def main():
    scenario = tomllib.loads(Path(sys.argv[1]).read_text())
    profiles = tomllib.loads(PROFILES.read_text())
    if sys.argv[2] not in profiles:
        sys.exit(f"no profile called {sys.argv[2]}; there are {', '.join(profiles)}")
    merge(scenario, profiles[sys.argv[2]])
    for key, value in scenario.items():
        print(f"{key} = {toml(value)}")


def merge(into, changes):
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


main()
