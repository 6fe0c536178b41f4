"""The distance that measurements put before a task: every byte late by half a round trip, a connection by one."""

import gc
import os
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from aws_emulator.distance import Distance  # noqa: E402

ROUND_TRIP = 0.1
# Any two loopback addresses: the port is free on both.
FAR, NEAR = "127.63.0.1", "127.63.0.2"


class DistanceTest(unittest.TestCase):
    def setUp(self):
        self.server = socket.create_server((FAR, 0))
        self.port = self.server.getsockname()[1]
        self.addCleanup(self.server.close)
        threading.Thread(target=self.greet, daemon=True).start()
        self.distance = Distance()
        self.addCleanup(self.distance.close)

    def greet(self):
        """Says who it is, then everything it hears."""
        while True:
            try:
                one, _ = self.server.accept()
            except OSError:
                return
            one.sendall(b"SSH-2.0-x\r\n")
            threading.Thread(target=self.repeat, args=(one,), daemon=True).start()

    @staticmethod
    def repeat(one):
        with one:
            while data := one.recv(65536):
                one.sendall(data)

    def connect(self):
        self.distance.serve(NEAR, FAR, self.port, ROUND_TRIP)
        deadline = time.monotonic() + 10
        while True:
            began = time.monotonic()
            try:
                return began, socket.create_connection((NEAR, self.port), 10)
            except ConnectionRefusedError:
                self.assertLess(time.monotonic(), deadline)

    def test_the_time_of_the_first_answer_is_told(self):
        told = threading.Event()
        times = []
        self.distance.watch(FAR, self.port, lambda when: (times.append(when), told.set()))
        self.assertTrue(told.wait(10))
        self.assertAlmostEqual(times[0], time.time(), delta=5)

    def test_a_greeting_that_comes_late_is_heard_after_a_garbage_collection(self):
        told = threading.Event()
        with socket.create_server((FAR, 0)) as slow:
            self.distance.watch(FAR, slow.getsockname()[1], lambda _: told.set())
            one, _ = slow.accept()
            with one:
                for _ in range(5):
                    time.sleep(0.05)
                    gc.collect()
                one.sendall(b"SSH-2.0-x\r\n")
                self.assertTrue(told.wait(10))

    def test_greeting_and_answer_take_their_round_trips(self):
        began, link = self.connect()
        with link:
            self.assertEqual(link.recv(100), b"SSH-2.0-x\r\n")
            self.assertGreaterEqual(time.monotonic() - began, 2 * ROUND_TRIP * 0.95)
            sent = time.monotonic()
            link.sendall(b"ping")
            self.assertEqual(link.recv(100), b"ping")
            self.assertGreaterEqual(time.monotonic() - sent, ROUND_TRIP * 0.95)

    def test_much_data_arrives_whole_and_in_order(self):
        _, link = self.connect()
        data = os.urandom(1 << 20)
        with link:
            self.assertEqual(link.recv(100), b"SSH-2.0-x\r\n")
            threading.Thread(target=link.sendall, args=(data,), daemon=True).start()
            got = bytearray()
            while len(got) < len(data):
                part = link.recv(1 << 16)
                self.assertTrue(part, "cut short")
                got += part
        self.assertEqual(bytes(got), data)


if __name__ == "__main__":
    unittest.main()
