"""Lists events that deviate from their JSON Schema: sequence, type, member, keyword.

    pip install jsonschema
    acsbridge tail --output json --since 1d | python3 examples/deviations.py

Run it in a checkout of this repository, which has schemas/json.
"""
import json, pathlib, sys
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

schemas = {f.stem: json.loads(f.read_text()) for f in pathlib.Path("schemas/json").glob("*.json")}
registry = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in schemas.values())

def present(value):  # a member that is null is absent
    if isinstance(value, dict):
        return {k: present(v) for k, v in value.items() if v is not None}
    return [present(v) for v in value] if isinstance(value, list) else value

for line in sys.stdin:
    message = json.loads(line)
    event = present(message["event"])
    name = (event.get("type") or event.get("eventType")).rsplit(".", 1)[-1]
    ref = schemas.get(name, schemas["envelope"])["$id"]
    if "specversion" not in event:  # Event Grid's own schema
        event, ref = event.get("data", {}), ref + "#/properties/data"
    for e in Draft202012Validator({"$ref": ref}, registry=registry).iter_errors(event):
        print(message["sequence"], name, e.json_path, e.validator)
