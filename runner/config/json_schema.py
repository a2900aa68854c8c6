"""The JSON Schema of the YAML, for editors."""

from __future__ import annotations

from typing import Any

from runner.config.models import RunConfig

# Keys that also accept a text in place of a mapping.
_ALSO_TEXT = (("DatasetConfig", "human_label"), ("JudgeConfig", "verdict"))
# Keys that accept a list of texts or a single text.
_ONE_OR_MORE = (("DatasetConfig", "optional"), ("JudgeConfig", "service"), ("ReportConfig", "group_by"))
_KEEP = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/KeepColumn"}]}},
    ]
}


def json_schema() -> dict[str, Any]:
    """Return the schema of the YAML, with `judge` or `judges`, `service` or `services`, and top-level `x-` keys."""
    schema = RunConfig.model_json_schema()
    models: dict[str, Any] = schema["$defs"]
    for model, key in _ALSO_TEXT:
        models[model]["properties"][key]["anyOf"].append({"type": "string"})
    for model, key in _ONE_OR_MORE:
        section = models[model]["properties"][key]
        section["anyOf"] = [{"type": section.pop("type"), "items": section.pop("items")}, {"type": "string"}]
    keep = models["DatasetConfig"]["properties"]["keep"]
    models["DatasetConfig"]["properties"]["keep"] = {"description": keep["description"], **_KEEP}
    models["KeepColumn"]["properties"].pop("name")
    models["KeepColumn"]["required"] = ["column"]
    sections: dict[str, Any] = schema["properties"]
    sections["prices"]["anyOf"].append({"type": "object", "maxProperties": 0})
    properties: dict[str, Any] = {}
    for name, section in sections.items():
        if name in ("judges", "services"):
            one = {"anyOf": [section["items"], {"type": "null"}]}
            properties[name.removesuffix("s")] = one
            section.pop("default", None)
        if name == "name":
            section.pop("default")
        properties[name] = section
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "judge-runner",
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "required": ["dataset"],
        "oneOf": [{"required": ["judge"]}, {"required": ["judges"]}],
        "not": {"required": ["service", "services"]},
    }
