"""Prints the head of each request that comes to a port, and answers with a Patient.

    python3 record.py 8099 >heads.txt
"""

import socket
import sys
import threading

BODY = b'{"resourceType":"Patient","id":"1"}'
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json;charset=UTF-8\r\n"
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: authorization\r\n"
    b"Content-Length: %d\r\n\r\n"
)


def serve(connection):
    with connection, connection.makefile("rb") as reader:
        while True:
            head, length = [], 0
            while (line := reader.readline()) not in (b"\r\n", b""):
                head.append(line.decode("latin-1").rstrip())
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not head:
                return
            reader.read(length)
            print("\n".join(head), end="\n\n", flush=True)
            body = BODY if "/fhir/" in head[0] else b"<title>page</title>"
            connection.sendall(HEAD % len(body) + body)


listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
