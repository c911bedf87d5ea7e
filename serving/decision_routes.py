"""HTTP routes of past decisions: what they were made of, and why any item is in them or not."""

from typing import Annotated, Any

from litestar import Request, get
from litestar.datastructures import State
from litestar.params import Parameter

from serving.verdict import ItemWhy, item_why
from serving.why import DecisionWhy, explain
from state.tokens import DECISION_ID

DecisionId = Annotated[str, Parameter(pattern=DECISION_ID, description="`decision_id` of an answer.")]
AnyItem = Annotated[str, Parameter(min_length=1, max_length=128, description="Any item id.")]


@get("/v1/decisions/{decision_id:str}", summary="What a past decision was made of")
async def get_decision(decision_id: DecisionId, request: Request[Any, Any, State]) -> DecisionWhy:
    """Return features, contributions, scores by stage and propensities of each slot, and all versions."""
    decision = await request.app.state.decisions.read(decision_id)
    live = request.app.state.sync.live
    return explain(decision, live.registry, live.model_versions.get(decision.surface, 0))


@get("/v1/decisions/{decision_id:str}/why", summary="Why an item is in a past slate, or is not")
async def get_why(decision_id: DecisionId, request: Request[Any, Any, State], item_id: AnyItem) -> ItemWhy:
    """Return exactly one verdict on any item, and all that is known of it where it was shown."""
    decision = await request.app.state.decisions.read(decision_id)
    live = request.app.state.sync.live
    return item_why(decision, item_id, live.registry, is_known=live.items.is_known(item_id))


DECISION_ROUTES: list[Any] = [get_decision, get_why]
