"""A support agent that gives money back, on the official Python client: it reads, drafts, asks, waits for people, and keeps the receipt.

    python agent.py draft CHARGE AMOUNT     what a refund would send, and what would become of it; nothing leaves
    python agent.py refund CHARGE AMOUNT    the refund; where people decide first, it waits for them

Amounts are in cents. The README beside this says how it reaches Ambit.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

# What the host says about a call, beside its value.
ABOUT = "ambit/call"


class Stopped(Exception):
    """There is no refund, and this says why."""


@asynccontextmanager
async def ambit(draft: bool) -> AsyncIterator[Client]:
    """A connection to Ambit: to one that sends nothing, for a draft."""
    url = os.environ.get("AMBIT_DRAFT_URL" if draft else "AMBIT_URL")
    if url:
        headers = {"Authorization": f"Bearer {os.environ['AMBIT_KEY']}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            async with Client(streamable_http_client(url, http_client=http)) as client:
                yield client
        return
    if os.environ.get("AMBIT_URL"):
        raise Stopped("a draft needs AMBIT_DRAFT_URL: an Ambit that is served with --mode dry-run")
    arguments = ["--home", os.environ["AMBIT_HOME"], "serve", "--stdio", "--as", "assistant", "--for", "ada"]
    arguments += ["--mode", "dry-run"] if draft else []
    command = os.environ.get("AMBIT", "ambit")
    async with Client(StdioServerParameters(command=command, args=arguments)) as client:
        yield client


async def call(client: Client, name: str, arguments: dict[str, Any]) -> tuple[Any, dict[str, Any], str]:
    """Calls a tool: its value, what the host says about the call, and the words for a model where there is no value."""
    result = await client.call_tool(name, arguments)
    words = " ".join(block.text for block in result.content if block.type == "text")
    return result.structured_content, (result.meta or {}).get(ABOUT, {}), words


def money(minor: int, currency: str) -> str:
    return f"{minor // 100}.{minor % 100:02} {currency}"


async def look_up(client: Client, charge: str, amount: int) -> None:
    """Reads the charge, and thinks before it asks for anything."""
    found, _, words = await call(client, "stripe_charges_get", {"id": charge})
    if found is None:
        raise Stopped(words)
    left = found["amount"] - found["amount-refunded"]
    print(f"charge {charge}: {money(found['amount'], found['currency'])}, of which {money(left, found['currency'])} is left")
    if amount > left:
        raise Stopped("that is more than is left of it")


async def draft(client: Client, charge: str, amount: int) -> None:
    await look_up(client, charge, amount)
    _, about, words = await call(client, "stripe_refunds_create", {"charge": charge, "amount": amount})
    first = about.get("first-write")
    if first is None:
        raise Stopped(words)
    print(f"draft: {first['request']['method']} {first['request']['url']} {json.dumps(first['request']['fields'])}")
    policy = first["policy"]
    needs = [f"{count} of {group}" for way in policy.get("needs", []) for group, count in way.items()]
    print(f"it would {policy['would'].replace('-', ' ')}" + (f" for {', '.join(needs)}" if needs else ""))


async def refund(client: Client, charge: str, amount: int) -> None:
    await look_up(client, charge, amount)
    made, about, words = await call(client, "stripe_refunds_create", {"charge": charge, "amount": amount})
    receipt = about.get("receipt", {}).get("uri")
    if about["outcome"] == "held":
        print(f"held: call {about['call']} waits for people", flush=True)
        made, receipt = await decided(client, about["call"])
    elif about["outcome"] != "ok":
        raise Stopped(words)
    print(f"refund {made['id']}: {money(made['amount'], made['currency'])}, {made['status']}")
    document = (await client.read_resource(receipt)).contents[0]
    entry = json.loads(json.loads(document.text)["entry"])
    print(f"receipt: entry {entry['index']} of the ledger")


async def decided(client: Client, held: str) -> tuple[Any, str]:
    """Waits until people have decided. An agent that has more to do does that, and asks again later."""
    while True:
        status, _, words = await call(client, "ambit_call_result", {"call": held})
        if status["status"] == "ok":
            return status["value"], status["receipt"]
        if status["status"] not in ("held", "running"):
            raise Stopped(words)
        await asyncio.sleep(0.5)


STEPS = {"draft": draft, "refund": refund}


async def work(step: str, charge: str, amount: int) -> int:
    try:
        async with ambit(draft=step == "draft") as client:
            # Caught here: a connection that is left by an exception has its own to add.
            try:
                await STEPS[step](client, charge, amount)
                return 0
            except Stopped as stopped:
                reason = stopped
    except Stopped as stopped:
        reason = stopped
    print(f"no refund: {reason}")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in STEPS or not sys.argv[3].isdigit():
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
