"""Container images: what runs in the clusters, and the node that they are laid into."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from kindbed import cilium, node, rootfs
from kindbed import versions as v
from kindbed.cache import Cache, key
from kindbed.command import find, run, say
from kindbed.docker import Docker
from kindbed.programs import Programs
from tune_nodes.errors import TuneError

REPOSITORY = "tune-nodes-test"  # never pushed, never pulled
FLANNEL = f"{REPOSITORY}/flannel:v{v.FLANNEL}"
PROBE = f"{REPOSITORY}/probe:1"
CILIUM = f"{REPOSITORY}/cilium:v{v.CILIUM}"
PUBLISHED = f"kindest/node:v{v.KUBERNETES}"
HERE = Path(__file__).parent
_PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTRYPOINT = 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]'
_CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_IN_THE_NODE = ("kind", "kube", "pause", "flanneld", "runc-nores")
_PRELOADER = "tune-nodes-test-preload"
#: Run in a node that only sleeps: what comes on stdin is in its containerd's store afterwards.
_PRELOAD = """
containerd >/run/containerd.log 2>&1 &
for _ in $(seq 120); do ctr version >/dev/null 2>&1 && break; sleep 0.25; done
ctr --namespace k8s.io images import --no-unpack - >/dev/null || { tail -n 3 /run/containerd.log >&2; exit 1; }
kill %1 && wait %1 || true
"""
_DERIVED = """\
FROM {image}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {packages} \\
 && cp -n /usr/lib/cni/* /opt/cni/bin/ && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* && systemctl enable ssh
COPY flannel /opt/cni/bin/flannel
COPY etc /etc
"""


class Images:
    """The images of the test bed in one docker daemon, made on first use.

    Args:
        cache: for what they are made from.
        docker: the daemon.
        programs: the Go programs.
    """

    def __init__(self, cache: Cache, docker: Docker, programs: Programs) -> None:
        self._cache = cache
        self._docker = docker
        self._programs = programs

    def node(self) -> str:
        """Return the tag of the node image, with the images of the clusters in it.

        It is the published one with python3 and sshd where that can be pulled, else one that is built here.
        $TUNE_NODES_NODE_IMAGE=built or =published decides otherwise.
        """
        wanted = os.environ.get("TUNE_NODES_NODE_IMAGE", "")
        if wanted not in ("", "built", "published"):
            raise TuneError("TUNE_NODES_NODE_IMAGE is neither built nor published", wanted, "unset it")
        sources = key(HERE, *map(str, (v.KIND, v.KUBERNETES)))
        derived = f"{REPOSITORY}/node-published:v{v.KUBERNETES}-{sources}"
        if wanted != "published" and self._docker.has_image(built := self._built_tag()):
            return built
        if wanted != "built" and (self._docker.has_image(derived) or self._pulled()):
            return self._ensure(derived, "the node image (published, with sshd and python3)", self._derive)
        return self._ensure(self._built_tag(), "the node image", self._build)

    def kubectl(self) -> Path:
        """Return a kubectl of the clusters' version: the node image's."""
        image = self.node()
        if image == self._built_tag():
            return self._programs.path("kube", "kubectl")

        def build(directory: Path) -> None:
            container = self._docker("create", image).strip()
            try:
                self._docker("cp", "--follow-link", f"{container}:/usr/bin/kubectl", str(directory / "kubectl"))
            finally:
                self._docker("rm", container)

        return self._cache.artefact("kubectl", key(image), "kubectl", build) / "kubectl"

    def cilium(self) -> Path:
        """Return an archive with Cilium's image, for `kind load`."""

        def lay_out(root: Path) -> None:
            shutil.copytree(rootfs.tools(self._cache), root, symlinks=True, dirs_exist_ok=True)
            cilium.lay_out(root, self._programs)

        def build(directory: Path) -> None:
            with self._root() as root:
                lay_out(root)
                self._docker.import_root(root, CILIUM, [_PATH])
            self._docker("save", CILIUM, "--output", str(directory / "cilium.tar"), timeout=300)

        made_from = key(
            self._programs.key("cilium"), rootfs.tools(self._cache).parent.name, v.LLVM, Path(cilium.__file__)
        )
        return self._cache.artefact("cilium-image", made_from, "Cilium's image", build) / "cilium.tar"

    def _built_tag(self) -> str:
        made_from = key(
            HERE / "images.py",
            HERE / "node.py",
            HERE / "rootfs.py",
            HERE / "versions.py",
            node.FILES,
            *(self._programs.key(name) for name in _IN_THE_NODE),
        )
        return f"{REPOSITORY}/node:{made_from}"

    def _ensure(self, tag: str, what: str, build: Callable[[str], None]) -> str:
        if not self._docker.has_image(tag):
            say(f"building {what}")
            build(tag)
        return tag

    def _pulled(self) -> bool:
        """Return whether the published node image is here or can be had."""
        # An image that came from a registry has a digest there; one of that name that somebody built has none.
        asked = self._docker.try_("image", "inspect", "--format", "{{len .RepoDigests}}", PUBLISHED)
        if asked.returncode == 0 and asked.stdout.strip() != "0":
            return True
        say(f"asking for {PUBLISHED}")
        done = self._docker.try_("pull", "--quiet", PUBLISHED, timeout=1200)
        if done.returncode:
            say(f"it cannot be pulled, so it is built here: {done.stderr.strip().splitlines()[-1:]}")
        return done.returncode == 0

    def _derive(self, tag: str) -> None:
        with self._root() as context:
            shutil.copyfile(node.FILES / "cni_flannel.py", context / "flannel")
            (context / "flannel").chmod(0o755)
            node.add_sshd(context)
            packages = " ".join(v.ADDED_PACKAGES)
            (context / "Dockerfile").write_text(_DERIVED.format(image=PUBLISHED, packages=packages))
            self._docker("build", "--quiet", "--network=host", "--tag", f"{tag}-base", str(context), timeout=1200)
        self._preload(f"{tag}-base", tag, self._agents())

    def _build(self, tag: str) -> None:
        wanted = self.wanted()
        with self._root() as root:
            run(["cp", "--archive", f"{rootfs.debian(self._cache)}/.", str(root)], timeout=300)
            node.lay_out(
                root,
                kind_files=self._programs.source("kind", "sigs.k8s.io/kind") / "images/base/files",
                kube=self._programs.path("kube"),
                programs=[
                    (self._programs.path("kube", "crictl"), "usr/local/bin/crictl"),
                    (self._programs.path("runc-nores"), "usr/local/sbin/runc"),
                ],
                pause=wanted["pause"],
            )
            self._docker.import_root(root, f"{tag}-base", [_ENTRYPOINT, "ENV container=docker"])
        self._preload(f"{tag}-base", tag, [*self._control_plane(wanted), *self._agents()])

    def wanted(self) -> dict[str, str]:
        """Return program -> image, as kubeadm of this version names them."""
        kubeadm = str(self._programs.path("kube", "kubeadm"))
        listed = run([kubeadm, "config", "images", "list", f"--kubernetes-version=v{v.KUBERNETES}"]).stdout.split()
        return {image.rsplit("/", 1)[1].split(":")[0]: image for image in listed}

    def _control_plane(self, wanted: dict[str, str]) -> list[str]:
        with self._root() as root:
            shutil.copytree(rootfs.tools(self._cache), root, symlinks=True, dirs_exist_ok=True)
            shutil.copyfile(self._programs.path("kube"), root / "usr/bin/kube")
            (root / "usr/bin/kube").chmod(0o755)
            (root / "usr/local/bin").mkdir(parents=True)
            for name in _CONTROL_PLANE:
                (root / "usr/local/bin" / name).symlink_to("../../bin/kube")
            self._docker.import_root(root, wanted[_CONTROL_PLANE[0]], [_PATH])
        for name in _CONTROL_PLANE[1:]:
            self._docker("tag", wanted[_CONTROL_PLANE[0]], wanted[name])
        etcd, coredns = (self._programs.path("kube", name) for name in ("etcd", "coredns"))
        self._single(etcd, "usr/local/bin/etcd", wanted["etcd"], "ENV PATH=/usr/local/bin")
        self._single(coredns, "coredns", wanted["coredns"], 'ENTRYPOINT ["/coredns"]')
        self._single(self._programs.path("pause"), "pause", wanted["pause"], 'ENTRYPOINT ["/pause"]')
        return [*(wanted[name] for name in _CONTROL_PLANE), *(wanted[name] for name in ("etcd", "coredns", "pause"))]

    def _single(self, program: Path, place: str, tag: str, change: str) -> None:
        with self._root() as root:
            (root / "tmp").mkdir()
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(program, root / place)
            self._docker.import_root(root, tag, [change])

    def _agents(self) -> list[str]:
        with self._root() as root:
            shutil.copytree(rootfs.tools(self._cache), root, symlinks=True, dirs_exist_ok=True)
            (root / "opt/bin").mkdir(parents=True)
            shutil.copy2(self._programs.path("flanneld"), root / "opt/bin/flanneld")
            self._docker.import_root(root, FLANNEL, [_PATH, 'ENTRYPOINT ["/opt/bin/flanneld"]'])
        with self._root() as root:
            for directory in ("bin", "tmp", "www", "etc"):
                (root / directory).mkdir()
            busybox = find("busybox", "busybox-static")
            shutil.copy2(busybox, root / "bin/busybox")
            for name in run([busybox, "--list"]).stdout.split():
                if name != "busybox":
                    (root / "bin" / name).symlink_to("busybox")
            self._docker.import_root(root, PROBE, ["ENV PATH=/bin", 'CMD ["/bin/sh"]'])
        return [FLANNEL, PROBE]

    def _preload(self, base: str, tag: str, images: list[str]) -> None:
        """Make ``tag`` out of ``base`` with images in its containerd's store."""
        self._docker.try_("rm", "--force", _PRELOADER)
        options = ["--detach", f"--name={_PRELOADER}", "--privileged", "--network=none", "--tmpfs=/run"]
        self._docker("run", *options, "--entrypoint=sleep", base, "infinity")
        try:
            self._docker.save_into(images, "exec", "--interactive", _PRELOADER, "bash", "-mc", _PRELOAD)
            self._docker("commit", "--change", _ENTRYPOINT, _PRELOADER, tag, timeout=300)
        finally:
            self._docker.try_("rm", "--force", _PRELOADER)

    def _root(self) -> AbstractContextManager[Path]:
        return _Root(self._cache.root)


class _Root:
    """A directory that becomes an image's root, and is then removed."""

    def __init__(self, below: Path) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix=".building-image-", dir=below)

    def __enter__(self) -> Path:
        root = Path(self._directory.name)
        root.chmod(0o755)
        return root

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()
