"""`lm_eval --model eager` works after installation, and an environment without the harness notices nothing.

Every case runs in an interpreter of its own: what is tested happens at start-up and on the first import of the harness.
"""

import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

from eager_lmeval._register import MODELS, SCORERS
from eager_lmeval.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
START_UP = (ROOT / "packaging" / "eager_lmeval_register.pth").read_text()
PRINT_ENTRY = "from lm_eval.api.registry import model_registry; print(dict(model_registry.items()).get('eager'))"


def python(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs this environment's interpreter outside the checkout, so that only what is installed can be imported."""
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, check=False, capture_output=True, text=True)


def output(*args: str, cwd: Path, **env: str) -> str:
    """As `python`, for a run that must succeed and have nothing to complain about."""
    done = python(*args, cwd=cwd, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


FAKE_REGISTRY = """
class Registry(dict):
    def register(self, name, target):
        self[name] = target

model_registry = Registry()
"""


def fake_harness(folder: Path, registry: str) -> str:
    """Makes a package `lm_eval` whose registry module ends with `registry`; returns what to put on PYTHONPATH."""
    for package in ("lm_eval", "lm_eval/api", "lm_eval/models"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "lm_eval" / "api" / "registry.py").write_text(FAKE_REGISTRY + registry)
    return str(folder)


@pytest.mark.slow("a whole start of the harness; test_bad_input has another")
def test_plugin_is_installed(tmp_path: Path) -> None:
    done = python("-m", "lm_eval", "run", "--model", "no-such-model", "--tasks", "gsm8k", cwd=tmp_path)
    _, _, names = done.stderr.partition("Supported model names: ")
    assert "eager" in names.strip().split(", "), done.stderr


def test_the_entry_points_are_what_the_hook_registers() -> None:
    declared = {(point.name, point.value) for point in entry_points(group="lm_eval.models")}
    assert declared >= set(MODELS.items())


def test_the_entry_point_loads() -> None:
    (point,) = {point for point in entry_points(group="lm_eval.models") if point.name == "eager"}
    assert point.load().__name__ == "EagerLM"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="there is a vLLM here; make test-vllm has tests of it")
def test_eager_vllm_says_that_it_needs_vllm() -> None:
    with pytest.raises(UsageError, match=r"there is no vLLM here; pip install 'eager-lmeval\[vllm\]'"):
        import_module(MODELS["eager-vllm"].partition(":")[0])


@pytest.mark.parametrize(
    "first",
    [
        "import lm_eval.models",
        "import lm_eval.models.dummy",
        "from lm_eval.api.registry import get_model; get_model('dummy')",
        "import lm_eval.api.registry; import lm_eval.models",
        "import importlib, lm_eval.models; importlib.reload(lm_eval.models)",
        "import importlib.util; importlib.util.find_spec('lm_eval.models'); import lm_eval.models",
        "import site; site.main(); import lm_eval.models",
    ],
)
def test_the_harness_knows_eager_whatever_is_imported_first(first: str, tmp_path: Path) -> None:
    assert output("-c", f"{first}\n{PRINT_ENTRY}", cwd=tmp_path) == MODELS["eager"]


def test_the_hook_leaves_no_trace_in_the_import_system(tmp_path: Path) -> None:
    code = (
        "import sys; before = len(sys.meta_path); import lm_eval.models as m, lm_eval.api.registry as r\n"
        "print(type(m.__loader__) is type(r.__loader__), m.__spec__.loader is m.__loader__)\n"
        "print([finder for finder in sys.meta_path if getattr(finder, '__name__', '') == 'EagerFinder'])"
    )
    assert output("-c", code, cwd=tmp_path).splitlines() == ["True True", "[]"]


def test_the_hook_survives_a_failed_import_of_the_harness(tmp_path: Path) -> None:
    path = fake_harness(tmp_path, "")
    (tmp_path / "lm_eval" / "models" / "__init__.py").write_text("import os\nif 'BREAK' in os.environ: raise OSError")
    code = (
        "import os\nos.environ['BREAK'] = '1'\n"
        "try: import lm_eval.models\nexcept OSError: del os.environ['BREAK']\n"
        "import lm_eval.models\n"
    )
    assert output("-c", code + PRINT_ENTRY, cwd=tmp_path, PYTHONPATH=path) == MODELS["eager"]


def test_the_switch_keeps_the_hook_out(tmp_path: Path) -> None:
    code = "import sys; print([f for f in sys.meta_path if getattr(f, '__name__', '') == 'EagerFinder'])\n"
    printed = output("-c", f"{code}import lm_eval.models\n{PRINT_ENTRY}", cwd=tmp_path, EAGER_LMEVAL_NO_HOOK="1")
    assert printed.splitlines() == ["[]", "None"]


@pytest.mark.parametrize(
    ("registry", "entry"),
    [
        pytest.param("", MODELS["eager"], id="no plugins"),
        pytest.param("def load_plugins(group, registry): ...", "None", id="plugins"),
        pytest.param("model_registry['eager'] = 'theirs:Eager'", "theirs:Eager", id="a model of that name"),
    ],
)
def test_the_hook_steps_aside_for_a_harness_with(registry: str, entry: str, tmp_path: Path) -> None:
    path = fake_harness(tmp_path, registry)
    assert output("-c", f"import lm_eval.models\n{PRINT_ENTRY}", cwd=tmp_path, PYTHONPATH=path) == entry


@pytest.mark.parametrize("first", ["lm_eval.models", "lm_eval.scorers"])
def test_the_hook_registers_the_scorer_with_a_harness_that_has_them(first: str, tmp_path: Path) -> None:
    path = fake_harness(tmp_path, "scorer_registry = Registry()")
    (tmp_path / "lm_eval" / "scorers").mkdir()
    (tmp_path / "lm_eval" / "scorers" / "__init__.py").touch()
    code = (
        f"import sys\nsys.path[:0] = [{path!r}, {str(ROOT)!r}]\nexec({START_UP!r})\nimport {first}\n"
        "from lm_eval.api.registry import model_registry, scorer_registry; print(model_registry, scorer_registry)"
    )
    assert output("-I", "-S", "-c", code, cwd=tmp_path) == f"{MODELS} {SCORERS}"


def test_start_up_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "before = set(sys.modules)\n"
        f"exec({START_UP!r})\n"
        "print(sorted(set(sys.modules) - before))"
    )
    assert output("-I", "-S", "-c", code, cwd=tmp_path) == "[]"


@pytest.mark.parametrize("package", [str(ROOT), "/nonexistent"], ids=["no harness", "neither harness nor package"])
def test_without_the_harness_its_import_fails_as_ever(package: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {package!r})\n"
        f"exec({START_UP!r})\n"
        "try: import lm_eval.models\n"
        "except ModuleNotFoundError as error: print(error.name)"
    )
    assert output("-I", "-S", "-c", code, cwd=tmp_path) == "lm_eval"


def test_a_start_up_file_left_behind_does_not_break_the_harness(tmp_path: Path) -> None:
    path = fake_harness(tmp_path, "")
    code = f"import sys; sys.path.insert(0, {path!r})\nexec({START_UP!r})\nimport lm_eval.models\n{PRINT_ENTRY}"
    assert output("-I", "-S", "-c", code, cwd=tmp_path) == "None"
