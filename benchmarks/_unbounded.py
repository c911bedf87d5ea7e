"""The server as it would be without early shedding: everything that comes is let in."""

import os

from headwater.logs import configure_logs
from serving import app as product
from serving.admission import Admission
from state.settings import load_settings


def _let_in(admission: Admission) -> bool:
    admission.rejoin()
    return True


def main() -> None:
    """Serve until told to stop, and refuse nobody."""
    settings = load_settings(os.environ)
    configure_logs(settings.log_level)
    Admission.enter = _let_in  # type: ignore[assignment, method-assign]
    product.run(settings)


if __name__ == "__main__":
    main()
