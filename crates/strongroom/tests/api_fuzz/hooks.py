"""What schemathesis cannot know of a running demo: ids that are there.

Random ids never come past a 404. So most requests get the id of something that is there now, in their path and in their
body, the revision that it has, and the demo's own Azure values; the others stay as schemathesis made them, or as it found
them in earlier answers. The token and the member that the run acts with are kept out of every path.
"""

import json
import os
import random
import urllib.error
import urllib.request

import schemathesis

with open(os.environ["API_FUZZ_DEMO"], encoding="utf-8") as file:
    DEMO = json.load(file)
OWNER = DEMO["members"][0]
ROOT = f"{DEMO['url']}/api/v1/workspaces/{DEMO['workspace']}"
CHOICE = random.Random(int(os.environ["API_FUZZ_SEED"]))

# One request in so many stays as it was made.
STRANGE = 5
# So many requests until it is asked again what is there.
FRESH_FOR = 40

NOBODY = "00000000-0000-0000-0000-000000000000"

# The list that a parameter's ids are in, and that a field of a body's are in.
LISTS = {
    "vault": ["vaults"],
    "item": ["items", "trash"],
    "member": ["members"],
    "heir": ["members"],
    "job": ["jobs"],
    "session": ["sessions"],
    "token": ["tokens"],
    "webhook": ["webhooks"],
}
FIELDS = {"vault_id": "vault", "to": "vault", "item_ids": "item", "item_id": "item", "member_id": "member"}
# Gives away what the run acts with.
LEFT_ALONE = {"/api/v1/workspaces/{workspace}/transfer"}


class Known:
    """What there is, as the owner's lists said it last."""

    def __init__(self):
        self.lists = {}
        self.requests = 0

    def some(self, parameter):
        if self.requests % FRESH_FOR == 0 or not self.lists:
            self.lists = {name: listed(name) for names in LISTS.values() for name in names}
        self.requests += 1
        there = [each for name in LISTS[parameter] for each in self.lists[name]]
        return CHOICE.choice(there) if there else None


def listed(name):
    """Up to fifty things of a list, without those that the run needs for itself; none where the list is refused."""
    request = urllib.request.Request(f"{ROOT}/{name}?limit=50", headers={"Authorization": f"Bearer {OWNER['token']}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            items = json.load(answer)["items"]
    except urllib.error.HTTPError:
        return []
    return [each for each in items if each["id"] not in OWN]


OWN = set()
OWN |= {each["id"] for each in listed("tokens")}
OWN |= {each["id"] for each in listed("members") if each["email"] == OWNER["email"]}
KNOWN = Known()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts what is there in place of what was made up, most of the time."""
    if case.operation.path in LEFT_ALONE or not isinstance(case.path_parameters, dict):
        return
    parameters = case.path_parameters
    if "workspace" in parameters and made_up():
        parameters["workspace"] = DEMO["workspace"]
    for name in parameters.keys() & {"revision", "generation"}:
        if made_up():
            parameters[name] = CHOICE.randint(1, 3)
    for name in [name for name in parameters if name in LISTS]:
        thing = KNOWN.some(name) if made_up() else None
        if thing:
            parameters[name] = thing["id"]
            if case.headers and "If-Match" in case.headers and "revision" in thing:
                case.headers["If-Match"] = f'"{thing["revision"]}"'
    for name, value in parameters.items():
        if value in OWN:
            parameters[name] = NOBODY
    for name in [name for name in case.query or {} if name in ("vault_id", "heir", "item_id", "member_id")]:
        thing = KNOWN.some(FIELDS.get(name, name)) if made_up() else None
        if thing:
            case.query[name] = thing["id"]
    known_ids(case.body)


def known_ids(value):
    """The same, in every object of a body."""
    if isinstance(value, list):
        for each in value:
            known_ids(each)
    if not isinstance(value, dict):
        return
    for name, old in value.items():
        if name in FIELDS and made_up():
            thing = KNOWN.some(FIELDS[name])
            if thing:
                value[name] = [thing["id"]] if isinstance(old, list) else thing["id"]
        elif name in DEMO["azure"] and made_up():
            value[name] = DEMO["azure"][name]
        else:
            known_ids(old)


def made_up():
    """Whether a value that schemathesis made up gives way this time."""
    return CHOICE.randrange(STRANGE) > 0
