"""``headwater shop``: the example shop on a running server."""

import os

import click
from aiohttp import web

from headwater.shop.site import Site
from serving.client import BatchRules, ClientOptions

KEY_VARIABLE = "SHOP_API_KEY"


@click.command()
@click.option("--api", default="http://127.0.0.1:8080", show_default=True, help="Address of the server.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the shop listens.")
@click.option("--port", type=click.IntRange(1, 65_535), default=8081, show_default=True)
def shop(api: str, host: str, port: int) -> None:
    """Open an example shop: a page whose slate changes with every click.

    It uses the Python client (docs/client.md). An API key is read from the environment variable SHOP_API_KEY.
    """
    try:
        options = ClientOptions(
            url=api, api_key=os.environ.get(KEY_VARIABLE, ""), batches=BatchRules(linger_s=0.02)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"shop at http://{host}:{port}/ on {api}; Ctrl-C ends it")
    web.run_app(Site(options).application(), host=host, port=port, print=None)
