"""What a cluster is set up with says what is true of this project: paths, settings, versions, times."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from ipt_stream.config import load_config
from ipt_stream.storage import is_remote
from ipt_stream.synthesis.pipeline import SynthesizeConfig

ROOT = Path(__file__).parents[1]
JOBS = ROOT / "jobs"
STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"


def dockerfile() -> list[list[str]]:
    """The Dockerfile's instructions, each as its words."""
    text = re.sub(r"^#.*\n", "", (JOBS / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    return [line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def image_folder() -> str:
    """Where the image has the project."""
    return next(words[1] for words in dockerfile() if words[0] == "WORKDIR")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    job = yaml.safe_load((JOBS / "kuberay.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", job["metadata"]["name"]), "KubeRay takes 47 characters"
    found: dict[str, Any] = job["spec"]
    return found


def settings_of(command: str, folder: str) -> SynthesizeConfig:
    """The settings that `python jobs/synthesize.py CONFIG key=value ...` runs with; `folder` is where it finds them."""
    python, script, config, *overrides = shlex.split(command)
    assert python == "python"
    here = [ROOT / PurePosixPath(path).relative_to(folder) for path in (script, config)]
    assert here[0] == JOBS / "synthesize.py"
    assert all(file.is_file() for file in here)
    return load_config(SynthesizeConfig, here[1], overrides)


def containers(spec: dict[str, Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Pod and Ray's container in it, of the head and of each group of workers."""
    cluster = spec["rayClusterSpec"]
    groups = {"head": cluster["headGroupSpec"], **{group["groupName"]: group for group in cluster["workerGroupSpecs"]}}
    pods = {name: group["template"]["spec"] for name, group in groups.items()}
    return {name: (pod, pod["containers"][0]) for name, pod in pods.items()}


def test_the_manifests_entrypoint_is_a_valid_run_that_needs_no_shared_disk(spec: dict[str, Any]) -> None:
    config = settings_of(spec["entrypoint"], image_folder())
    assert all(is_remote(path) for path in (*config.input.shards, config.output, config.engine.model))
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert config.engine.gpus == 1, "while no GPU node is up, it can't be found out"
    assert config.engine.most_replicas() == group["maxReplicas"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_manifest_gives_the_driver_time_to_stop(spec: dict[str, Any]) -> None:
    grace = settings_of(spec["entrypoint"], image_folder()).grace_seconds
    wait = int(yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"][STOP_WAIT])
    assert wait > grace
    for pod, container in containers(spec).values():
        (_, _, hook) = container["lifecycle"]["preStop"]["exec"]["command"]
        assert grace <= int(shlex.split(hook)[1]) < pod["terminationGracePeriodSeconds"] >= wait
    assert spec["backoffLimit"] > 0, "a head that is lost is replaced"


def test_the_manifest_is_of_this_projects_ray_and_image(spec: dict[str, Any]) -> None:
    assert f'=={spec["rayClusterSpec"]["rayVersion"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    uid = next(words[words.index("--uid") + 1] for words in dockerfile() if "useradd" in words)
    for name, (pod, container) in containers(spec).items():
        assert container["image"] == "IMAGE"
        assert pod["securityContext"]["runAsUser"] == int(uid)
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (name != "head")
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"] for mount in container["volumeMounts"]]
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "no engine beside the driver"


def test_the_image_has_what_it_copies_and_does_not_run_as_root() -> None:
    instructions = dockerfile()
    copied = [word for words in instructions if words[0] == "COPY" for word in words[1:-1]]
    assert copied
    assert all((ROOT / path).exists() for path in copied)
    allowed = (JOBS / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert {f"!{path}" for path in copied} == {line for line in allowed if line.startswith("!")}
    assert [words[1] for words in instructions if words[0] == "USER"] == ["ipt"]
    base = next(words[1].partition("=")[2] for words in instructions if words[:1] == ["ARG"] and "BASE=" in words[1])
    assert "." not in base.partition("/")[0], "no registry is named: the builder's own is asked"
    assert "://" not in (JOBS / "Dockerfile").read_text("utf-8")


def test_a_jobs_environment_brings_the_package_and_no_secrets() -> None:
    found = yaml.safe_load((JOBS / "runtime_env.yaml").read_text("utf-8"))
    assert found.keys() == {"working_dir", "excludes", "env_vars"}
    assert found["working_dir"] == "."
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    for path in found["excludes"]:
        assert (ROOT / path.strip("/")).exists() or f"{path.strip('/')}/" in ignored, (
            f"{path} is no path of the project"
        )
    assert not {"/ipt_stream", "/jobs", "/pyproject.toml"} & set(found["excludes"])
    assert set(found["env_vars"]) == {STOP_WAIT}
    assert int(found["env_vars"][STOP_WAIT]) > SynthesizeConfig.model_fields["grace_seconds"].default


def test_the_readmes_job_is_a_valid_run() -> None:
    section = (ROOT / "README.md").read_text("utf-8").partition("## On a cluster")[2].partition("\n## ")[0]
    text = section.replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "ray job submit" in line and line.startswith("    ")]
    submit, _, entrypoint = line.strip().partition(" -- ")
    words = shlex.split(submit)
    assert (ROOT / words[words.index("--runtime-env") + 1]).is_file()
    config = settings_of(entrypoint.strip().replace("$PWD", "/project"), ".")
    for path in (*config.input.shards, config.output, config.engine.model):
        assert is_remote(path) or PurePosixPath(path).is_absolute(), "each node has a working directory of its own"
    for name in re.findall(r"`(jobs/[^`]+)`", section):
        assert (ROOT / name).exists()
