"""What is deployed with containers, checked as far as it goes without them."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from flows import settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|AUTH_STRING|CONNECTION_URL|LEDGER_URL")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_ports_are_published_on_loopback_only(compose):
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any(service.get("network_mode") or service.get("privileged") for service in compose["services"].values())


def test_secrets_come_from_the_environment_and_must_be_set(compose):
    environments = [service.get("environment", {}) for service in compose["services"].values()]
    secrets = [value for one in environments for name, value in one.items() if SECRET.search(name)]
    assert len(secrets) >= 8
    assert all(re.search(r"\$\{\w+:\?[^}]+\}", value) for value in secrets)


def test_every_name_in_the_compose_file_is_of_something_in_it(compose):
    for name, service in compose["services"].items():
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in compose["services"][needed], f"{name} waits for {needed}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith("$"), volume
        assert set(service["networks"]) <= set(compose["networks"])


def test_images_of_others_are_pinned(compose):
    images = [service["image"] for service in compose["services"].values() if "$" not in service["image"]]
    assert len(images) == 4
    assert all(":" in image and not image.endswith(":latest") for image in images)


def test_what_the_image_copies_is_there_and_holds_every_package():
    copied = [
        line.split()[1:-1] for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("COPY")
    ]
    sources = {source for line in copied for source in line}
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= sources
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == sources


def test_commands_of_the_services_are_commands_of_asid(compose):
    from flows import cli_deploy

    known = {one.name: one for one in (cli_deploy.deploy, cli_deploy.show_metrics)}
    for service in ("deploy", "metrics"):
        name, *options = compose["services"][service]["command"]
        with known[name].make_context(name, options):
            pass


@pytest.mark.parametrize("file", sorted((DEPLOY / "settings").glob("*.toml")), ids=lambda path: path.stem)
def test_settings_are_read(file, monkeypatch):
    for name in ("ASID_DATA", "ASID_MILVUS_URI", "ASID_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert settings.load(file).workers >= 1


def test_milvus_on_kubernetes_has_gpus_asks_for_a_password_and_holds_no_secret():
    text = (DEPLOY / "milvus-values.yaml").read_text()
    values = yaml.safe_load(text)
    assert values["image"]["all"]["tag"].endswith("-gpu")
    assert values["service"]["type"] == "ClusterIP"
    for node in ("queryNode", "dataNode"):
        assert values[node]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert yaml.safe_load(values["extraConfigFiles"]["user.yaml"])["common"]["security"]["authorizationEnabled"]
    assert not re.search(r"(accessKey|secretKey|assword):", text)


def test_variables_that_the_readme_lists_are_those_that_are_used(compose):
    used = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    listed = set(re.findall(r"`(\w+)`", (DEPLOY / "README.md").read_text()))
    assert used <= listed
