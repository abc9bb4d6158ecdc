"""The FastMCP client over Streamable HTTP. Modes: auto (its default), legacy, modern."""

import mcp_types as types
from fastmcp import Client
from fastmcp.client.auth import OAuth
from fastmcp.client.transports import StreamableHttpTransport

from steps import drive, fill_form, headers_of, run_steps, said

MODES = {"default": "auto", "auto": "auto", "legacy": "legacy", "modern": "2026-07-28"}


async def perform(client, wanted):
    if "list" in wanted:
        fetch, name = {
            "tools": (client.list_tools, "name"),
            "resources": (client.list_resources, "uri"),
            "templates": (client.list_resource_templates, "uri_template"),
            "prompts": (client.list_prompts, "name"),
        }[wanted["list"]]
        return {"names": [str(getattr(item, name)) for item in await fetch()]}
    if "call" in wanted:
        progress = []

        async def on_progress(value, total, message):
            progress.append(value)

        result = await client.call_tool(
            wanted["call"],
            wanted.get("args", {}),
            progress_handler=on_progress if wanted.get("progress") else None,
            raise_on_error=False,
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
            listed = await client.list_resources()
            uri = next(str(item.uri) for item in listed if item.name.endswith(wanted["readNamed"]))
        content = (await client.read_resource(uri))[0]
        return {"uri": str(content.uri), "text": getattr(content, "text", None) or getattr(content, "blob", None)}
    if "prompt" in wanted:
        result = await client.get_prompt(wanted["prompt"], wanted.get("args", {}))
        return {"text": said([message.content for message in result.messages])}
    if "complete" in wanted:
        result = await client.complete(
            types.PromptReference(type="ref/prompt", name=wanted["complete"]),
            {"name": wanted["argument"], "value": wanted["value"]},
        )
        return {"values": result.values}
    raise ValueError(f"unknown step {wanted}")


async def run(plan, report):
    asked = report["asked"]

    async def elicit(message, response_type, params, context):
        asked.append("elicitation/create")
        return types.ElicitResult(action="accept", content=fill_form(params.requested_schema))

    async def sample(messages, params, context):
        asked.append("sampling/createMessage")
        return "Paris"

    async def roots(context):
        asked.append("roots/list")
        return ["file:///test/root"]

    # Its own helper: registers, opens the system's browser, listens, keeps the tokens.
    auth = OAuth(client_name="e2e fastmcp", callback_host="127.0.0.1") if plan.get("signIn") else None
    transport = StreamableHttpTransport(plan["url"], headers=headers_of(plan), auth=auth)
    async with Client(
        transport,
        mode=MODES[plan.get("mode", "default")],
        elicitation_handler=elicit,
        sampling_handler=sample,
        roots=roots,
        timeout=60,
    ) as client:
        report["version"] = client.session.protocol_version
        info = client.session.server_info
        report["server"] = info.model_dump() if info else None
        report["steps"] = await run_steps(lambda wanted: perform(client, wanted), plan.get("steps", []))
        if auth:
            tokens, info = auth.context.current_tokens, auth.context.client_info
            report["signedIn"] = {
                "tokens": tokens.model_dump(mode="json") if tokens else None,
                "client": info.model_dump(mode="json") if info else None,
            }


if __name__ == "__main__":
    drive("fastmcp", run)
