"""Asks for 30 of each kind over one connection: python3 client.py PORT TAG"""
import http.client
import sys

port, tag = int(sys.argv[1]), sys.argv[2]
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
for kind in "psl":
    for number in range(1, 31):
        connection.request("GET", f"/{kind}/{tag}/{number}")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200 and body, (kind, number, response.status)
