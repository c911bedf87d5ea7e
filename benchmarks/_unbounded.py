"""The server as it would be without early shedding: everything that comes is let in."""

import os

from headwater.logs import configure_logs
from serving import app as product
from serving.admission import Admission
from state.settings import load_settings


def main() -> None:
    """Serve until told to stop, with a bound that never falls."""
    settings = load_settings(os.environ)
    configure_logs(settings.log_level)
    Admission.adjust = lambda *_: None  # type: ignore[method-assign]
    product.run(settings)


if __name__ == "__main__":
    main()
