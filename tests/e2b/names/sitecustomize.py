"""Names below `localhost` lead to this machine, as they do where systemd-resolved is: some Debian machines know only `localhost` itself."""

import socket

_known = socket.getaddrinfo


def _looked_up(host, *args, **options):  # noqa: ANN001, ANN202 - as the original
    name = host.decode() if isinstance(host, bytes) else host
    return _known("127.0.0.1" if name and name.endswith(".localhost") else host, *args, **options)


socket.getaddrinfo = _looked_up
