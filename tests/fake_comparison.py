"""A comparison that costs nothing, and what the command wrote of it."""

import json


def comparison(harness, roofline, clock, *, seconds=None, results=None, calls=None, **options):
    """Ours takes 10 s, then 1, 2, 3; a peer does a tenth of the work, so that its seconds count
    ten times."""
    seconds = seconds or {"ours": [10, 1, 2, 3], "peer": [0.9, 0.3, 0.6, 1.2]}
    results = results or {"ours": 1.0, "peer": 1.0}
    calls = [] if calls is None else calls

    def way(name):
        left = iter(seconds[name])

        def run():
            calls.append(name)
            clock.now += next(left)
            return results[name]

        return harness.Way(run, lambda: calls.append(f"before {name}"), 10 if name == "peer" else 1)

    def setup(quick, peers):
        return harness.Prepared(
            "nothing",
            {"ours": way("ours")} | {peer: way(peer) for peer in peers},
            lambda peer, ours, theirs: [
                harness.Difference("value", harness.largest(ours, theirs), 1e-3, "rounding")
            ],
            lambda result: roofline.Work(bytes=1e9, flops=1e9, formula="none"),
            close=lambda: calls.append("close"),
        )

    peers = {"peer": lambda: "", "absent": lambda: "absent is not installed"}
    return harness.Comparison("group.fake", peers, setup, {("cpu", "peer"): 4.5}, **options)


def measured(out_dir):
    with open(out_dir / "benchmarks.json", encoding="utf-8") as file:
        return json.load(file)
