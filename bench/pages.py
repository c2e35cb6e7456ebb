#!/usr/bin/env python3
"""How long a page takes while a server is under load: pages.py URL VIEWERS SECONDS

Waits until `total_clients` on the page has reached VIEWERS, then asks for it fifty times a second over a new connection
each, for SECONDS, and prints the percentiles in milliseconds.
"""
import json
import sys
import time
import urllib.request

url, viewers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])


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
    time.sleep(0.02)
took.sort()
at = lambda part: took[min(len(took) - 1, int(len(took) * part))]
print(f"{url}: {len(took)} times beside at least {least} viewers: "
      f"p50 {at(0.5):.2f} p90 {at(0.9):.2f} p99 {at(0.99):.2f} max {took[-1]:.2f} ms", flush=True)
