"""HTTP routes of rules: boosts, burials, pins and what is hidden, by surface and name."""

from typing import Annotated, Any

from litestar import Request, Response, delete, get, put
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import Parameter
from litestar.status_codes import HTTP_200_OK

from serving.etags import IfMatch, SurfaceName, tagged, version_of
from serving.requests import RuleChange
from state.merchandising import Merchandising, Rule

RuleName = Annotated[str, Parameter(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="Name of the rule.")]
_By = Annotated[str, Parameter(max_length=128, description="Who removes it.")]
_Why = Annotated[str, Parameter(max_length=512, description="Why.")]


@get("/v1/rules", summary="The rules of every surface")
async def get_all_rules(request: Request[Any, Any, State]) -> dict[str, Merchandising]:
    """Return the rule documents by surface."""
    found: dict[str, Merchandising] = request.app.state.sync.live.rule_documents()
    return found


@get("/v1/rules/{surface:str}", summary="The rules of a surface")
async def get_rules(surface: SurfaceName, request: Request[Any, Any, State]) -> Response[Merchandising]:
    """Return the rule document of a surface; its version is the ETag."""
    return tagged(_document(request, surface))


@get("/v1/rules/{surface:str}/{name:str}", summary="One rule")
async def get_rule(surface: SurfaceName, name: RuleName, request: Request[Any, Any, State]) -> Response[Rule]:
    """Return a rule; the ETag is the version of its surface's rules."""
    document = _document(request, surface)
    return Response(_rule(document, surface, name), headers={"ETag": f'"{document.version}"'})


@put("/v1/rules/{surface:str}/{name:str}", summary="Make or change a rule")
async def put_rule(
    surface: SurfaceName,
    name: RuleName,
    data: RuleChange,
    request: Request[Any, Any, State],
    if_match: IfMatch = None,
) -> Response[Merchandising]:
    """Put a rule in force; answers once it is so on this server, with all rules of the surface."""
    rules = {**_document(request, surface).rules, name: data.rule()}
    tuning = request.app.state.tuning
    return tagged(
        await tuning.change_rules(surface, rules, (data.changed_by, data.why), version_of(if_match))
    )


@delete("/v1/rules/{surface:str}/{name:str}", status_code=HTTP_200_OK, summary="Remove a rule")
async def delete_rule(
    surface: SurfaceName,
    name: RuleName,
    request: Request[Any, Any, State],
    changed_by: _By = "",
    why: _Why = "",
    if_match: IfMatch = None,
) -> Response[Merchandising]:
    """Take a rule away; answers once it is gone on this server, with the rules left."""
    document = _document(request, surface)
    _rule(document, surface, name)
    rules = {other: rule for other, rule in document.rules.items() if other != name}
    tuning = request.app.state.tuning
    return tagged(await tuning.change_rules(surface, rules, (changed_by, why), version_of(if_match)))


def _document(request: Request[Any, Any, State], surface: str) -> Merchandising:
    document: Merchandising = request.app.state.sync.live.rules(surface).document
    return document


def _rule(document: Merchandising, surface: str, name: str) -> Rule:
    rule = document.rules.get(name)
    if rule is None:
        raise NotFoundException(f"no rule {name} on {surface}; there are: {sorted(document.rules)}")
    return rule


RULES_ROUTES: list[Any] = [get_all_rules, get_rules, get_rule, put_rule, delete_rule]
