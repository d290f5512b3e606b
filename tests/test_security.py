"""What docs/security.md says was tried; the started server is in tests/test_schedule.py."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import distributions, version
from urllib.parse import urlsplit

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import recipe
from flows.benchmarking.config import BenchmarkConfig
from flows.config import RunConfig
from flows.recipe import as_text, publish_image, publish_markdown, publish_table
from flows.serving_settings import AUTH, PORT, client_settings, server_settings
from pipeline.errors import ConfigError
from tests.conftest import ROOT
from tests.test_cli import t4c

EVIL = (
    '<script>alert(1)</script><img src=x onerror="x()">[here](javascript:x()) `a` ![p](//e/x.png)'
    " https://e.example/x www.e.example"
)
ORIGINS = "PREFECT_SERVER_CORS_ALLOWED_ORIGINS"
OURS = ("pipeline", "crevnet", "flows")


# artifacts


@pytest.fixture
def left(monkeypatch):
    """What is left with a flow run, without one."""
    import prefect.artifacts

    found = []
    for name in ("create_markdown_artifact", "create_table_artifact"):
        monkeypatch.setattr(
            prefect.artifacts, name, lambda data, **more: found.append((data, more))
        )
    monkeypatch.setattr(recipe, "inside_a_flow", lambda: True)
    return found


def test_a_city_called_script_is_text_in_every_artifact(left, tmp_path):
    picture = tmp_path / "map.png"
    picture.write_bytes(b"\x89PNG")
    publish_markdown(EVIL, f"# {EVIL}\n\nBest is {EVIL}.", EVIL)
    publish_image(EVIL, picture, EVIL)
    publish_table(EVIL, pd.DataFrame({EVIL: [0.5]}, index=[EVIL]), EVIL)
    for data, more in left:
        assert re.fullmatch(r"[a-z0-9-]+", more["key"])
        for said in (more["description"], data if isinstance(data, str) else ""):
            assert "<" not in said
            assert not re.search(r"://|www\.", said)
            assert not re.search(r"(?<!\\)\[(?!data)[^\]]*[^\\]\]\(", said)
    (text, _), (image, _), (rows, _) = left
    assert text.startswith("# &lt;script&gt;")
    assert image.endswith("](data:image/png;base64,iVBORw==)")
    assert len(re.findall(r"(?<!\\)\]\(", image)) == 1
    assert rows == [{"index": EVIL, EVIL: 0.5}]  # a cell is data; the page shows it as text


@given(st.text())
@settings(max_examples=50)
def test_text_is_shown_as_it_was_typed(text):
    import html

    assert html.unescape(re.sub(r"\\([\[\]`\\])", r"\1", as_text(text))) == html.unescape(
        html.escape(text, quote=False)
    )
    assert "<" not in as_text(text)


# secrets


def names_of(schema):
    for name, value in schema.get("properties", {}).items():
        yield name
        yield from names_of(value)
    for value in schema.get("$defs", {}).values():
        yield from names_of(value)


@pytest.mark.parametrize("kind", [RunConfig, BenchmarkConfig])
def test_no_configuration_has_a_place_for_a_secret(kind):
    secret = re.compile(r"password|passwd|secret|token|api_?key|credential|auth", re.IGNORECASE)
    names = [*names_of(kind.model_json_schema())]
    assert len(names) > 30
    assert not [name for name in names if secret.search(name)]


def test_no_shipped_file_names_one():
    said = re.compile(r"(?i)(auth_string|password|secret|token)\s*[:=]\s*['\"]?\w")
    for path in [*(ROOT / "configs").glob("*.yaml"), ROOT / "prefect.yaml", ROOT / "Makefile"]:
        assert not said.search(path.read_text()), path


def test_a_password_is_on_no_command_line(monkeypatch):
    started = []
    monkeypatch.setattr(os, "execve", lambda *call: started.append(call))
    monkeypatch.setenv(AUTH, "anna:h0rse")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "anna:h0rse")
    for verb in (["server", "--host", "0.0.0.0"], ["worker"], ["prefect", "flow-run", "ls"]):
        assert t4c(*verb).exit_code == 0
    assert len(started) == 3
    for program, command, environ in started:
        assert (program, command[:3]) == (sys.executable, [sys.executable, "-m", "prefect"])
        assert "h0rse" not in " ".join(command)
        assert environ["PREFECT_API_AUTH_STRING"] == "anna:h0rse"  # handed on, to be asked for
    for settings_ in (client_settings(), server_settings()):
        assert "h0rse" not in str(settings_)


# the server


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_beyond_loopback_only_with_a_password(host):
    with pytest.raises(ConfigError, match=f"{re.escape(host)}: not loopback, expected {AUTH}"):
        server_settings(host=host, environ={})
    assert server_settings(host=host, environ={AUTH: "a:b"})["PREFECT_SERVER_API_HOST"] == host
    result = t4c("server", "--host", host)
    assert result.exit_code == 1
    assert "not loopback" in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_none(host):
    found = server_settings(host=host, environ={})
    assert found["PREFECT_SERVER_API_HOST"] == host
    at = urlsplit(found["PREFECT_API_URL"])
    assert (at.hostname, at.port) == (host, PORT)
    assert at.netloc in {urlsplit(o).netloc for o in found[ORIGINS].split(",")}


def test_both_switches_of_telemetry_are_off_and_no_origin_is_a_wildcard():
    for found in (client_settings({}), server_settings(environ={})):
        assert found["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert found["DO_NOT_TRACK"] == "1"
        assert found["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"
    found = server_settings(4321, environ={})
    assert found["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    origins = found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert {*origins} == {"http://127.0.0.1:4321", "http://localhost:4321"}


def test_prefect_knows_every_setting_by_its_name():
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_valid_setting_names

    known = _get_valid_setting_names(Settings)
    named = [name for name in server_settings(environ={}) if name.startswith("PREFECT")]
    assert not [name for name in named if name not in known]


# files


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr, {word.arg: ast.unparse(word.value) for word in node.keywords}
        if isinstance(node, ast.Import):
            yield from ((alias.name, {}) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield (node.module or "", {})


def test_nothing_is_unpacked_blindly_or_unpickled():
    """No tar is opened and no archive unpacked whole; whoever begins to must say `filter`."""
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for name, words in calls(ast.parse(path.read_text())):
                assert name not in {"extract", "unpack_archive", "pickle", "cloudpickle"}, path
                assert name != "extractall" or words.get("filter") == "'data'", path
                assert name != "tarfile", f"{path}: tell docs/security.md about it"
                if name == "load" and "weights_only" in words:
                    assert words["weights_only"] == "True", path
                assert words.get("allow_pickle", "False") == "False", path
                assert words.get("shell", "False") == "False", path


# versions


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(row) == 2 for row in rows)
    return {plain(name): pinned for name, pinned in rows}


def test_the_environment_is_the_one_that_was_tested_together():
    found = {plain(d.metadata["Name"]): d.version for d in distributions()}
    differing = {n: (found[n], p) for n, p in pins().items() if n in found and found[n] != p}
    assert not differing, "found, pinned"


def test_every_dependency_is_pinned_and_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for requirement in asked:
        name = re.match(r"[\w.-]+", requirement)[0]
        assert version(name) == pins()[plain(name)]
