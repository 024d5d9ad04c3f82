"""A kernel and disks of their own, in the time of every test run: demonstration 1 in short, 802.1Q and nftables.

One guest serves all of it. The array is made and mended by the storage role's own tasks for an array, run by Ansible
alone: the whole play with preview and approval is in test_storage.py, which takes minutes on an emulated machine.
"""

from __future__ import annotations

import json

import pytest

from tests.e2e.guest_hospital import CRITERION, STRICT, Storage, fresh_guest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]

# A workstation in VLAN 10 and a server in VLAN 20 on one bridge that filters; a firewall on a trunk that carries both.
_SET_UP = """
set -e
modprobe -a 8021q bridge veth nf_tables
ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0
ip link set br0 up
host() {
    ip netns add "$1"
    ip link add "p$1" type veth peer name eth0 netns "$1"
    ip link set "p$1" master br0 up
    bridge vlan add dev "p$1" vid "$2" pvid untagged
    ip -n "$1" addr add "10.$2.0.$3/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" route add default via "10.$2.0.1"
}
host ws 10 11
host ws2 10 12
host sv 20 21
ip netns add fw
ip link add pfw type veth peer name trunk netns fw
ip link set pfw master br0 up
ip -n fw link set trunk up
for vid in 10 20; do
    bridge vlan add dev pfw vid $vid
    ip -n fw link add link trunk name trunk.$vid type vlan id $vid
    ip -n fw addr add 10.$vid.0.1/24 dev trunk.$vid
    ip -n fw link set trunk.$vid up
done
ip netns exec fw sysctl -qw net.ipv4.ip_forward=1
ip netns exec fw nft -f - <<'RULES'
table inet hospital {
    counter allowed { }
    counter dropped { }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "trunk.10" oifname "trunk.20" icmp type echo-request counter name "allowed" accept
        counter name "dropped"
    }
}
RULES
"""


@pytest.fixture(scope="module")
def storage(lab, tmp_path_factory):
    """A hospital whose one server is the guest, in a guest that was just started."""
    with fresh_guest(lab):
        place = Storage(lab, tmp_path_factory.mktemp("guest"))
        place.emrctl("init")
        yield place


def test_a_pulled_disk_lets_the_criterion_fall_with_its_reason_and_a_new_one_lets_it_rise(storage):
    """Also a disk that says of itself that it fails, seen by the same rounds: each of them costs half a minute."""
    assert storage.make_array() == ["Make the array", "Write the array down for the next start"]
    storage.await_array("[UU]")
    storage.json("round")
    assert (storage.verdict(), storage.finding("storage.disks-healthy")) == ("met", "met")
    met = storage.rounds()[0]

    storage.lab.run_lab("vm", "pull", "LAB-A2", check=True)
    storage.lab.run_lab("vm", "fail", "LAB-B1", check=True)
    storage.await_array("[2/1]")
    storage.json("round")
    assert storage.verdicts(CRITERION, STRICT) == ["not_met", "not_met"]
    assert (storage.finding("server.raid-whole"), storage.finding("storage.disks-healthy")) == ("not_met", "not_met")
    said = storage.emrctl("explain", CRITERION)
    assert "/proc/mdstat" in said
    assert "[2/1]" in said, "down to the bytes that the kernel told"
    assert "A draft: it decides no level." in said, "what it costs in level"
    assert storage.json("explain", STRICT)["stake"]["reason"]["code"].startswith("costs"), "the one that is no draft"
    lost = {move["criterion"]: move["after"] for move in storage.json("diff", met, storage.rounds()[0])["criteria"]}
    assert lost[CRITERION] == "not_met"

    storage.lab.run_lab("vm", "plug", "LAB-A3", check=True)
    storage.lab.run_lab("vm", "heal", "LAB-B1", check=True)
    storage.arrays("LAB-A1", "LAB-A3")
    assert storage.make_array() == ["Put the disks into the array that is there"]
    storage.await_array("[UU]")
    storage.json("round")
    assert (storage.verdict(), storage.finding("storage.disks-healthy")) == ("met", "met")


# --------------------------------------------------------------------------------------------- 802.1Q and nftables


@pytest.fixture(scope="module")
def vlans(storage):
    """Run a command in the guest, in which two VLANs and a firewall between them are set up."""
    storage.guest(_SET_UP)
    return storage.guest


def counted(guest):
    """The packets that the firewall's two counters have seen: what was let through, what was dropped."""
    told = json.loads(guest("ip netns exec fw nft --json list counters table inet hospital"))
    seen = {one["counter"]["name"]: one["counter"]["packets"] for one in told["nftables"] if "counter" in one}
    return seen["allowed"], seen["dropped"]


def ping(guest, source, words, code=0):
    """Three packets; with code 1 none may come back."""
    return guest(f"ip netns exec {source} ping -n -c 3 -i 0.2 -W 2 {words}", code=code)


def test_the_kernel_tags_the_frames_of_both_vlans(vlans):
    assert "VID: 20" in vlans("ip netns exec fw cat /proc/net/vlan/trunk.20")
    # The very bytes on the trunk: behind the two addresses stands the mark of 802.1Q with the number of the VLAN.
    seen = vlans(
        "ip netns exec fw timeout 8 python3 -c '\n"
        "import socket\n"
        's = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(("trunk", 0))\n'
        "s.setsockopt(263, 8, 1)\n"
        "while True:\n"
        "    data, about, *_ = s.recvmsg(2048, 256)\n"
        '    tags = [int.from_bytes(a[2][16:18], "little") for a in about if a[:2] == (263, 8)]\n'
        '    if data[12:14] == b"\\x08\\x00": print(*tags); break\n'
        "' & sleep 2; ip netns exec ws ping -n -c 2 -i 0.5 10.20.0.21 >/dev/null; wait"
    )
    assert seen.strip() in ("10", "20")


def test_what_the_matrix_allows_goes_through_the_rest_is_dropped_and_both_are_counted(vlans):
    before = counted(vlans)
    ping(vlans, "ws", "10.10.0.12")
    assert counted(vlans) == before, "a neighbour in the same VLAN is reached past the firewall"
    ping(vlans, "ws", "10.20.0.21")
    # The first packet of the connection is seen by the rule; the rest belongs to it.
    assert counted(vlans) == (before[0] + 1, before[1])
    ping(vlans, "sv", "10.10.0.11", code=1)
    assert counted(vlans) == (before[0] + 1, before[1] + 3)


def test_a_frame_of_another_vlan_is_not_carried_by_the_bridge(vlans):
    """With an address of VLAN 20 a workstation in VLAN 10 still reaches nobody there: the port decides."""
    vlans("ip -n ws addr add 10.20.0.99/24 dev eth0")
    ping(vlans, "ws", "10.20.0.21 -I 10.20.0.99", code=1)
