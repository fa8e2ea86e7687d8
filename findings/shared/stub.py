# A broker on a free port of loopback that speaks ApiVersions version 0; the finding answers everything else.
import socket, struct, threading


def text(value):
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value


def start(apis, answer):
    """Serves `apis`, a list of (key, lowest version, highest version); returns its port. `answer(key, version, port)` is the
    body of a response, or None to close the connection."""

    def talk(connection):
        stream = connection.makefile("rb")
        while len(head := stream.read(4)) == 4:
            request = stream.read(struct.unpack(">i", head)[0])
            api, version, correlation = struct.unpack_from(">hhi", request)
            if api == 18:
                error = 0 if version == 0 else 35
                body = struct.pack(">hi", error, len(apis)) + b"".join(struct.pack(">hhh", *a) for a in apis)
            else:
                body = answer(api, version, port)
            if body is None:
                break
            connection.sendall(struct.pack(">ii", 4 + len(body), correlation) + body)
        stream.close()
        connection.close()

    def serve():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    threading.Thread(target=serve, daemon=True).start()
    return port
