"""What the Python client scripts share: the plan, the steps, the report (see lib/drive.mjs)."""

import asyncio
import json
import sys


def fill_form(schema):
    """What a person would type into a form."""
    content = {}
    for name, field in (schema or {}).get("properties", {}).items():
        if "default" in field:
            content[name] = field["default"]
        elif "enum" in field:
            content[name] = field["enum"][0]
        elif "oneOf" in field:
            content[name] = field["oneOf"][0]["const"]
        elif field.get("type") == "boolean":
            content[name] = True
        elif field.get("type") in ("integer", "number"):
            content[name] = field.get("minimum", 1)
        elif field.get("type") == "array":
            content[name] = []
        else:
            content[name] = "ada@example.com" if "mail" in name else "Ada"
    return content


def said(content):
    """The text of content blocks."""
    blocks = content if isinstance(content, list) else [content]
    texts = []
    for block in blocks:
        text = getattr(block, "text", None)
        if text is None and getattr(block, "resource", None) is not None:
            text = getattr(block.resource, "text", None)
        texts.append(text if text is not None else f"<{block.type}>")
    return "\n".join(texts)


def problem(error):
    """An exception as JSON."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return problem(error.exceptions[0])
    inner = getattr(error, "error", None)
    code = getattr(inner, "code", None) or getattr(error, "code", None)
    return {"code": code, "message": f"{type(error).__name__}: {error}"}


async def run_steps(perform, steps):
    """Every step in order, each with its outcome."""
    done = []
    for wanted in steps:
        try:
            done.append({**wanted, **await perform(wanted)})
        except Exception as error:  # every failure is a result here
            done.append({**wanted, "error": problem(error)})
    return done


def drive(name, run):
    """Runs `run(plan, report)` and prints the report as one JSON line."""
    plan = json.loads(sys.argv[1])
    report = {"client": name, "mode": plan.get("mode", "default"), "asked": [], "steps": []}

    async def bounded():
        async with asyncio.timeout(plan.get("limit", 90)):
            await run(plan, report)

    try:
        asyncio.run(bounded())
    except Exception as error:  # reported, not raised
        report["error"] = problem(error)
    print(json.dumps(report, default=str))
    sys.exit(1 if "error" in report else 0)


def headers_of(plan):
    """The header that carries the token."""
    headers = dict(plan.get("headers", {}))
    if plan.get("token"):
        headers["Authorization"] = f"Bearer {plan['token']}"
    return headers
