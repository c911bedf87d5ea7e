"""What is known of click models, for the API: read from the store, categories by their names."""

from typing import Any

from litestar import Request, get
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from msgspec import Struct

from online_models.hashing import code_of
from serving.etags import SurfaceName
from serving.live import LiveState
from serving.store import from_store
from state.model_documents import ModelPolicy
from state.models import Lifecycle, read_lifecycles
from state.settings import Settings

_CATEGORY = "category:"


class SurfaceModelsAnswer(Struct):
    """Models of one surface.

    Attributes
    ----------
    surface
        Which.
    serving
        Gradient steps of the weights this server ranks by, over all lanes; 0 for those it began with.
    weights
        Worth of each head, as in force on this server.
    lanes
        Lane -> measures, versions, shadows and history of its models.
    """

    surface: str
    serving: int
    weights: dict[str, float]
    lanes: dict[int, Lifecycle]


class ModelsReader:
    """Reads what lanes have committed of their models.

    Parameters
    ----------
    settings
        Of the namespace.
    redis
        Client of the store.
    live
        What this server ranks by, and the catalogue's categories.
    """

    def __init__(self, settings: Settings, redis: Any, live: LiveState) -> None:
        self._settings, self._redis, self._live = settings, redis, live

    async def read(self) -> list[SurfaceModelsAnswer]:
        """Return the models of every surface.

        Raises
        ------
        ServiceUnavailableException
            If the store does not answer.
        """
        found = await from_store(read_lifecycles(self._redis, self._settings))
        names = {code_of(name): name for name in self._live.items.category_codes}
        return [self._answer(surface, lanes, names) for surface, lanes in found.items()]

    def _answer(
        self, surface: str, lanes: dict[int, Lifecycle], names: dict[int, str]
    ) -> SurfaceModelsAnswer:
        for life in lanes.values():
            for segment in life.segments:
                if segment.name.startswith(_CATEGORY):
                    code = int(segment.name[len(_CATEGORY) :])
                    segment.name = f"{_CATEGORY}{names.get(code, code)}"
        weights = self._live.policies.get(surface, ModelPolicy()).weights()
        return SurfaceModelsAnswer(surface, self._live.model_versions.get(surface, 0), weights, lanes)


@get("/v1/models", summary="What the click models are worth")
async def get_models(request: Request[Any, Any, State]) -> list[SurfaceModelsAnswer]:
    """Return measures, versions, shadows and history of the models of every surface."""
    answer: list[SurfaceModelsAnswer] = await request.app.state.models.read()
    return answer


@get("/v1/models/{surface:str}", summary="What the click models of a surface are worth")
async def get_surface_models(surface: SurfaceName, request: Request[Any, Any, State]) -> SurfaceModelsAnswer:
    """Return measures, versions, shadows and history of the models of a surface."""
    found: list[SurfaceModelsAnswer] = await request.app.state.models.read()
    for one in found:
        if one.surface == surface:
            return one
    raise NotFoundException(f"no model of surface {surface}; there are: {[one.surface for one in found]}")


MODEL_ROUTES: list[Any] = [get_models, get_surface_models]
