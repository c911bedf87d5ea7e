"""Which methods a route knows, as OPTIONS asks."""

from typing import Any

from litestar import Request, Response
from litestar.routes import HTTPRoute
from litestar.status_codes import HTTP_204_NO_CONTENT


def answer_options(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Answer OPTIONS with every method of a path; the framework knows those of its first handler alone."""
    if request.method != "OPTIONS":
        return None
    path = request.scope["path_template"]
    routes = [route for route in request.app.routes if isinstance(route, HTTPRoute)]
    allowed = {method for route in routes if route.path_format == path for method in route.methods}
    return Response(None, status_code=HTTP_204_NO_CONTENT, headers={"Allow": ", ".join(sorted(allowed))})
