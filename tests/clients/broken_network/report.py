"""Adds up what the broken network cost, and judges it.

    python3 report.py FOLDER SIMULATOR SYNCHRONOUS

The folder holds CLIENT.TARGET.json of the callers, and TARGET.network and TARGET.log for what is to be explained.
"""

import collections
import json
import pathlib
import sys
import urllib.request

TARGETS = {
    "on": "gateway, cache on",
    "off": "gateway, cache off",
    "without": "a synchronous endpoint without the gateway",
}
CLIENTS = {"python": "openai (Python)", "node": "openai (Node)"}
EXPLAINED_MAX = 5


def ask(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def bought_in_simulator(simulator):
    bought = collections.defaultdict(list)
    for prediction in ask(f"{simulator}/_simulator/predictions"):
        prompt = prediction["parameters"]["prompt"]
        bought[prompt.removeprefix("paint it blue: ").removesuffix(", please")].append(prediction)
    return bought


def overtaken(went):
    """How many requests of each nonce arrived whole only after the client had asked again and that had arrived.

    Nothing tells such a late one from a second call that is meant: it says of itself that it is the first try, and its
    client, which has long been gone, looks connected to the gateway. With the cache off it buys.
    """
    whole = collections.defaultdict(list)
    for one in went:
        if one["upload"] == "whole" and one["retry"] is not None:
            whole[one["nonce"]].append((one["retry"], one["whole_at"]))
    return {
        nonce: sum(any(retry < later and at > earlier for later, earlier in all_of_it) for retry, at in all_of_it)
        for nonce, all_of_it in whole.items()
    }


def explain(nonce, target, predictions, folder):
    print(f"\n{nonce} was bought {len(predictions)} times:")
    for prediction in predictions:
        print(f"  bought   {prediction['id']} at {prediction['created']}, {prediction['state']}")
    for went in lines(folder / f"{target}.network"):
        if went["nonce"] == nonce:
            print(f"  network  {json.dumps(went)}")
    names = [prediction["id"] for prediction in predictions]
    for line in (folder / f"gateway-{target}.log").read_text().splitlines():
        if any(name in line for name in names):
            print(f"  gateway  {line[:600]}")


def main(folder, simulator, synchronous):
    folder = pathlib.Path(folder)
    predictions = bought_in_simulator(simulator)
    bought = {nonce: len(found) for nonce, found in predictions.items()} | ask(f"{synchronous}/purchases")
    form = "{:<44} {:<16} {:>5} {:>9} {:>6} {:>9} {:>9} {:>10} {:>9} {:>9}"
    print(form.format("", "", "calls", "succeeded", "failed", "requests", "purchases", "duplicates", "per 1,000", "overtaken"))
    duplicated, verdicts, harm, causes, known = [], [], [], [], 0
    for target, title in TARGETS.items():
        went = lines(folder / f"{target}.network")
        late = overtaken(went)
        faults = collections.Counter(one["fault"] for one in went)
        harm.append(f"{title}: {len(went)} connections: " + ", ".join(f"{n} {fault}" for fault, n in faults.most_common()))
        for client, name in CLIENTS.items():
            outcomes = json.loads((folder / f"{client}.{target}.json").read_text())
            calls, succeeded = sum(outcomes.values()), outcomes.pop("picture", 0)
            own = {nonce: n for nonce, n in bought.items() if nonce.startswith(f"nonce-{client}-{target}-")}
            purchases, duplicates = sum(own.values()), sum(own.values()) - len(own)
            requests = sum((one["nonce"] or "").startswith(f"nonce-{client}-{target}-") for one in went)
            excused = sum(min(n - 1, late.get(nonce, 0)) for nonce, n in own.items())
            print(form.format(title, name, calls, succeeded, calls - succeeded, requests, purchases, duplicates,
                              f"{duplicates * 1000 / calls:.1f}", excused))
            causes.append(f"{title}, {name}, failed: " + (", ".join(f"{n} {why}" for why, n in outcomes.items()) or "none"))
            if succeeded > len(own):
                verdicts.append(f"{title}, {name}: more pictures came than were bought; the count is wrong")
            if target == "without":
                if duplicates == 0:
                    verdicts.append(f"{title}, {name}: nothing was bought twice, so this network proves nothing")
            elif duplicates > (excused if target == "off" else 0):
                verdicts.append(f"{title}, {name}: {duplicates} bought again, {excused} of them by overtaken requests")
                duplicated += [(nonce, target) for nonce, n in own.items() if n > 1]
            else:
                known += duplicates
    print("overtaken: those duplicates whose request arrived whole only after the client's own retry had arrived")
    print("\n" + "\n".join(causes) + "\n")
    print("\n".join(harm))
    for nonce, target in duplicated[:EXPLAINED_MAX]:
        explain(nonce, target, predictions[nonce], folder)
    if verdicts:
        sys.exit("\nFAILED\n" + "\n".join(verdicts))
    print(f"\nthe gateway bought nothing twice but {known} by overtaken requests, with the cache off: the known limit"
          if known else "\nthe gateway bought nothing twice; the same network, without it, did")


main(*sys.argv[1:])
