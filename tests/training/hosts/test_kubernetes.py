"""The manifests of examples/cluster are what Kubernetes and `rudder train` take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from rudder.cli.main import make_app
from rudder.training.hosts.starters import NodePlace

FILE = Path(__file__).parents[3] / "examples" / "cluster" / "job.yaml"
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
KEYS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "metadata": {"name"},
    "Service.spec": {"clusterIP", "selector"},
    "Job.spec": {"completionMode", "completions", "parallelism", "backoffLimit", "template"},
    "template": {"spec"},
    "template.spec": {"subdomain", "restartPolicy", "containers", "volumes"},
    "containers": {"name", "image", "command", "env", "resources", "volumeMounts"},
    "env": {"name", "value", "valueFrom"},
    "volumeMounts": {"name", "mountPath"},
    "volumes": {"name", "persistentVolumeClaim", "emptyDir"},
}
"""Fields of the API (batch/v1, v1) that the manifests use; any other is taken for a misspelling."""


def unknown(where: str, value: dict[str, Any]) -> set[str]:
    return set(value) - KEYS[where]


@pytest.fixture
def documents() -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(FILE.read_text())}


@pytest.fixture
def pod(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = documents["Job"]["spec"]["template"]["spec"]
    return spec


def test_manifests_have_known_fields_and_valid_names(
    documents: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    assert {kind: each["apiVersion"] for kind, each in documents.items()} == {
        "Service": "v1", "Job": "batch/v1",
    }  # fmt: skip
    (container,) = pod["containers"]
    found = [
        *(unknown("", each) for each in documents.values()),
        *(unknown("metadata", each["metadata"]) for each in documents.values()),
        *(unknown(f"{kind}.spec", each["spec"]) for kind, each in documents.items()),
        unknown("template", documents["Job"]["spec"]["template"]),
        unknown("template.spec", pod),
        unknown("containers", container),
        *(unknown("env", each) for each in container["env"]),
        *(unknown("volumeMounts", each) for each in container["volumeMounts"]),
        *(unknown("volumes", each) for each in pod["volumes"]),
    ]
    assert set().union(*found) == set()
    names = [each["metadata"]["name"] for each in documents.values()]
    names += [container["name"], *(each["name"] for each in pod["volumes"])]
    assert all(_NAME.match(name) for name in names)
    assert all(isinstance(each.get("value", ""), str) for each in container["env"])


def test_pods_find_the_first_one_through_the_service(
    documents: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    service, job = documents["Service"], documents["Job"]
    name = job["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}  # a label of the pods
    assert pod["subdomain"] == service["metadata"]["name"]
    variables = {
        each["name"]: each.get("value", "a secret") for each in pod["containers"][0]["env"]
    }
    place = NodePlace.from_environment(variables | {"JOB_COMPLETION_INDEX": "0"})
    assert place is not None
    assert place.head.rpartition(":")[0] == f"{name}-0.{service['metadata']['name']}"


def test_job_starts_a_host_in_each_pod_and_gives_it_what_it_mounts(
    documents: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    job, (container,) = documents["Job"]["spec"], pod["containers"]
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")  # all that a Job takes
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts.keys() == {each["name"] for each in pod["volumes"]}
    assert mounts["shm"] == "/dev/shm"
    words = container["command"]
    assert words[:2] == ["rudder", "train"]
    train = typer.main.get_command(make_app(["train", "host"])).commands["train"]  # type: ignore[attr-defined]
    options = train.make_context("train", words[2:]).params
    assert options["hosts"] == str(job["completions"])
    assert options["launcher"] == "env"
    assert options["data"].is_relative_to(mounts["data"])
