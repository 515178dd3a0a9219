"""What is published: the source archive, the wheel that is built from it, and the conda recipe."""

import os
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
import yaml
from tests.processes import run

import cyclr

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BUILD = [sys.executable, "-m", "hatchling", "build"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the source archive, as an index or a packager builds it."""
    folder = tmp_path_factory.mktemp("release")
    run([*BUILD, "-t", "sdist", "-d", folder], cwd=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        # Python 3.11.2, of Debian 12, has no filters.
        filters = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        source.extractall(folder, **filters)  # noqa: S202  # Made of this checkout.
    run([*BUILD, "-t", "wheel", "-d", folder], cwd=folder / archive.name.removesuffix(".tar.gz"))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel and, from the package index, what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    interpreter = folder / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", interpreter, "install", "-q", "-c", ROOT / "constraints.txt", wheel])
    return interpreter


def without_path() -> dict[str, str]:
    """The environment variables, without those by which a program could find this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_the_wheel_holds_the_package_its_files_and_its_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert {name for name in names if name.startswith("cyclr/")} == {name for name in files if ".pyc" not in name}
    assert "cyclr/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_metadata_say_what_a_package_index_shows(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(files.read(name))
    assert metadata["Name"] == "cyclr"
    assert metadata["Version"] == cyclr.__version__
    assert metadata["License-Expression"] == "Apache-2.0 AND MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Author"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# cyclr\n")
    assert metadata.get_all("Provides-Extra") == sorted(PROJECT["optional-dependencies"])


def test_a_new_environment_runs_a_range_test(python: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (program,) = (block for block in readme.split("```python\n") if "cyclr.RangeTest(" in block)
    printed = run([python, "-c", program.partition("```")[0]], cwd=tmp_path, env=without_path()).stdout
    assert "max_lr" in printed
    where = run([python, "-c", "import cyclr; print(cyclr.__file__)"], cwd=tmp_path, env=without_path()).stdout
    assert python.parents[1] in Path(where).parents


def test_the_command_of_a_new_environment_names_the_extra_that_it_lacks(python: Path, tmp_path: Path) -> None:
    said = run([python.with_name("cyclr"), "--help"], status=1, cwd=tmp_path, env=without_path()).stderr
    assert 'pip install "cyclr[cli]"' in said


def test_the_command_runs_from_the_wheel(python: Path, tmp_path: Path) -> None:
    # The libraries of the extras are those of this environment. An editable cyclr among them is not found by this path.
    environment = {**without_path(), "PYTHONPATH": sysconfig.get_path("purelib"), "MPLBACKEND": "Agg"}
    command = python.with_name("cyclr")
    assert run([command, "--version"], cwd=tmp_path, env=environment).stdout == f"cyclr {cyclr.__version__}\n"
    run([command, "plot", "--output", "schedule.png"], cwd=tmp_path, env=environment)
    assert (tmp_path / "schedule.png").stat().st_size > 5000
    archived = ROOT / "tests" / "archive" / "range_test.json"
    run([command, "report", archived, "--output", "page.html"], cwd=tmp_path, env=environment)
    assert (tmp_path / "page.html").stat().st_size > 100_000


def test_version_and_requirements_are_the_same_everywhere() -> None:
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == cyclr.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == cyclr.__version__
    assert f"\n## {cyclr.__version__} (" in (ROOT / "CHANGELOG.md").read_text()
    needed = recipe["requirements"]
    assert f"python {PROJECT['requires-python']}" in needed["run"]
    spaced = {requirement.replace(">=", " >=") for requirement in PROJECT["dependencies"]}
    assert spaced == set(needed["run"]) - {f"python {PROJECT['requires-python']}"}
    declared = {
        requirement.partition(";")[0].replace(">=", " >=")
        for extra in PROJECT["optional-dependencies"].values()
        for requirement in extra
    }
    other_names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    for constraint in needed["run_constraints"]:
        name, lowest = constraint.split()
        assert f"{other_names.get(name, name)} {lowest}" in declared
