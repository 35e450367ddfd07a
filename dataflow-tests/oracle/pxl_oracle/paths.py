"""Request paths: clustering by equal components, prediction, endpoint patterns."""

THRESHOLD = 0.5
MEMBERS_MAX = 5


def components(path):
    path = path.split(b"?", 1)[0]
    return tuple(part.decode("utf-8", "replace") for part in path.removeprefix(b"/").split(b"/"))


def similarity(a, b):
    if len(a) != len(b):
        return 0.0
    return sum(x == y and x != "*" for x, y in zip(a, b)) / len(a)


def build_clusters(paths):
    """Clusters of the distinct paths, added in bytewise order."""
    clusters = []  # [centroid, members or None once there are too many]
    for path in sorted(set(paths)):
        parts = components(path)
        best = max(clusters, key=lambda c: similarity(c[0], parts), default=None)
        if best is None or similarity(best[0], parts) < THRESHOLD:
            clusters.append([parts, [parts]])
            continue
        best[0] = tuple(x if x == y else "*" for x, y in zip(best[0], parts))
        if best[1] is not None and parts not in best[1]:
            best[1].append(parts)
            if len(best[1]) > MEMBERS_MAX:
                best[1] = None
    return [{"c": list(c), "m": [list(m) for m in members or []]} for c, members in clusters]


def predict(path, clusters):
    parts = list(components(path))
    best = max(clusters, key=lambda c: similarity(c["c"], parts), default=None)
    chosen = parts
    if best is not None and similarity(best["c"], parts) > 0 and parts not in best["m"]:
        chosen = best["c"]
    return ("/" + "/".join(chosen)).encode()


def matches_endpoint(path, endpoint):
    have, want = components(path), components(endpoint)
    return len(have) == len(want) and all(w in ("*", h) for h, w in zip(have, want))
