"""The Python `mcp` client over Streamable HTTP. Modes: auto (its default), legacy, modern."""

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

from sign_in import Kept, Returning, open_browser
from steps import drive, fill_form, headers_of, run_steps, said

MODES = {"default": "auto", "auto": "auto", "legacy": "legacy", "modern": "2026-07-28"}


async def pages(fetch, member):
    items, cursor = [], None
    for _ in range(1000):
        result = await fetch(cursor=cursor)
        items.extend(getattr(result, member))
        cursor = result.next_cursor
        if cursor is None:
            return items
    raise RuntimeError("the list never ends")


async def perform(client, wanted):
    if "list" in wanted:
        fetch, member, name = {
            "tools": (client.list_tools, "tools", "name"),
            "resources": (client.list_resources, "resources", "uri"),
            "templates": (client.list_resource_templates, "resource_templates", "uri_template"),
            "prompts": (client.list_prompts, "prompts", "name"),
        }[wanted["list"]]
        return {"names": [str(getattr(item, name)) for item in await pages(fetch, member)]}
    if "call" in wanted:
        progress = []

        async def on_progress(value, total, message):
            progress.append(value)

        result = await client.call_tool(
            wanted["call"], wanted.get("args", {}), progress_callback=on_progress if wanted.get("progress") else None
        )
        return {
            "isError": bool(result.is_error),
            "text": said(result.content),
            "kinds": [block.type for block in result.content],
            "structuredContent": result.structured_content,
            "meta": result.meta,
            "progress": progress,
        }
    if "read" in wanted or "readNamed" in wanted:
        uri = wanted.get("read")
        if uri is None:
            listed = await pages(client.list_resources, "resources")
            uri = next(str(item.uri) for item in listed if item.name.endswith(wanted["readNamed"]))
        content = (await client.read_resource(uri)).contents[0]
        return {"uri": str(content.uri), "text": getattr(content, "text", None) or getattr(content, "blob", None)}
    if "prompt" in wanted:
        result = await client.get_prompt(wanted["prompt"], wanted.get("args", {}))
        return {"text": said([message.content for message in result.messages])}
    if "complete" in wanted:
        result = await client.complete(
            types.PromptReference(type="ref/prompt", name=wanted["complete"]),
            {"name": wanted["argument"], "value": wanted["value"]},
        )
        return {"values": result.completion.values}
    raise ValueError(f"unknown step {wanted}")


async def run(plan, report):
    asked = report["asked"]

    async def elicit(context, params):
        asked.append("elicitation/create")
        return types.ElicitResult(action="accept", content=fill_form(params.requested_schema))

    async def sample(context, params):
        asked.append("sampling/createMessage")
        content = types.TextContent(type="text", text="Paris")
        return types.CreateMessageResult(role="assistant", content=content, model="scripted", stop_reason="endTurn")

    async def roots(context):
        asked.append("roots/list")
        return types.ListRootsResult(roots=[types.Root(uri="file:///test/root", name="Test Root")])

    auth = None
    if plan.get("signIn"):
        returning, kept = Returning(), Kept()
        report["signedIn"] = kept.told
        auth = OAuthClientProvider(
            plan["url"],
            OAuthClientMetadata(
                client_name="e2e python-mcp",
                redirect_uris=[returning.url],
                grant_types=["authorization_code", "refresh_token"],
                token_endpoint_auth_method="none",
            ),
            kept,
            redirect_handler=lambda url: open_browser(url, kept.told),
            callback_handler=returning.answer,
        )
    async with httpx2.AsyncClient(headers=headers_of(plan), timeout=60, auth=auth) as http:
        async with Client(
            streamable_http_client(plan["url"], http_client=http),
            mode=MODES[plan.get("mode", "default")],
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
        ) as client:
            report["version"] = client.protocol_version
            report["server"] = client.server_info.model_dump() if client.server_info else None
            report["steps"] = await run_steps(lambda wanted: perform(client, wanted), plan.get("steps", []))


if __name__ == "__main__":
    drive("python-mcp", run)
