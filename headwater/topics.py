"""``headwater topics``: the topics of a namespace, made and checked."""

from state.clients import kafka_security
from state.settings import Settings
from state.topics import TopicError, TopicSpec, check_topics, create_topics, topic_specs


def _specs(settings: Settings) -> list[TopicSpec]:
    return topic_specs(
        settings.namespace, settings.shards, settings.item_shards, settings.lanes, settings=settings
    )


async def create(settings: Settings) -> tuple[bool, list[str]]:
    """Create missing topics, then check all; returns whether all is well, and lines to print."""
    try:
        made = await create_topics(
            settings.kafka, _specs(settings), settings.replication, kafka_security(settings)
        )
    except TopicError as error:
        return False, [str(error)]
    ok, lines = await check(settings)
    return ok, [f"created {', '.join(made)}" if made else "nothing to create", *lines]


async def check(settings: Settings) -> tuple[bool, list[str]]:
    """Compare topics with settings; returns whether all is well, and lines to print."""
    try:
        problems = await check_topics(settings.kafka, _specs(settings), kafka_security(settings))
    except TopicError as error:
        return False, [str(error)]
    return not problems, problems or [f"{len(_specs(settings))} topics as they should be"]
