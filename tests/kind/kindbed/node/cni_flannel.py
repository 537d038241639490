#!/usr/bin/python3 -IS
"""CNI plugin `flannel`: the lease that flanneld wrote into subnet.env, made into a configuration for `bridge`.

Like the plugin of the same name it keeps what it gave to `bridge` in /var/lib/cni/flannel/CONTAINER, so that DEL needs
no lease, and does nothing on DEL for a container that it does not know.
"""

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

STATE = Path("/var/lib/cni/flannel")
LEASE = "/run/flannel/subnet.env"


def lease(path):
    """Return the variables of subnet.env."""
    lines = Path(path).read_text().splitlines()
    return dict(line.strip().split("=", 1) for line in lines if "=" in line)


def delegate(configuration, found):
    """Return the configuration for the plugin that does the work."""
    # FLANNEL_SUBNET is the gateway's address; host-local wants the network's.
    subnet = str(ipaddress.ip_interface(found["FLANNEL_SUBNET"]).network)
    return {
        "name": configuration["name"],
        "cniVersion": configuration.get("cniVersion", "0.3.1"),
        "type": "bridge",
        "isGateway": True,
        "ipMasq": found.get("FLANNEL_IPMASQ") != "true",
        "mtu": int(found["FLANNEL_MTU"]),
        **configuration.get("delegate", {}),
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": subnet}]],
            "routes": [{"dst": found["FLANNEL_NETWORK"]}],
        },
    }


def call(inner):
    """Run the other plugin in our place; its exit code."""
    program = shutil.which(inner["type"], path=os.environ.get("CNI_PATH", ""))
    if program is None:
        raise FileNotFoundError(f"no plugin {inner['type']} in CNI_PATH")
    return subprocess.run([program], input=json.dumps(inner).encode(), check=False, timeout=60).returncode


def main(command, container, configuration):
    """Carry out one CNI command; the exit code."""
    kept = STATE / (Path(container).name or "none")
    if command == "VERSION":
        return call({"type": "bridge", "cniVersion": configuration.get("cniVersion", "0.3.1")})
    if command == "DEL":
        if not kept.is_file():
            return 0
        code = call(json.loads(kept.read_text()))
        if code == 0:
            kept.unlink()
        return code
    inner = delegate(configuration, lease(configuration.get("subnetFile", LEASE)))
    if command == "ADD":
        STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept.write_text(json.dumps(inner))
    elif "prevResult" in configuration:
        inner["prevResult"] = configuration["prevResult"]
    return call(inner)


if __name__ == "__main__":
    try:
        sys.exit(main(os.environ.get("CNI_COMMAND", ""), os.environ.get("CNI_CONTAINERID", ""), json.load(sys.stdin)))
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
        said = f"flannel: {type(error).__name__}: {error}"
        print(json.dumps({"cniVersion": "0.3.1", "code": 11, "msg": said}))
        sys.exit(1)
