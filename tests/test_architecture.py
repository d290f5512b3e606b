from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

PREFECT = {"prefect", "prefect_dask"}
FORBIDDEN = {
    "pipeline": {"crevnet", "flows", "torch", "torchvision", "lightning_fabric"} | PREFECT,
    "crevnet": {"pipeline", "flows", "h5py", "xarray", "dask", "pandas"} | PREFECT,
}
SHAPELESS = {"utils", "util", "helpers", "helper", "common", "misc"}


def imports(path: Path) -> set[str]:
    """Top-level names of a file's import statements, late ones included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_nothing_above_it(package):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imports(path) & FORBIDDEN[package], path


def test_only_heatmaps_knows_h5py():
    knowing = [p.name for p in (ROOT / "pipeline").rglob("*.py") if "h5py" in imports(p)]
    assert knowing == ["heatmaps.py"]


def test_every_file_has_an_idea_of_its_own():
    for package in ("pipeline", "crevnet", "flows"):
        for path in (ROOT / package).rglob("*.py"):
            assert path.stem not in SHAPELESS, path
            assert len(path.read_text().splitlines()) <= 250, path


def test_importing_pipeline_loads_neither_torch_nor_prefect():
    code = (
        "import pkgutil, importlib, sys, pipeline\n"
        "for m in pkgutil.walk_packages(pipeline.__path__, 'pipeline.'):\n"
        "    importlib.import_module(m.name)\n"
        "print({'torch', 'prefect'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


def test_dependencies_say_why_in_the_readme():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text().lower()
    for requirement in project["dependencies"]:
        name = requirement.split("[")[0].split(">")[0].split("=")[0].strip()
        assert f"`{name.lower()}`" in readme, f"{name} is not explained in the README"
