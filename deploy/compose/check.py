"""Checks deploy/compose. Called by check.sh, which installs what it imports.

The subject of the checks is the project as Docker Compose reads it.
"""

import json
import os
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

import yaml

import program
import settings
from verdicts import Verdicts, Wrong

HERE = settings.TOP / "deploy/compose"
COMPOSE = HERE / ".venv/bin/docker-compose"
FILES = ("compose.yaml", "compose.sandbox.yaml")
PROJECT = "gptproto-gateway"


def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        raise Wrong(result.stderr.strip())
    return result.stdout


def read(*files):
    arguments = [part for file in files for part in ("-f", file)]
    return json.loads(run(COMPOSE, *arguments, "config", "--format", "json"))


def check_syntax(texts):
    """Reads the texts of files with Docker Compose, which holds them to the specification's schema."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.yaml" for number in range(len(texts))]
        for file, text in zip(files, texts):
            file.write_text(text)
        project = read(*files)
    return f"{len(project['services'])} services: {', '.join(project['services'])}"


def gateway(project):
    return project["services"]["gateway"]


def check_variables(project):
    return settings.check_variables(gateway(project)["environment"])


def check_secrets(project):
    found = 0
    for name, service in project["services"].items():
        targets = {secret["target"] for secret in service.get("secrets", [])}
        named = {value for key, value in service.get("environment", {}).items() if key.endswith("_FILE")}
        if targets != named:
            raise Wrong(f"{name}: variables name {sorted(named)}, and the secrets are {sorted(targets)}")
        found += len(targets)
    text = json.dumps([service.get("environment") for service in project["services"].values()])
    if re.search(r'"(GPTPROTO_API_KEYS?|GATEWAY_CLIENT_KEYS|GATEWAY_ADMIN_TOKEN)":', text):
        raise Wrong("a key is in a variable")
    ignored = (settings.TOP / ".gitignore").read_text().splitlines()
    for secret in project.get("secrets", {}).values():
        if f"/{Path(secret['file']).parent.relative_to(settings.TOP)}" not in ignored:
            raise Wrong(f"git does not ignore {secret['file']}")
    return f"{found} secrets, all files"


def check_ports(project):
    environment = gateway(project)["environment"]
    listen = {settings.setting(environment, section, "listen").rpartition(":")[2] for section in ("server", "operator")}
    if {str(port["target"]) for port in gateway(project)["ports"]} != listen:
        raise Wrong(f"other ports than those on which the gateway listens: {sorted(listen)}")
    for name, service in project["services"].items():
        for port in service.get("ports", []):
            if port.get("host_ip") != "127.0.0.1":
                raise Wrong(f"{name} publishes {port['target']} to the network")
    return f"{', '.join(sorted(listen))}; all published on loopback only"


def check_hardening(project):
    for name, service in project["services"].items():
        wanted = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
        for key, value in wanted.items():
            if service.get(key) != value:
                raise Wrong(f"{name}: {key} is {service.get(key)!r}")
    return f"{len(project['services'])} services"


def check_image(project):
    """Holds user-visible names to the Dockerfile and Cargo.toml."""
    dockerfile = (settings.TOP / "Dockerfile").read_text()
    service = gateway(project)
    volumes = {volume["target"] for volume in service["volumes"]}
    if volumes != set(re.findall(r"^VOLUME (\S+)", dockerfile, re.M)):
        raise Wrong(f"the volumes are {sorted(volumes)}, not the image's")
    if settings.setting(service["environment"], "storage", "directory") not in volumes:
        raise Wrong("storage.directory is no volume")
    if json.dumps(service["healthcheck"]["test"][1:]) not in dockerfile:
        raise Wrong("the health check is not the image's")
    version = tomllib.loads((settings.TOP / "Cargo.toml").read_text())["package"]["version"]
    if service["image"] != f"gptproto-gateway:{version}":
        raise Wrong(f"the image is {service['image']}, and Cargo.toml has {version}")
    return service["image"]


def check_shutdown(project):
    needed = sum(int(settings.setting(gateway(project)["environment"], "server", key))
                 for key in ("shutdown_delay_s", "shutdown_grace_s"))
    given = int(gateway(project)["stop_grace_period"].removesuffix("s"))
    if given < needed + 5:
        raise Wrong(f"{given} s to stop, and the gateway may need {needed} s")
    return f"{given} s for the {needed} s of server.shutdown_*"


def check_monitoring(project):
    """Follows the way of a number: the gateway's port, Prometheus' target, Grafana's data source, the board."""
    mounts = {name: {volume["target"]: volume["source"] for volume in service["volumes"] if volume["type"] == "bind"}
              for name, service in project["services"].items()}
    for name, files in mounts.items():
        for source in files.values():
            if not Path(source).exists():
                raise Wrong(f"{name} mounts {Path(source).relative_to(settings.TOP)}, which is not there")
    argument = next(part for part in project["services"]["prometheus"]["command"] if part.startswith("--config.file="))
    inside = argument.partition("=")[2]
    if inside not in mounts["prometheus"]:
        raise Wrong(f"Prometheus reads {inside}, which is not mounted")
    prometheus = yaml.safe_load(Path(mounts["prometheus"][inside]).read_text())
    port = settings.setting(gateway(project)["environment"], "operator", "listen").rpartition(":")[2]
    targets = [target for job in prometheus["scrape_configs"] for group in job.get("static_configs", [])
               for target in group["targets"]]
    if f"gateway:{port}" not in targets:
        raise Wrong(f"Prometheus asks {targets}, and the gateway is gateway:{port}")
    for file in prometheus.get("rule_files", []):
        if os.path.normpath(os.path.join(os.path.dirname(inside), file)) not in mounts["prometheus"]:
            raise Wrong(f"Prometheus reads the rules {file}, which are not mounted")
    provisioning = Path(mounts["grafana"]["/etc/grafana/provisioning"])
    sources = [source["url"] for file in (provisioning / "datasources").glob("*.y*ml")
               for source in yaml.safe_load(file.read_text())["datasources"]]
    if sources != ["http://prometheus:9090"]:
        raise Wrong(f"Grafana's data sources are {sources}")
    boards = [provider["options"]["path"] for file in (provisioning / "dashboards").glob("*.y*ml")
              for provider in yaml.safe_load(file.read_text())["providers"]]
    home = project["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    if home not in mounts["grafana"] or [os.path.dirname(home)] != boards:
        raise Wrong(f"Grafana reads the boards of {boards}, and the board is {home}")
    return f"gateway:{port}, {sources[0]}, {os.path.basename(home)}"


def described(project):
    service = gateway(project)
    return {"arguments": service.get("command") or ["serve"], "variables": service["environment"],
            "probes": ["/healthz", "/readyz"], "keys": {"gptproto_api_key": program.UPSTREAM_KEY,
                                                        "gateway_client_keys": f"app:{program.CLIENT_KEY}"},
            "client_key": program.CLIENT_KEY, "secrets": "/run/secrets", "stop_s": int(service["stop_grace_period"][:-1])}


def edit(service, **values):
    return lambda project: project["services"][service].update(values)


def variable(name, value):
    return lambda project: gateway(project)["environment"].update({name: value})


def main():
    verdicts = Verdicts()
    tool = f"Docker Compose {run(COMPOSE, 'version', '--short').strip()}"
    texts = [(HERE / file).read_text() for file in FILES]

    def replace(old, new):
        def change(these):
            assert old in these[0]
            these[0] = these[0].replace(old, new)
        return change

    for count in (1, 2):
        verdicts.check(" and ".join(FILES[:count]), tool, check_syntax, texts[:count], [
            ("a misspelt member", replace("read_only: true", "readonly: true")),
            ("a secret that is not there", replace("- gateway_client_keys", "- gateway_keys")),
            ("a member of another type", replace("cap_drop:\n      - ALL", "cap_drop: ALL"))] if count == 1 else [])
    project, sandbox = read(HERE / FILES[0]), read(*(HERE / file for file in FILES))
    for name, read_project in (("compose.yaml", project), ("with the sandbox", sandbox)):
        verdicts.check(f"{name}: variables", "config/default.toml", check_variables, read_project, [
            ("a misspelt key", variable("GATEWAY_SERVER__LISTENS", "0.0.0.0:8787"))])
        verdicts.check(f"{name}: keys as files", "own comparison", check_secrets, read_project, [
            ("a file that is no secret", variable("GATEWAY_ADMIN_TOKEN_FILE", "/run/secrets/admin")),
            ("a key in a variable", variable("GPTPROTO_API_KEY", "sk-1"))])
    verdicts.check("ports", "the addresses in its variables", check_ports, project, [
        ("another port", variable("GATEWAY_OPERATOR__LISTEN", "0.0.0.0:9000")),
        ("a port open to the network", lambda one: gateway(one)["ports"][0].pop("host_ip"))])
    verdicts.check("read-only, no capabilities, no new privileges", "own list", check_hardening, project, [
        ("a writable root", edit("prometheus", read_only=False)),
        ("capabilities", edit("gateway", cap_drop=[]))])
    verdicts.check("volume, health check, version", "Dockerfile, Cargo.toml", check_image, project, [
        ("another folder", variable("GATEWAY_STORAGE__DIRECTORY", "/var/data")),
        ("another command", lambda one: gateway(one)["healthcheck"].update(test=["CMD", "curl", "localhost"]))])
    verdicts.check("time to stop", "server.shutdown_delay_s, _grace_s", check_shutdown, project, [
        ("a longer grace period", variable("GATEWAY_SERVER__SHUTDOWN_GRACE_S", "60"))])
    verdicts.check("from the gateway to the board", "the files that are mounted", check_monitoring, project, [
        ("another port", variable("GATEWAY_OPERATOR__LISTEN", "0.0.0.0:9000")),
        ("another file", lambda one: one["services"]["prometheus"].update(command=["--config.file=/etc/prometheus.yml"])),
        ("another board", lambda one: one["services"]["grafana"]["environment"].update(
            GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH="/var/lib/grafana/dashboards/other.json"))])
    verdicts.check("the gateway starts", "the program, as user 65532", program.start, described(project), [
        ("a misspelt key", lambda one: one["variables"].update(GATEWAY_SERVER__LISTENS="0.0.0.0:8787"))])
    verdicts.check("the gateway starts with the sandbox", "the program, as user 65532", program.start,
                   described(sandbox) | {"client_key": "sk-sandbox"}, [
        ("a command that is none", lambda one: one.update(arguments=["serve", "--sandpit"]))])
    verdicts.close()


if __name__ == "__main__":
    main()
