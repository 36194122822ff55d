"""config/README.md says what the settings' models say."""

import re
from pathlib import Path

from tullyflow.settings import Settings, manual

ROOT = Path(__file__).resolve().parents[2]


def test_manual_is_in_step_with_the_models():
    page = (ROOT / "config" / "README.md").read_text()
    generated = page.split("<!-- generated -->")[1]
    assert generated.strip() == manual().strip(), "run: python -c 'from tullyflow.settings import manual; print(manual())'"


def test_manual_names_every_key():
    text = manual()
    for name in Settings.model_fields:
        assert re.search(rf"`{name}`", text), name
