"""Holds every answer against the service's own model, the one inside botocore.

An answer is shape-clean when it has every required member, none that the model does not know, each of its
type, and enumerations within their values. Registered on a client it looks at each call of the suite; what it
finds is collected in FOUND, so that a test's own outcome and the shapes of its answers are two things.
"""

import json
import re

FOUND = []

# What Virga has and AWS has not, and clients pass through: runtimes of its own, the place where a followed log goes on,
# a function's URL by path, where an alias is led back to, what became of calls.
OWN_VALUES = re.compile(r"wasm|static|(php|ruby)[0-9]+[.][0-9]+|java[0-9]+")
OWN_MEMBERS = {"virgaPathUrl", "virgaResume", "virgaPreviousVersion", "virgaCalls"}

# Operations whose every error must be one that the model lists for them, or one of the protocol's own.
HELD_TO_THEIR_ERRORS = {
    "CreateAlias", "CreateFunction", "CreateFunctionUrlConfig", "DeleteAlias", "DeleteFunction", "DeleteFunctionUrlConfig",
    "GetAlias", "GetFunction", "GetFunctionConfiguration", "GetFunctionUrlConfig", "Invoke", "ListAliases", "ListFunctions",
    "ListFunctionUrlConfigs", "ListVersionsByFunction", "PublishVersion", "UpdateAlias", "UpdateFunctionCode",
    "UpdateFunctionConfiguration", "UpdateFunctionUrlConfig",
}  # fmt: skip
EVERYWHERE = {
    "AccessDeniedException", "IncompleteSignatureException", "InvalidSignatureException", "MissingAuthenticationTokenException",
    "NotImplementedException", "RequestEntityTooLargeException", "RequestTimeoutException", "SerializationException",
    "ServiceUnavailableException", "UnrecognizedClientException", "ValidationException",
}  # fmt: skip

_TYPES = {
    "string": str, "blob": str, "boolean": bool, "integer": int, "long": int, "float": (int, float),
    "double": (int, float), "timestamp": (str, int, float), "list": list, "map": dict, "structure": dict,
}  # fmt: skip


def faults(shape, value, path="$"):
    """What is wrong with a JSON value under a botocore shape, as sentences."""
    wanted = _TYPES[shape.type_name]
    if not isinstance(value, wanted) or (isinstance(value, bool) and shape.type_name != "boolean"):
        return [f"{path}: {shape.type_name} expected, {value!r} found"]
    if shape.type_name == "structure":
        return _structure(shape, value, path)
    if shape.type_name == "list":
        return [f for i, each in enumerate(value) for f in faults(shape.member, each, f"{path}[{i}]")]
    if shape.type_name == "map":
        return [f for key, each in value.items() for f in faults(shape.value, each, f"{path}.{key}")]
    if shape.type_name == "string" and shape.enum and value not in shape.enum and not OWN_VALUES.fullmatch(value):
        return [f"{path}: {value!r} is not one of {shape.name}'s values"]
    return []


def _structure(shape, value, path):
    known = {m.serialization.get("name", name): m for name, m in shape.members.items() if not _elsewhere(m)}
    found = [f"{path}: unknown member {name}" for name in value if name not in known and name not in OWN_MEMBERS]
    for name in shape.required_members:
        member = shape.members[name]
        wire = member.serialization.get("name", name)
        if not _elsewhere(member) and wire not in value:
            found.append(f"{path}: required member {wire} is missing")
    for name, each in value.items():
        if name in known:
            found += faults(known[name], each, f"{path}.{name}")
    return found


def _elsewhere(member):
    return member.serialization.get("location") in ("header", "headers", "uri", "querystring", "statusCode")


def check_answer(http_response, parsed, model, **_):
    """botocore's `after-call` hook."""
    try:
        _check(http_response, model)
    except AssertionError as fault:
        FOUND.append(str(fault))


def _check(http_response, model):
    status = http_response.status_code
    where = f"{model.name} answered {status}"
    if status >= 300:
        return _check_error(http_response, model, where)
    shape = model.output_shape
    wanted = model.http.get("responseCode")
    variable = shape is not None and any(m.serialization.get("location") == "statusCode" for m in shape.members.values())
    assert wanted is None or status == wanted or variable, f"{where}, the model says {wanted}"
    if shape is None or "payload" in shape.serialization:
        return None
    body = http_response.content
    if not body:
        assert not any(not _elsewhere(member) for member in shape.members.values()) or not shape.required_members, where
        return None
    found = faults(shape, json.loads(body))
    assert not found, f"{where}: " + "; ".join(found)


def _check_error(http_response, model, where):
    body = json.loads(http_response.content)
    code = http_response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code")
    assert code, f"{where} without an error code: {body}"
    code = code.split(":")[0].split("#")[-1]
    if model.name in HELD_TO_THEIR_ERRORS:
        documented = {shape.name for shape in model.error_shapes} | EVERYWHERE
        assert code in documented, f"{where} with {code}, which the model does not have for it"
    for shape in model.error_shapes:
        if shape.name == code:
            wanted = shape.metadata.get("error", {}).get("httpStatusCode")
            status = http_response.status_code
            assert wanted is None or wanted == status, f"{where} with {code}, whose status is {wanted}"
            known = {m.lower() for m in shape.members} | {"__type", "code", "message"}
            strangers = [name for name in body if name.lower() not in known]
            assert not strangers, f"{where}: {code} does not know {strangers}"
