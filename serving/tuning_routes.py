"""HTTP routes of exploration: read it, turn it, stop it, look back and go back."""

import time
from typing import Annotated, Any

from litestar import Request, Response, get, post, put
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.status_codes import HTTP_200_OK

from serving.etags import IfMatch, SurfaceName, tagged, version_of
from serving.ledger import LedgerAnswer, read_ledger
from serving.ledger import State as LedgerState
from serving.requests import BudgetChange, ExplorationChange, RankingChange, Rollback, Stop
from state.exploration import Budgets, Explorations
from state.ranking import Rankings


@get("/v1/exploration/{surface:str}", summary="The exploration in force")
async def get_exploration(surface: SurfaceName, request: Request[Any, Any, State]) -> Response[Explorations]:
    """Return the exploration document of a surface; its version is the ETag."""
    return tagged(request.app.state.tuning.exploration(surface))


@put("/v1/exploration/{surface:str}", summary="Turn exploration")
async def put_exploration(
    surface: SurfaceName, data: ExplorationChange, request: Request[Any, Any, State], if_match: IfMatch = None
) -> Response[Explorations]:
    """Change the exploration of a surface; answers once it is in force on this server."""
    return tagged(await request.app.state.tuning.change(surface, data, version_of(if_match)))


@post("/v1/exploration/{surface:str}/stop", status_code=HTTP_200_OK, summary="Stop exploring")
async def stop_exploration(
    surface: SurfaceName, data: Stop, request: Request[Any, Any, State]
) -> Response[Explorations]:
    """Turn exploration off on every server within a second."""
    return tagged(await request.app.state.tuning.stop(surface, data))


@post("/v1/exploration/{surface:str}/rollback", status_code=HTTP_200_OK, summary="Go back to a version")
async def roll_exploration_back(
    surface: SurfaceName, data: Rollback, request: Request[Any, Any, State], if_match: IfMatch = None
) -> Response[Explorations]:
    """Bring the settings of an earlier version back, as a new one."""
    return tagged(await request.app.state.tuning.rollback(surface, data, version_of(if_match)))


@get("/v1/exploration/{surface:str}/history", summary="Who changed exploration, when and why")
async def get_exploration_history(
    surface: SurfaceName, request: Request[Any, Any, State]
) -> list[Explorations]:
    """Return the versions that are kept, newest first."""
    versions: list[Explorations] = await request.app.state.tuning.history(surface)
    return versions


@get("/v1/exploration-budget", summary="What exploration may cost on all surfaces together")
async def get_budget(request: Request[Any, Any, State]) -> Response[Budgets]:
    """Return the budget in force; its version is the ETag."""
    return tagged(request.app.state.tuning.budget())


@put("/v1/exploration-budget", summary="Set what exploration may cost")
async def put_budget(
    data: BudgetChange, request: Request[Any, Any, State], if_match: IfMatch = None
) -> Response[Budgets]:
    """Change the budget; answers once it is in force on this server."""
    return tagged(await request.app.state.tuning.change_budget(data, version_of(if_match)))


@get("/v1/ranking/{surface:str}", summary="How slates are put together")
async def get_ranking(surface: SurfaceName, request: Request[Any, Any, State]) -> Response[Rankings]:
    """Return the ranking document of a surface; its version is the ETag."""
    return tagged(request.app.state.tuning.ranking(surface))


@put("/v1/ranking/{surface:str}", summary="Change variety, repetition and freshness")
async def put_ranking(
    surface: SurfaceName, data: RankingChange, request: Request[Any, Any, State], if_match: IfMatch = None
) -> Response[Rankings]:
    """Change the ranking document of a surface; answers once it is in force on this server."""
    return tagged(await request.app.state.tuning.change_ranking(surface, data, version_of(if_match)))


@get("/v1/exploration/{surface:str}/ledger", summary="What each new item has had, and what exploration cost")
async def get_ledger(
    surface: SurfaceName,
    request: Request[Any, Any, State],
    only: LedgerState | None = None,
    limit: Annotated[int, Parameter(ge=0, le=10_000)] = 100,
) -> LedgerAnswer:
    """Return the ledger of new items; counts are of all, items those in a state, the youngest first."""
    live = request.app.state.sync.live
    answer = read_ledger(live, surface, time.time_ns() // 1_000_000)
    answer.items = [one for one in answer.items if only in (None, one.state)][:limit]
    return answer


TUNING_ROUTES: list[Any] = [
    get_exploration,
    put_exploration,
    stop_exploration,
    roll_exploration_back,
    get_exploration_history,
    get_budget,
    put_budget,
    get_ledger,
    get_ranking,
    put_ranking,
]
