"""The wheel holds what the package needs, and works where the checkout is gone."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD_WHEEL = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir"]

ENVIRONMENT = pytest.mark.slow("an environment with the wheel in it")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def files_below(folder: Path) -> Iterable[str]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(folder).as_posix()


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(*BUILD_WHEEL, folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts folder of a new environment with our wheel in it and this one's packages behind it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    interpreter = bin_folder / "python"
    site_packages = Path(run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder))
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return bin_folder


@pytest.mark.parametrize(
    ("source", "target"),
    [("eager_lmeval", "eager_lmeval"), ("tasks", "eager_lmeval/tasks"), ("configs", "eager_lmeval/configs")],
)
def test_the_wheel_carries_every_file_of(source: str, target: str, wheel: Path) -> None:
    expected = {f"{target}/{name}" for name in files_below(ROOT / source)}
    assert expected
    assert expected <= names_in(wheel)


def test_the_wheel_carries_what_start_up_types_and_the_demo_need(wheel: Path) -> None:
    needed = {
        "eager_lmeval_register.pth",
        "eager_lmeval/py.typed",
        "eager_lmeval/demo_model/config.json",
        "eager_lmeval/demo_model/model.safetensors",
        "eager_lmeval/demo_model/tokenizer.json",
    }
    assert needed <= names_in(wheel)


def test_the_wheel_carries_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"eager_lmeval", "eager_lmeval_register.pth"}
    assert not [name for name in names_in(wheel) if "__pycache__" in name]


@pytest.mark.slow("two builds")
def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path, cwd=ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    run(*BUILD_WHEEL, tmp_path, sdist, cwd=tmp_path)
    assert names_in(tmp_path / wheel.name) == names_in(wheel)


@ENVIRONMENT
def test_the_command_finds_the_folders_of_the_wheel(scripts: Path, tmp_path: Path) -> None:
    found = json.loads(run(scripts / "eager-lmeval", "paths", "--json", cwd=tmp_path))
    assert list(found) == ["tasks", "configs", "demo_model"]
    for name, path in found.items():
        assert Path(path).is_relative_to(scripts.parent), f"{name} is not the wheel's own: {path}"
        assert run(scripts / "eager-lmeval", "paths", name, cwd=tmp_path) == path


@ENVIRONMENT
def test_the_harness_gets_the_class_of_the_wheel(scripts: Path, tmp_path: Path) -> None:
    code = "import inspect; from lm_eval.api.registry import get_model; print(inspect.getfile(get_model('eager')))"
    assert Path(run(scripts / "python", "-c", code, cwd=tmp_path)).is_relative_to(scripts.parent)


@ENVIRONMENT
def test_the_tasks_of_the_wheel_are_where_its_entry_point_says(scripts: Path, tmp_path: Path) -> None:
    """So a harness that reads the group `lm_eval.tasks` needs no --include_path."""
    code = (
        "from importlib.metadata import entry_points\n"
        "from lm_eval.tasks import TaskManager\n"
        "(point,) = [point for point in entry_points(group='lm_eval.tasks') if point.name == 'eager']\n"
        "(folder,) = point.load().__path__\n"
        "print(*TaskManager(include_path=folder, include_defaults=False).all_tasks)"
    )
    assert {"eager_demo", "eager_gsm8k", "eager_math"} <= set(run(scripts / "python", "-c", code, cwd=tmp_path).split())
