"""What all peers share: the events, the clock and how a result is printed."""

import json
import resource
import sys

import numpy as np

SEC_NS = 1_000_000_000
WINDOW_S = 300
SERVICES, ENDPOINTS, CALLERS = 40, 20, 5


def events(rate, seconds, seed=42):
    """Columns of all events, in time order: as many a second, latencies lognormal with 1 % of outliers, services
    and endpoints by a Zipf distribution, 3 % of errors."""
    random = np.random.default_rng(seed)
    count = rate * seconds

    def zipf(n, power):
        weights = 1.0 / np.arange(1, n + 1) ** power
        return random.choice(n, size=count, p=weights / weights.sum()).astype(np.uint16)

    service, endpoint = zipf(SERVICES, 0.8), zipf(ENDPOINTS, 1.0)
    medians = random.integers(1_000_000, 50_000_000, size=(SERVICES, ENDPOINTS))
    latency = medians[service, endpoint] * np.exp(random.normal(size=count) * 0.8)
    latency[random.random(count) < 0.01] *= 10
    chance = random.random(count)
    return {
        "time_ns": (np.arange(count) * (SEC_NS // rate)).astype(np.uint64),
        "latency_ns": np.maximum(latency, 1_000).astype(np.uint64),
        "resp_size": random.integers(200, 20_200, size=count).astype(np.uint32),
        "service": service,
        "remote": ((service * 7 + random.integers(0, CALLERS, size=count)) % SERVICES).astype(np.uint16),
        "endpoint": endpoint,
        "status": np.select([chance < 0.01, chance < 0.03], [500, 404], 200).astype(np.uint16),
    }


def part(columns, first, last):
    return {name: values[first:last] for name, values in columns.items()}


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(name, version, rate, refreshes, start, refresh):
    """`start(columns)` fills the window, `refresh(columns, second)` takes a second in and answers: how many requests
    (b) counts. Prints one JSON object."""
    columns = events(rate, WINDOW_S + refreshes + 1)
    start(part(columns, 0, WINDOW_S * rate))
    spent, checked = [], True
    for second in range(WINDOW_S, WINDOW_S + refreshes + 1):
        rows = part(columns, second * rate, (second + 1) * rate)
        before = cpu_s()
        counted = refresh(rows, second)
        spent.append(cpu_s() - before)
        checked &= counted == WINDOW_S * rate
    # The first one pays for what is made once.
    spent = sorted(spent[1:])
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        "peer": name,
        "version": version,
        "cpu_s_per_refresh": spent[len(spent) // 2],
        "refreshes": len(spent),
        "verified": bool(checked),
        "peak_rss_mib": round(peak_mib),
    }))


def arguments():
    """Rate and refreshes."""
    return int(sys.argv[1]), int(sys.argv[2])
