"""Client of the HTTP API: slates that never fail to come, events in batches, clicks in the next answer.

>>> from serving.client import Client, ClientOptions, RecommendationRequest, clicked
>>> with Client(ClientOptions(url="http://127.0.0.1:8080")) as client:  # doctest: +SKIP
...     slate = client.recommend(RecommendationRequest(session_id="me", k=5))
...     client.track(clicked(slate, slate.items[0].item_id, session_id="me"))
...     client.recommend(RecommendationRequest(session_id="me", k=5))  # contains the click

docs/client.md is the guide.
"""

from serving.client.acts import clicked, said, shown
from serving.client.asynchronous import AsyncClient
from serving.client.errors import ClientError, ClosedError, Problem, RefusedError, UnavailableError
from serving.client.options import BatchRules, ClientOptions
from serving.client.retrying import RetryRules
from serving.client.slates import Slate
from serving.client.synchronous import Client
from serving.requests import RecommendationRequest, RecommendedItem, Verdict
from state.events import Click, Event, Feedback, Impression, Item, User

__all__ = [
    "AsyncClient",
    "BatchRules",
    "Click",
    "Client",
    "ClientError",
    "ClientOptions",
    "ClosedError",
    "Event",
    "Feedback",
    "Impression",
    "Item",
    "Problem",
    "RecommendationRequest",
    "RecommendedItem",
    "RefusedError",
    "RetryRules",
    "Slate",
    "UnavailableError",
    "User",
    "Verdict",
    "clicked",
    "said",
    "shown",
]
