"""Machine code kept on disk belongs to one text of the loops."""

from pathlib import Path
from typing import Any

import numba

from online_models.compiled import compiled, text_of_loops

LOOP = "@compiled\ndef doubled(value): return twice(value)\n"


def test_code_is_kept_apart_for_every_text_of_loops_and_of_their_types(tmp_path: Path) -> None:
    def named(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return text_of_loops(tmp_path)

    first = named("_loops.py", LOOP)
    with_callee = named("_more_loops.py", "@compiled\ndef twice(value): return 2 * value\n")
    changed = named("_more_loops.py", "@compiled\ndef twice(value): return value + value\n")
    with_types = named("machine.py", "class Machine(NamedTuple): value: float\n")
    assert len({first, with_callee, changed, with_types}) == 4
    assert named("blend.py", "def anything(): return 1\n") == with_types


def test_loops_of_this_room_keep_their_code_under_the_name_of_its_text() -> None:
    def doubled(value: float) -> float:
        return 2.0 * value

    folder = Path(__file__).parents[2] / "online_models"
    assert compiled(doubled)(2.0) == 4.0
    config: Any = numba.config
    assert Path(config.CACHE_DIR).name == f"loops-{text_of_loops(folder)}"
