"""Every version of the test bed. After a change: ``python -m kindbed lock``."""

from __future__ import annotations

GO = "1.26"  # at least
KUBERNETES = "1.34.4"  # 1.34 is the last line that runs on cgroup v1 as it is
STAGING = "0.34.4"  # the k8s.io modules that go with it
ETCD = "3.6.4"
COREDNS = "1.12.4"
KIND = "0.33.0"
FLANNEL = "0.28.10"
CILIUM = "1.20.2"
GOBGP = "4.8.0"  # the release that Cilium's own, unpublished commit went into
CONTROLLER_TOOLS = "0.21.0-1"  # Cilium's, as its go.mod has it
DEBIAN = "bookworm"
LLVM = "19"  # compiles Cilium's datapath

NODE_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "mount", "util-linux", "procps", "e2fsprogs"),
    *("containerd", "runc", "containernetworking-plugins", "libseccomp2"),
    *("iproute2", "ethtool", "iptables", "ebtables", "nftables", "ipset", "conntrack", "iputils-ping", "socat"),
    *("ca-certificates", "curl", "jq", "openssh-server", "python3"),
)
#: What the published node image lacks of them.
ADDED_PACKAGES = ("containernetworking-plugins", "iputils-ping", "openssh-server", "python3")
