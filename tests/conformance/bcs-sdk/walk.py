"""Walks the management API with Huawei's own SDK, unchanged, against a running manager.

Usage: walk.py UP_JSON, where UP_JSON is the output of `selvage up --detach --json`.

Creates an instance, follows it to Normal, asks every operation that is built about it, downloads
certificates and the SDK configuration, looks at refusals, and deletes it again.
"""

import io
import json
import sys
import time
import zipfile

from huaweicloudsdkbcs.v2 import (
    BcsClient,
    CCEClusterInfo,
    CfgRequestBody,
    ChannelInfoV2,
    CreateNewBlockchainRequest,
    CreateRequestBody,
    CreateRequestBodyBlockInfo,
    DeleteBlockchainRequest,
    DownloadBlockchainCertRequest,
    DownloadBlockchainSdkConfigRequest,
    FreezeCertRequest,
    FreezeCertRequestBody,
    ListBlockchainChannelsRequest,
    ListBlockchainsRequest,
    ListMembersRequest,
    ListOpRecordRequest,
    ListQuotasRequest,
    OrgPeer,
    ShowBlockchainDetailRequest,
    ShowBlockchainFlavorsRequest,
    ShowBlockchainNodesRequest,
    ShowBlockchainStatusRequest,
)
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import (
    ClientRequestException,
    ServerResponseException,
)

NAME = "sdk-测试-1"
ORG = "组织机构"


def client(up, sk=None, project=None):
    credentials = BasicCredentials(up["ak"], sk or up["sk"], project or up["project_id"])
    return (
        BcsClient.new_builder().with_credentials(credentials).with_endpoint(up["api"]).build()
    )


def body(**changes):
    fields = dict(
        name=NAME,
        version_type=4,
        fabric_version="2.2",
        blockchain_type="private",
        consensus="etcdraft",
        orderer_node_number=3,
        sign_algorithm="ECDSA",
        enterprise_project_id="0",
        volume_type="nfs",
        org_disk_size=100,
        database_type="goleveldb",
        resource_password="Passw0rd!23",
        cluster_type="CCE",
        create_new_cluster=False,
        cce_cluster_info=CCEClusterInfo(
            cluster_id="local", cluster_name="local", cluster_platform_type="VirtualMachine"
        ),
        peer_orgs=[OrgPeer(name="org1", node_count=1), OrgPeer(name=ORG, node_count=1)],
        channels=[ChannelInfoV2(name="channel1", org_names=["org1", ORG])],
        block_info=CreateRequestBodyBlockInfo(
            batch_timeout=1, max_message_count=100, preferred_maxbytes=1
        ),
    )
    fields.update(changes)
    return CreateNewBlockchainRequest(body=CreateRequestBody(**fields))


def refused(call, status, code):
    try:
        call()
    except (ClientRequestException, ServerResponseException) as error:
        assert error.status_code == status, (error.status_code, error.error_msg)
        assert error.error_code == code, (error.error_code, error.error_msg)
        assert error.request_id, "every answer carries X-Request-Id"
        return error.error_msg
    raise AssertionError(f"expected {code}")


