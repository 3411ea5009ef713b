"""Makes an instance with Huawei's own SDK and downloads what a user of BCS downloads.

Usage: instance.py UP_JSON FOLDER, where UP_JSON is the output of `selvage up --detach --json`.

Leaves in FOLDER: `ca`, the authority of the instance's first organisation; `sdk`, the SDK
configuration and the certificates it names; `ca-of-up`, the authority of the first organisation of
the instance that `selvage up` made. Prints a JSON object with the organisation's MSP id.
"""

import json
import os
import sys

from huaweicloudsdkbcs.v2 import (
    CfgRequestBody,
    ChannelInfoV2,
    CreateRequestBody,
    DownloadBlockchainCertRequest,
    DownloadBlockchainSdkConfigRequest,
    OrgPeer,
    ShowBlockchainNodesRequest,
)

from walk import ORG as OTHER, body, client, download, finished

NAME = "own-identities"
# The seed's own example: ca.organization-cert.pem and organization_sk.
ORG = "organization"
CHANNEL = "channel1"


class WithSample(CreateRequestBody):
    """BCS installs chaincode from its console; our extension of the request does it at once."""

    openapi_types = {**CreateRequestBody.openapi_types, "sample_chaincode": "str"}
    attribute_map = {**CreateRequestBody.attribute_map, "sample_chaincode": "sample_chaincode"}
    sample_chaincode = "node"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        up = json.load(file)
    folder = sys.argv[2]
    bcs = client(up)

    request = body(
        name=NAME,
        peer_orgs=[OrgPeer(name=ORG, node_count=1), OrgPeer(name=OTHER, node_count=1)],
        channels=[ChannelInfoV2(name=CHANNEL, org_names=[ORG, OTHER])],
    )
    request.body.__class__ = WithSample
    created = bcs.create_new_blockchain(request)
    # The chaincode may have to be built first.
    record = finished(bcs, created.operation_id, 900)
    assert record.operation_status == "finished", record
    instance = created.blockchain_id

    def certificates(of, org, kind, target):
        request = DownloadBlockchainCertRequest(of, org_name=org, cert_type=kind)
        archive = download(bcs.download_blockchain_cert(request))
        archive.extractall(os.path.join(folder, target))

    certificates(instance, ORG, "ca", "ca")
    certificates(up["blockchain_id"], "org1", "ca", "ca-of-up")
    for org, kind in ((ORG, "user"), (OTHER, "user"), ("ordererorg", "admin")):
        certificates(instance, org, kind, "sdk")
    config = CfgRequestBody(
        chaincode_name="assets",
        cert_path=os.path.join(folder, "sdk"),
        channel_name=CHANNEL,
        peer_orgs={ORG: ["0"], OTHER: ["0"]},
    )
    request = DownloadBlockchainSdkConfigRequest(instance, body=config)
    archive = download(bcs.download_blockchain_sdk_config(request))
    archive.extractall(os.path.join(folder, "sdk"))

    nodes = bcs.show_blockchain_nodes(ShowBlockchainNodesRequest(instance)).node_orgs
    print(json.dumps({
        "profile": os.path.join(folder, "sdk", f"{NAME}-sdk-config.yaml"),
        "channel": CHANNEL,
        "other_msp_id": nodes[OTHER].org_msp_id,
    }))


if __name__ == "__main__":
    main()
