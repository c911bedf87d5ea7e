"""One warm-up for all loops of the room: compiled here, or loaded from disk, and never in a request."""

from online_models import (
    covisit,
    neighbourhoods,
    ranking,
    retrieval,
    session_embedding,
    session_knn,
    texts,
    trends,
)


def warm_up() -> None:
    """Compile (or load from disk) every loop of this room."""
    for loops in (session_knn, covisit, session_embedding, trends, neighbourhoods, texts, retrieval, ranking):
        loops.warm_up()
