"""Sends calls over HTTP: one deadline over all attempts, pauses between them, no unsafe repeats."""

import asyncio
import random
import time
from typing import TypeVar

import aiohttp

from serving.client.calls import Call, failure
from serving.client.errors import ClientError, UnavailableError
from serving.client.options import ClientOptions
from serving.client.retrying import Budget, may_repeat, retry_after_s

T = TypeVar("T")
# Servers close what was idle for 5 s: a request that is just being sent then is lost with the connection.
_IDLE_S = 3.0


class _FailedAttempt(Exception):  # noqa: N818 - one attempt is not the call
    """How one attempt ended, and whether and when another may be made."""

    def __init__(self, error: ClientError, *, may_repeat: bool, after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.may_repeat, self.after_s = error, may_repeat, after_s


class Transport:
    """Connections to one server; made and used on one event loop.

    Parameters
    ----------
    options
        Of the client.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options, self._rules = options, options.retries
        self._budget, self._random = Budget(options.retries), random.Random()
        headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
        connector = aiohttp.TCPConnector(
            limit=options.connections, keepalive_timeout=_IDLE_S, ssl=options.tls or True
        )
        self._url = options.url.rstrip("/")
        self._http = aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=None)
        )
        self.retries = 0

    async def send(self, call: Call[T], deadline_s: float, attempt_s: float | None = None) -> T:
        """Return the answer of a call.

        Parameters
        ----------
        call
            What is asked.
        deadline_s
            Most it may take in all, s.
        attempt_s
            Most one attempt may take, s; the options' where not given.

        Raises
        ------
        RefusedError
            If the server refuses it.
        UnavailableError
            If no answer came in time.
        """
        end, most = time.monotonic() + deadline_s, attempt_s or self._options.attempt_s
        self._budget.earn()
        retry = 0
        while True:
            try:
                return await self._try(call, min(end - time.monotonic(), most))
            except _FailedAttempt as failed:
                pause = self._rules.pause_s(retry, self._random, failed.after_s)
                if not failed.may_repeat or not self._may_retry(retry, time.monotonic() + pause < end):
                    raise failed.error from None
            retry += 1
            self.retries += 1
            await asyncio.sleep(pause)

    def _may_retry(self, retry: int, is_in_time: bool) -> bool:
        return is_in_time and retry + 1 < self._rules.tries and self._budget.spend()

    async def _try(self, call: Call[T], most_s: float) -> T:
        """Make one attempt; raises `_FailedAttempt` where it brings no answer."""
        name = f"{call.method} {call.path}"
        try:
            async with asyncio.timeout(most_s):
                return await self._ask(call)
        except aiohttp.ClientConnectorError as error:  # it never left: repeating it is safe, whatever it is
            raise _FailedAttempt(UnavailableError(f"{name}: {error}"), may_repeat=True) from None
        except TimeoutError:
            why = f"no answer within {most_s:.3f} s"
        except (aiohttp.ClientError, OSError) as error:
            why = f"{type(error).__name__}: {error}"
        except UnavailableError as error:
            why = str(error)
        raise _FailedAttempt(UnavailableError(f"{name}: {why}"), may_repeat=call.repeatable)

    async def _ask(self, call: Call[T]) -> T:
        headers = dict(call.headers)
        if call.body:
            headers["Content-Type"] = "application/json"
        async with self._http.request(
            call.method,
            self._url + call.path,
            data=call.body or None,
            params=call.query,
            headers=headers,
            allow_redirects=False,  # a key must not travel to wherever somebody points
        ) as answer:
            body = await answer.read()
            if answer.status < 300:
                return call.read(body)
            after_s = retry_after_s(answer.headers.get("Retry-After"), time.time())
            repeat = may_repeat(answer.status, repeatable=call.repeatable)
            raise _FailedAttempt(failure(answer.status, body), may_repeat=repeat, after_s=after_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()
