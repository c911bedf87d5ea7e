"""HTTP routes of what would be: previews of exploration, shadow policies and their scoreboard."""

from typing import Annotated, Any

from litestar import Request, Response, get, post, put
from litestar.datastructures import State
from litestar.params import Parameter
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta, Struct

from serving.etags import IfMatch, SurfaceName, tagged, version_of
from serving.preview import Preview
from serving.scoreboard import Promotion, ScoreboardAnswer, promotion_wish
from serving.store import from_store
from state.events import Name
from state.exploration import Explorations, Shadow, Shadows

WishedRate = Annotated[float, Parameter(ge=0.0, le=0.5, description="Share of slots that would explore.")]
Hours = Annotated[float, Parameter(gt=0.0, le=168.0, description="How far back to look.")]


class ShadowsChange(Struct, forbid_unknown_fields=True):
    """All shadow policies of a surface; those not named are no longer watched."""

    policies: Annotated[dict[Name, Shadow], Meta(max_length=8)]
    changed_by: Annotated[str, Meta(max_length=128)] = ""
    why: Annotated[str, Meta(max_length=512)] = ""


@get("/v1/exploration/{surface:str}/preview", summary="What another rate would earn")
async def get_preview(
    surface: SurfaceName, request: Request[Any, Any, State], rate: WishedRate, hours: Hours = 24.0
) -> Preview:
    """Return the expected reward at another rate and how it differs, from the last hours of decisions."""
    return await from_store(request.app.state.previews.read(surface, rate, hours))


@get("/v1/scoreboard", summary="Shadow policies beside the one in force")
async def get_scoreboard(request: Request[Any, Any, State], surface: SurfaceName) -> ScoreboardAnswer:
    """Return every shadow's value with an interval that holds at any time."""
    return await from_store(request.app.state.scoreboard.read(surface))


@put("/v1/exploration/{surface:str}/shadows", summary="Declare shadow policies")
async def put_shadows(
    surface: SurfaceName, data: ShadowsChange, request: Request[Any, Any, State], if_match: IfMatch = None
) -> Response[Shadows]:
    """Declare which policies watch a surface; answers once this server logs what they would do."""
    said, version = (data.changed_by, data.why), version_of(if_match)
    return tagged(await request.app.state.tuning.change_shadows(surface, data.policies, said, version))


@get("/v1/exploration/{surface:str}/shadows", summary="Which shadow policies watch")
async def get_shadows(surface: SurfaceName, request: Request[Any, Any, State]) -> Response[Shadows]:
    """Return the shadow policies of a surface; their version is the ETag."""
    return tagged(request.app.state.sync.live.shadows(surface).document)


@post("/v1/exploration/{surface:str}/promote", status_code=HTTP_200_OK, summary="Promote a shadow")
async def promote_shadow(
    surface: SurfaceName, data: Promotion, request: Request[Any, Any, State], if_match: IfMatch = None
) -> Response[Explorations]:
    """Make a shadow the policy in force; refused while its interval overlaps that of the one in force."""
    board = await from_store(request.app.state.scoreboard.read(surface))
    wish = promotion_wish(board, data)
    return tagged(await request.app.state.tuning.fulfil(f"exploration/{surface}", wish, version_of(if_match)))


PREVIEW_ROUTES: list[Any] = [get_preview, get_scoreboard, get_shadows, put_shadows, promote_shadow]
