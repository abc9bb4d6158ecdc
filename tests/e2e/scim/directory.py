"""A company's directory, as a real SCIM client (scim2-client) plays it.

    python directory.py URL TOKEN

Each line of stdin is one command, each is answered with one JSON line:
  {"do": "user", "name": …, "external"?: …}        -> {"id": …}
  {"do": "group", "name": …, "members": [ids]}     -> {"id": …}
  {"do": "active", "id": …, "active": bool}        -> {"active": …}   (PATCH)
  {"do": "members", "id": …, "members": [ids]}     -> {"members": …}  (PATCH)
  {"do": "delete", "id": …, "what": "user"|"group"}
  {"do": "find", "name": …}                        -> {"ids": […]}
"""

import json
import sys

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import GroupMember, PatchOp, PatchOperation, SearchRequest

url, token = sys.argv[1:3]
http = Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
scim = SyncSCIMClient(http)
scim.discover()
User, Group = scim.get_resource_model("User"), scim.get_resource_model("Group")


def patch(model, id, path, value):
    operation = PatchOperation(op=PatchOperation.Op.replace_, path=path, value=value)
    return scim.modify(model, id, PatchOp[model](operations=[operation]))


def members(ids):
    field = Group.model_fields["members"].annotation
    return [{"value": id} for id in ids], field


def do(command):
    what = command["do"]
    if what == "user":
        user = User(user_name=command["name"], external_id=command.get("external"), active=True)
        return {"id": scim.create(user).id}
    if what == "group":
        group = Group.model_validate({"displayName": command["name"], "members": members(command["members"])[0]})
        return {"id": scim.create(group).id}
    if what == "active":
        return {"active": patch(User, command["id"], "active", command["active"]).active}
    if what == "members":
        changed = patch(Group, command["id"], "members", members(command["members"])[0])
        return {"members": len(changed.members or [])}
    if what == "delete":
        scim.delete(User if command["what"] == "user" else Group, command["id"])
        return {"done": True}
    if what == "find":
        name = json.dumps(command["name"])
        found = scim.query(User, query_parameters=SearchRequest(filter=f"userName eq {name}"))
        return {"ids": [user.id for user in found.resources or []]}
    raise ValueError(what)


for line in sys.stdin:
    try:
        answer = do(json.loads(line))
    except Exception as error:  # the test tells what it expected
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
