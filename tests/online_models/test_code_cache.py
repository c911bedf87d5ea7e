from pathlib import Path
from typing import Any

import pytest

from online_models import _code_cache as cache


def test_every_state_of_the_sources_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "_code_cache.py"))
    states = []
    for source in ("@compiled\ndef a(): 1", "@compiled\ndef a(): 2", "@compiled\ndef a(): 1"):
        (tmp_path / "loops.py").write_text(source)
        (tmp_path / "plain.py").write_text(f"x = {len(states)}")
        cache._state.cache_clear()
        states.append(cache._state())
    cache._state.cache_clear()
    assert states[0] == states[2] != states[1]


def test_loops_are_kept_in_the_folder_of_their_state() -> None:
    from online_models._topk import offer

    loop: Any = offer
    assert Path(loop._cache.cache_path).name == cache._state()
