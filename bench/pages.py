#!/usr/bin/env python3
"""How long a page takes while a server is under load: pages.py URL VIEWERS SECONDS

Waits until `total_clients` on the page has reached VIEWERS, then asks for it some fifty times a second over a new connection
each, for SECONDS, and prints the percentiles in milliseconds.

It shares its core with the load's clients, which read a thousand sockets at a time. So that their turns are not taken
for the server's, it runs before them where the system allows that, and says so where it does not.
"""
import json
import os
import sys
import time
import urllib.request

url, viewers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
except OSError:
    print("pages.py may wait for the load's turns: it has no right to run before them", file=sys.stderr)


def ask():
    began = time.perf_counter()
    page = urllib.request.urlopen(url, timeout=5).read()
    return time.perf_counter() - began, json.loads(page)


deadline = time.monotonic() + 30
while True:
    try:
        if ask()[1]["total_clients"] >= viewers:
            break
    except OSError:
        pass
    if time.monotonic() > deadline:
        sys.exit(f"{viewers} viewers never came")
    time.sleep(0.1)

took, least, end = [], viewers, time.monotonic() + seconds
while time.monotonic() < end:
    time_taken, page = ask()
    took.append(time_taken * 1000)
    least = min(least, page["total_clients"])
    # No divisor of a round, so that all moments of one are met alike.
    time.sleep(0.0171)
took.sort()
at = lambda part: took[min(len(took) - 1, int(len(took) * part))]
print(f"{url}: {len(took)} times beside at least {least} viewers: "
      f"p50 {at(0.5):.2f} p90 {at(0.9):.2f} p99 {at(0.99):.2f} max {took[-1]:.2f} ms", flush=True)
