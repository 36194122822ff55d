"""The source digest changes with the code and with nothing else."""

import shutil

import pytest

from tullyflow import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    copy = tmp_path / "tullyflow"
    shutil.copytree(provenance._PACKAGE, copy)
    monkeypatch.setattr(provenance, "_PACKAGE", copy)
    provenance.source_digest.cache_clear()
    yield copy
    provenance.source_digest.cache_clear()


def digest(stage):
    provenance.source_digest.cache_clear()
    return provenance.source_digest(stage)


def test_comments_docstrings_and_blank_lines_change_nothing(package):
    before = digest("network")
    path = package / "disc" / "profiles.py"
    text = path.read_text()
    path.write_text("# a remark\n\n" + text.replace('"""', '"""Another opening. ', 1) + "\n\n# the end\n")
    assert digest("network") == before


def test_a_changed_formula_changes_its_stage_and_no_other(package):
    before = {stage: digest(stage) for stage in ("maps", "network", "relation")}
    path = package / "disc" / "profiles.py"
    path.write_text(path.read_text() + "\n_CHANGED = 2\n")
    after = {stage: digest(stage) for stage in before}
    assert after["network"] != before["network"]
    assert after["maps"] == before["maps"]
    assert after["relation"] == before["relation"]


def test_how_a_file_travelled_is_not_part_of_any_digest(package):
    before = {stage: digest(stage) for stage in provenance._SCOPE}
    for path in (package / "fetch").glob("*.py"):
        path.write_text(path.read_text() + "\n_CHANGED = 2\n")
    assert {stage: digest(stage) for stage in before} == before


def test_indentation_is_code(package):
    path = package / "disc" / "extra.py"
    path.write_text("def f(x):\n    if x:\n        x = 1\n    return x\n")
    before = digest("network")
    path.write_text("def f(x):\n    if x:\n        x = 1\n        return x\n")
    assert digest("network") != before
