"""802.1Q and nftables of a real kernel, in the lab's QEMU guest: what is let through is counted, the rest is dropped.

The kernel of a test machine may have neither; the lab's own switches forward in user space for that reason."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(900)]

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
def guest(lab):
    """Run a command in the guest as root; it returns the code and what was said."""
    made = lab.run_lab("vm", "up", timeout=500)
    assert made.returncode == 0, made.stderr

    def run(command, code=0):
        done = lab.run_lab("vm", "exec", "sh", "-c", command)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run(_SET_UP)
    yield run
    lab.run_lab("vm", "down", check=True)


def counted(guest, name):
    """The packets that a named counter of the firewall has seen."""
    told = json.loads(guest(f"ip netns exec fw nft --json list counter inet hospital {name}"))
    (packets,) = {one["counter"]["packets"] for one in told["nftables"] if "counter" in one}
    return packets


def ping(guest, source, address, code=0):
    """Three packets; with code 1 none may come back."""
    return guest(f"ip netns exec {source} ping -n -c 3 -i 0.2 -W 2 {address}", code=code)


def test_the_kernel_tags_the_frames_of_both_vlans(guest):
    assert guest("ip -n fw -d -j link show trunk.10 | grep -o '\"id\":10'").strip() == '"id":10'
    assert "VID" in guest("ip netns exec fw cat /proc/net/vlan/trunk.20")


def test_a_neighbour_in_the_same_vlan_is_reached_past_the_firewall(guest):
    before = counted(guest, "allowed")
    ping(guest, "ws", "10.10.0.12")
    assert counted(guest, "allowed") == before


def test_what_the_matrix_allows_goes_through_and_is_counted(guest):
    before = counted(guest, "allowed")
    ping(guest, "ws", "10.20.0.21")
    # The first packet of the connection is seen by the rule; the rest belongs to it.
    assert counted(guest, "allowed") == before + 1


def test_what_it_does_not_allow_is_dropped_and_counted(guest):
    allowed, dropped = counted(guest, "allowed"), counted(guest, "dropped")
    ping(guest, "sv", "10.10.0.11", code=1)
    assert (counted(guest, "allowed"), counted(guest, "dropped")) == (allowed, dropped + 3)


def test_a_frame_of_another_vlan_is_not_carried_by_the_bridge(guest):
    """With an address of VLAN 20 a workstation in VLAN 10 still reaches nobody there: the port decides."""
    guest("ip -n ws addr add 10.20.0.99/24 dev eth0")
    try:
        ping(guest, "ws", "10.20.0.21 -I 10.20.0.99", code=1)
    finally:
        guest("ip -n ws addr del 10.20.0.99/24 dev eth0")
