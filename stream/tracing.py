"""What a folder notes of records that are parts of traces."""

import time
from collections.abc import Sequence

from state.tracing import Tracing
from stream.rows import Row


def trace_folds(tracing: Tracing, unit: str, rows: Sequence[Row]) -> None:
    """Note, of each record of a commit that is part of a trace, from Kafka's time of it to the commit."""
    now_ns = time.time_ns()
    for row in rows:
        if row.trace and tracing.wants(row.trace):
            said = {"unit": unit, "topic": row.kind, "partition": row.partition, "offset": row.offset}
            if row.kind == "decisions" and row.event is not None:
                said["decision"] = row.event.event_id
            tracing.note("fold", row.trace, (min(row.received_at * 1_000_000, now_ns), now_ns), said)
