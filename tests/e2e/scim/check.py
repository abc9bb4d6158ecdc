"""The conformance tester of PyPI (scim2-tester) against a service.

    python check.py URL TOKEN

Prints one JSON line: {"checks": N, "failed": [{title, resource, reason}], "skipped": [...]}.
"""

import json
import sys

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

url, token = sys.argv[1:3]
http = Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
results = check_server(SyncSCIMClient(http))


def line(result):
    return {"title": result.title, "resource": result.resource_type, "reason": str(result.reason)[:500]}


good = (Status.SUCCESS, Status.SKIPPED)
print(
    json.dumps(
        {
            "checks": len(results),
            "failed": [line(result) for result in results if result.status not in good],
            "skipped": [line(result) for result in results if result.status == Status.SKIPPED],
        }
    )
)
