"""The official Python client, spoken to by `ambit serve --stdio`: what it takes of a session is what a desktop agent takes.

    python official.py MODE AMBIT ARGUMENT…

MODE is `legacy` (a session begun with `initialize`) or `auto` (what both sides speak newest). The home has the tools `echo` and `wild`.
The client validates each result against the schema that was listed. Prints the version that was spoken.
"""

import asyncio
import sys

from mcp import Client, MCPError, StdioServerParameters

mode, command, *arguments = sys.argv[1:]


async def main() -> None:
    server = StdioServerParameters(command=command, args=arguments)
    told = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append((done, total, message))

    async with Client(server, mode=mode, read_timeout_seconds=30) as client:
        assert client.server_info.name == "ambit", client.server_info
        assert "recorded" in client.instructions
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"echo_hash", "wild_try", "ambit_call_status", "ambit_call_result"} <= tools.keys(), tools.keys()
        assert tools["echo_hash"].annotations.read_only_hint is True

        result = await client.call_tool("echo_echo_a-u8", {"value": 7})
        assert not result.is_error and result.structured_content == {"value": 7}, result
        call = result.meta["ambit/call"]["call"]
        assert result.meta["traceparent"].startswith("00-"), result.meta

        refused = await client.call_tool("echo_echo_a-u8", {"value": 7, "approve": True})
        assert refused.is_error and "arguments" in refused.content[0].text, refused

        status = await client.call_tool("ambit_call_result", {"call": call})
        assert status.structured_content["status"] == "ok", status
        assert status.structured_content["value"] == 7, status

        flood = await client.call_tool("wild_try", {"case": "progress-flood"}, progress_callback=progress)
        assert flood.is_error and told == [(1, None, "still here")], (flood, told)

        resources = (await client.list_resources()).resources
        assert [str(one.uri) for one in resources] == ["ambit://tool/echo", "ambit://tool/wild"], resources
        receipt = await client.read_resource(f"ambit://receipt/{call}")
        assert call in receipt.contents[0].text, receipt
        templates = (await client.list_resource_templates()).resource_templates
        assert len(templates) == 3, templates

        try:
            await client.call_tool("nothing_of_the_kind", {})
        except MCPError as error:
            assert "no tool" in str(error), error
        else:
            raise AssertionError("a tool that is not there was called")

        # One that would compute for ever is given up by its caller, and the session goes on.
        try:
            await asyncio.wait_for(client.call_tool("wild_try", {"case": "spin"}), timeout=0.5)
        except (asyncio.TimeoutError, TimeoutError):
            pass
        else:
            raise AssertionError("an endless call ended")
        again = await client.call_tool("echo_hash", {"json": "x"})
        assert not again.is_error, again
        print(client.protocol_version)


asyncio.run(main())
