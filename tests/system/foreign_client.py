"""A client that was never told the contract: it asks the server by reflection, as grpcurl does.

Usage: foreign_client.py ADDRESS TOKEN. Ends with 0 if everything is as it must be.
"""

import sys

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

address, token = sys.argv[1:]
channel = grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)])
database = ProtoReflectionDescriptorDatabase(channel)
pool = DescriptorPool(database)


def call(service, method, request, bearer=token):
    """Calls a unary method with a dict and gives a dict."""
    found = pool.FindServiceByName(service).FindMethodByName(method)
    message = message_factory.GetMessageClass(found.input_type)()
    json_format.ParseDict(request, message)
    unary = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda sent: sent.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
    )
    metadata = [("authorization", f"Bearer {bearer}")] if bearer else []
    answer = unary(message, metadata=metadata, timeout=20)
    return json_format.MessageToDict(answer, preserving_proto_field_name=True)


def fails(code, service, method, request, bearer=token):
    """The words of a call that must fail with this code."""
    try:
        answer = call(service, method, request, bearer)
    except grpc.RpcError as error:
        assert error.code() == code, f"{method}: {error.code()} instead of {code}: {error.details()}"
        return error.details()
    raise AssertionError(f"{method} succeeded with {answer}")


MACHINES = "bty.registry.v1.MachineService"
IMAGES = "bty.registry.v1.ImageService"
MAC = "52:54:00:77:aa:01"

services = database.get_services()
for service in [MACHINES, IMAGES, "bty.registry.v1.RunService", "grpc.health.v1.Health"]:
    assert service in services, f"{service} is not among {services}"

assert call("grpc.health.v1.Health", "Check", {}, None) == {"status": "SERVING"}

# A machine's whole way by JSON.
def wish(machine, **intent):
    """A request that sets these fields."""
    return {"machine": machine, "intent": intent, "updateMask": ",".join(intent)}


made = call(MACHINES, "UpdateMachine", wish(MAC, name="foreign", policy="POLICY_LOCAL"))
assert made["machine"]["mac"] == MAC, made
listed = call(MACHINES, "ListMachines", {})
assert [machine["mac"] for machine in listed["machines"]] == [MAC], listed
assert "images" not in call(IMAGES, "ListImages", {})

# Who may not, may not.
assert "token" in fails(grpc.StatusCode.UNAUTHENTICATED, MACHINES, "ListMachines", {}, None)
fails(grpc.StatusCode.UNAUTHENTICATED, MACHINES, "ListMachines", {}, "bty_wrong")

# What makes no sense is refused in words that name it.
words = fails(grpc.StatusCode.NOT_FOUND, MACHINES, "UpdateMachine", wish("not a mac", name="x"))
assert "not a mac" in words, words
fails(grpc.StatusCode.NOT_FOUND, MACHINES, "GetMachine", {"machine": "52:54:00:77:ff:ff"})
fails(grpc.StatusCode.NOT_FOUND, IMAGES, "GetImage", {"image": "nothing:here"})
fails(grpc.StatusCode.INVALID_ARGUMENT, MACHINES, "ListMachines", {"page_token": "rubbish"})
fails(grpc.StatusCode.INVALID_ARGUMENT, MACHINES, "UpdateMachine", wish(MAC, disk="/dev/sda"))
fails(grpc.StatusCode.OUT_OF_RANGE, MACHINES, "UpdateMachine", wish(MAC, name="n" * (8 << 20)))

# Bytes that are no message of the method.
raw = channel.unary_unary(f"/{MACHINES}/UpdateMachine")
try:
    raw(b"\xff" * 100, metadata=[("authorization", f"Bearer {token}")], timeout=20)
    raise AssertionError("rubbish was taken")
except grpc.RpcError as error:
    assert error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT), error.code()

assert call(MACHINES, "ListMachines", {}) == listed, "something of all that was kept"
print("the foreign client is content")
