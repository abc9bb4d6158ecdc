"""As much of an MCP server as a test needs: the answer to one message, None for a notification."""


def answer(message, who):
    def result(value):
        return {"jsonrpc": "2.0", "id": message.get("id"), "result": value}

    method = message.get("method")
    if method == "initialize":
        server = {"name": "origin", "version": "1"}
        return result({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": server})
    if method == "tools/list":
        return result({"tools": [{"name": "whoami", "inputSchema": {"type": "object"}}]})
    if method == "tools/call":
        return result({"content": [{"type": "text", "text": f"you are {who}"}]})
    if method == "ping":
        return result({})
    if "id" not in message:
        return None
    return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}}
