"""A virtual machine for tests: Debian's cloud kernel, systemd and multi-queue virtio NICs in QEMU, closed off.

It has what the machine that runs the tests lacks or must not change: host-wide sysctls, boots, late modules, bonds.
"""
