"""Writes the descriptors inside the published package hyperledger-fabric-protos to standard output,
as one FileDescriptorSet."""

import importlib
import pkgutil
import sys

import fabric_protos
from google.protobuf import descriptor_pb2


def main() -> None:
    files = descriptor_pb2.FileDescriptorSet()
    for module in pkgutil.walk_packages(fabric_protos.__path__, "fabric_protos."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name).DESCRIPTOR.CopyToProto(files.file.add())
    sys.stdout.buffer.write(files.SerializeToString())


if __name__ == "__main__":
    main()
