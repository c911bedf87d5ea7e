"""Machine code kept on disk belongs to one text of the loops."""

from pathlib import Path
from typing import Any

import numba
from numba.core import types
from numba.core.runtime import nrt

from online_models import (
    _blend_loops,
    _candidate_loops,
    _covisit_loops,
    _embedding_loops,
    _find_loops,
    _item_clock,
    _session_votes,
    _topk,
    hashing,
    scorer,
)
from online_models.compiled import compiled, text_of_loops
from online_models.retrieval import Recommender, RecommenderSettings, warm_up

LOOPS = (
    _blend_loops, _candidate_loops, _covisit_loops, _embedding_loops, _find_loops, _item_clock,
    _session_votes, _topk, hashing, scorer,
)  # fmt: skip

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


def _of_module(module: Any) -> list[Any]:
    return [one for one in vars(module).values() if hasattr(one, "nopython_signatures")]


def test_loops_that_only_borrow_arrays_return_numbers_and_leave_no_array_behind() -> None:
    warm_up()
    loops = {one for module in LOOPS for one in _of_module(module)}
    borrowing = {one for one in loops if one.targetoptions["_nrt"] is False}
    assert len(borrowing) > 20
    returned = {signature.return_type for one in borrowing for signature in one.nopython_signatures}
    assert all(isinstance(kind, (types.Number, types.Boolean, types.NoneType)) for kind in returned)

    recommender = Recommender(RecommenderSettings())
    for click in range(300):
        recommender.add(click // 5, click % 37, click)
    memory: Any = vars(nrt)["_nrt"]
    memory.memsys_enable_stats()
    try:
        before = _held()
        for click in range(200):
            recommender.recommend([click % 37, 3, click % 5], 1_000, 10)
            recommender.add(click, click % 41, 1_000 + click)
        assert _held() - before < 50
    finally:
        memory.memsys_disable_stats()


def _held() -> int:
    runtime: Any = nrt.rtsys
    stats = runtime.get_allocation_stats()
    return int(stats.mi_alloc - stats.mi_free)
