"""The shell scripts that fill an image, for a root of our own and for a container alike."""

from collections.abc import Iterator

from occd.images import Description

_QUIET = "apt-get -q -y -o Dpkg::Use-Pty=0"
_INSTALL = f"{_QUIET} install --no-install-recommends"
_AWAY = f"{_QUIET} purge --auto-remove"
_PIP = (
    "python3 -m pip --disable-pip-version-check install --no-cache-dir --only-binary :all:"
    " --break-system-packages --root-user-action ignore"
)
_TOOLS = "python3-venv npm"
_NPM = (
    "npm --no-update-notifier install --global --prefix /usr/local --ignore-scripts --no-audit --no-fund"
    " --cache /tmp/npm"
)


def steps(description: Description) -> Iterator[tuple[str, str]]:
    """For a person, what each step does; and its script. All run as root, one after the other."""
    packages = description.packages
    yield "Debian's list of packages, with security fixes", f"{_QUIET} update --error-on=any"
    if packages.apt:
        count = len(packages.apt)
        yield (
            f"{count} packages of Debian, and what they need",
            f"{_INSTALL} {' '.join(packages.apt)}",
        )
    # pip and npm themselves go again: nobody needs them to run programs.
    if packages.pip:
        yield (
            f"by pip: {', '.join(packages.pip)}",
            f"{_INSTALL} python3-pip\n{_PIP} {' '.join(packages.pip)}\n{_AWAY} python3-pip",
        )
    if packages.npm:
        yield (
            f"by npm: {', '.join(packages.npm)}",
            f"{_INSTALL} npm\n{_NPM} {' '.join(packages.npm)}\n{_AWAY} npm\nrm -rf /tmp/npm",
        )
    if description.private:
        yield "the tools that install languages in folders of their own", f"{_INSTALL} {_TOOLS}"
        yield from description.private
        yield "without these tools", f"{_AWAY} {_TOOLS}\nrm -rf /root/.npm"
    for name, each in description.prepare:
        yield f"what makes {name} ready", each


def script(description: Description) -> str:
    """All steps as one script, which ends where something fails."""
    lines = ["set -e", "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8"]
    for told, each in steps(description):
        lines += [f"# {told}", each]
    return "\n".join([*lines, ""])