def finished(bcs, operation_id, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = bcs.list_op_record(ListOpRecordRequest(operation_id=operation_id))
        assert answer.count == 1, answer
        record = answer.operation_records[0]
        if record.operation_status in ("finished", "failed", "stop"):
            return record
        time.sleep(0.1)
    raise AssertionError(f"{operation_id} is not over")


def download(response):
    parts = []
    response.consume_download_stream(lambda stream: parts.append(stream.content))
    return zipfile.ZipFile(io.BytesIO(b"".join(parts)))


def refusals(bcs, up):
    refused(lambda: client(up, sk="wrong").list_blockchains(ListBlockchainsRequest()), 401,
            "BCS.4010401")
    refused(lambda: client(up, project="stranger").list_blockchains(ListBlockchainsRequest()),
            403, "BCS.4030403")
    text = refused(lambda: bcs.create_new_blockchain(body(consensus="kafka")), 400,
                   "BCS.4006005")
    assert "kafka" in text, text
    text = refused(lambda: bcs.create_new_blockchain(body(orderer_node_number=2)), 400,
                   "BCS.4006005")
    assert "orderer_node_number" in text, text
    refused(lambda: bcs.create_new_blockchain(body(sign_algorithm="sm2")), 501, "BCS.5010501")
    refused(lambda: bcs.create_new_blockchain(body(name=None)), 400, "BCS.4006009")
    refused(lambda: bcs.show_blockchain_detail(ShowBlockchainDetailRequest("nothing")), 404,
            "BCS.4001011")
    refused(lambda: bcs.list_members(ListMembersRequest()), 501, "BCS.5010501")
    freeze = FreezeCertRequest("b", "组织 A", "user", body=FreezeCertRequestBody())
    refused(lambda: bcs.freeze_cert(freeze), 501, "BCS.5010501")


def looks(bcs, blockchain_id):
    listed = bcs.list_blockchains(ListBlockchainsRequest())
    assert (blockchain_id, NAME) in [(b.id, b.name) for b in listed.blockchains], listed
    assert listed.count == len(listed.blockchains)

    detail = bcs.show_blockchain_detail(ShowBlockchainDetailRequest(blockchain_id))
    info = detail.basic_info
    assert (info.status, info.process_status) == ("Normal", None), info
    assert (info.consensus, info.sign_algorithm) == ("etcdraft", "ECDSA"), info
    assert info.cluster_type == "CCE", info
    assert info.block_info.max_message_count == 100, info.block_info
    assert {p.name: p.status_detail for p in detail.peer_info} == {"org1": "1/1", ORG: "1/1"}
    orderers = detail.orderer_info
    assert (orderers.status, orderers.status_detail) == ("Normal", "3/3"), orderers
    assert (orderers.node_cnt, len(orderers.address)) == (3, 3), orderers
    assert detail.channels[0].name == "channel1"

    status = bcs.show_blockchain_status(ShowBlockchainStatusRequest(blockchain_id))
    assert status.bcs.status == "finished" and status.bcs.end_time, status

    nodes = bcs.show_blockchain_nodes(ShowBlockchainNodesRequest(blockchain_id)).node_orgs
    assert set(nodes) == {"org1", ORG}, nodes
    for org in nodes.values():
        assert org.org_msp_id.endswith("MSP") and len(org.org_msp_id) == 43, org
        assert all(n.channels == ["channel1"] for n in org.peers.values()), org

    spec = bcs.show_blockchain_flavors(ShowBlockchainFlavorsRequest()).enterprise_spec
    assert spec.org_peer_max_num >= 1 and spec.orderer_max_num >= 3, spec
    channels = bcs.list_blockchain_channels(ListBlockchainChannelsRequest(blockchain_id))
    channels = channels.channels
    assert [(c.name, c.consensus) for c in channels] == [("channel1", "etcdraft")], channels
    assert len(channels[0].consensus_nodes["ordererorg"]) == 3, channels
    quota = bcs.list_quotas(ListQuotasRequest()).resources[0]
    assert quota.type == "instance" and quota.used >= 1 and quota.free == quota.quota - quota.used
    return nodes


def downloads(bcs, blockchain_id, nodes):
    def cert(org, kind):
        request = DownloadBlockchainCertRequest(blockchain_id, org_name=org, cert_type=kind)
        return download(bcs.download_blockchain_cert(request)).namelist()

    hash_ = nodes[ORG].org_msp_id.removesuffix("MSP")
    for kind, user in (("admin", "Admin"), ("user", "User1")):
        names = cert(ORG, kind)
        keys = [n for n in names if n.startswith(f"{hash_}.peer/msp/keystore/")]
        assert len(keys) == 1 and keys[0].endswith("_sk"), names
        domain = f"peer-{hash_}.default.svc.cluster.local"
        assert f"{hash_}.peer/msp/signcerts/{user}@{hash_}.{domain}-cert.pem" in names, names
        assert f"{hash_}.peer/tls/server.key" in names, names
    assert sorted(cert("org1", "ca")) == ["ca.org1-cert.pem", "org1_sk"]
    assert any(n.endswith("_sk") for n in cert("ordererorg", "admin"))
    text = refused(lambda: cert("org1", "blok"), 400, "BCS.4006005")
    assert text == "keyType error, keyType: blok not supported", text
    text = refused(lambda: cert("org9", "admin"), 400, "BCS.4001051")
    assert text == "Input org org9 is not exist", text

    config = CfgRequestBody(
        chaincode_name="assets",
        cert_path="/opt/certs",
        channel_name="channel1",
        peer_orgs={"org1": ["0"], ORG: ["0"]},
    )
    request = DownloadBlockchainSdkConfigRequest(blockchain_id, body=config)
    archive = download(bcs.download_blockchain_sdk_config(request))
    assert f"{NAME}-sdk-config.yaml" in archive.namelist(), archive.namelist()
    profile = json.loads(archive.read(f"{NAME}-channel1-sdk-config.json"))
    assert len(profile["peers"]) == 2, profile["peers"]
    assert len(profile["orderers"]) == 3, profile["orderers"]
    assert len(profile["channels"]["channel1"]["orderers"]) == 3, profile["channels"]
    assert profile["client"]["cryptoconfig"]["path"] == "/opt/certs"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        up = json.load(file)
    bcs = client(up)
    refusals(bcs, up)

    created = bcs.create_new_blockchain(body())
    assert created.blockchain_name == NAME
    assert created.operation_id.startswith("BCSSVC01-99-"), created
    refused(lambda: bcs.create_new_blockchain(body()), 400, "BCS.4001018")
    record = finished(bcs, created.operation_id)
    assert record.operation_status == "finished", record
    steps = record.operation_process["Preparation"].sub_steps
    assert steps["Generate basic configurations"].status == "finished", steps

    blockchain_id = created.blockchain_id
    nodes = looks(bcs, blockchain_id)
    downloads(bcs, blockchain_id, nodes)

    request = DeleteBlockchainRequest(blockchain_id, is_delete_storage=True)
    deleted = bcs.delete_blockchain(request)
    assert deleted.operation_id.startswith("BCSSVC01-00-"), deleted
    assert finished(bcs, deleted.operation_id).operation_status == "finished"
    left = bcs.list_blockchains(ListBlockchainsRequest()).blockchains
    assert blockchain_id not in [b.id for b in left], left
    refused(lambda: bcs.show_blockchain_detail(ShowBlockchainDetailRequest(blockchain_id)), 404,
            "BCS.4001011")
    print("walked")


if __name__ == "__main__":
    main()
