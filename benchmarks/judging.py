"""What judging and scoring cost: one hospital in full against what changed, and a province of hospitals in one batch.

Both ways are measured in one run, interleaved, and their bytes are compared each time. Figures that are judged come
from each check's own examples: met, not met, and some never seen. Everything runs in this process, on one core.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import statistics
import sys
import time
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from controlplane.domain.catalog import make_catalog  # noqa: E402
from controlplane.domain.chain import canonical, digest, stamp, unstamp  # noqa: E402
from controlplane.domain.incremental import judge_all, rejudge  # noqa: E402
from controlplane.domain.judge import Seen, judge  # noqa: E402
from controlplane.domain.model import SITE, Asset, Catalog, Observation, Outcome, Words  # noqa: E402
from controlplane.domain.score import score  # noqa: E402

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
DAY = NOW.date()
# The hospital of the plan in miniature: how many of 70 assets are of a kind, and the inventory groups these bear.
SHARES = {"printer": 24, "workstation": 35}
BORNE = {"printer": ("printers",), "workstation": ("linux_hosts", "log_senders", "workstations")}
State = dict[tuple[str, str], Seen]


def shipped() -> Catalog:
    """Every shipped check and framework."""

    def read(path: Path) -> Any:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)

    checks = [p for p in sorted((ROOT / "checks").glob("*.yaml")) if p.name != "waivers.yaml"]
    frameworks = sorted((ROOT / "checks" / "criteria").glob("*.yaml"))
    return make_catalog({p.name: read(p) for p in checks}, {p.name: read(p) for p in frameworks})


def hospital(catalog: Catalog) -> tuple[Asset, ...]:
    """70 assets: 24 printers, 35 workstations and 11 that bear every other role, and the site beside them."""
    others = tuple(sorted({c.role for c in catalog.checks.values()} - {"printers", "workstations", SITE}))
    kinds = [(kind, BORNE[kind]) for kind, count in SHARES.items() for _ in range(count)]
    kinds += [("server", others)] * (70 - len(kinds))
    named = [Asset(f"asset-{i:02}", k, r, Words("a", "a"), address="192.0.2.1") for i, (k, r) in enumerate(kinds)]
    return (*named, Asset(SITE, "site", (SITE,), Words("s", "s")))


def observed(catalog: Catalog, assets: Sequence[Asset], rnd: random.Random) -> State:
    """What a hospital's looks left: of every four figures about three are good; one in ten was never seen."""
    state: State = {}
    for check in sorted(catalog.checks.values(), key=lambda c: c.id):
        for asset in assets:
            if check.role in asset.roles and (asset.name, check.fact) not in state and rnd.random() < 0.9:
                value = rnd.choice(check.examples["met" if rnd.random() < 0.75 else "not_met"])
                state[asset.name, check.fact] = Seen(observation(asset.name, check.fact, value, len(state) + 1, NOW))
    return state


def observation(asset: str, fact: str, value: Any, number: int, at: datetime) -> Observation:
    """An answer of an hour ago."""
    seen_at = at - timedelta(hours=1)
    raw = digest(canonical(value))
    return Observation(asset, fact, Outcome.ANSWERED, value, "-", raw, "true", "ssh/1", seen_at, seen_at, number)


def change(catalog: Catalog, state: State, count: int, rnd: random.Random) -> tuple[State, set[tuple[str, str]]]:
    """The state with ``count`` figures seen again, each with any example of its check, and which they are."""
    changed = set(rnd.sample(sorted(state), min(count, len(state))))
    examples = {check.fact: check.examples for check in catalog.checks.values()}
    after = dict(state)
    for key in changed:
        value = rnd.choice(examples[key[1]][rnd.choice(("met", "not_met"))])
        after[key] = Seen(observation(*key, value, rnd.randrange(10**6, 10**7), NOW + timedelta(minutes=1)))
    return after, changed


def timed(work: Any) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    begun = time.perf_counter()
    made = work()
    return time.perf_counter() - begun, made


def one_hospital(catalog: Catalog, repeat: int) -> None:
    """Full against what changed, interleaved; the bytes of both are equal, or it stops."""
    rnd = random.Random(20261123)  # noqa: S311  # the same hospitals every time
    assets = hospital(catalog)
    state = observed(catalog, assets, rnd)
    ledger = judge_all(catalog, assets, state, NOW, DAY)
    print(
        f"one hospital: {len(assets) - 1} assets and the site, {len(catalog.checks)} checks, "
        f"{len(catalog.frameworks)} frameworks, {len(catalog.criteria)} criteria, "
        f"{len(ledger.findings)} findings on {len(state)} figures"
    )
    now = NOW + timedelta(minutes=2)
    for count in (0, 1, 10, 100, len(state)):
        full, part = [], []
        for _ in range(repeat):
            after, changed = change(catalog, state, count, rnd)
            took, (findings, card) = timed(lambda after=after: in_full(catalog, assets, after, now))
            full.append(took)
            took, kept = timed(
                lambda after=after, changed=changed: rejudge(ledger, catalog, assets, after, changed, now, DAY)
            )
            part.append(took)
            assert canonical([kept.findings, kept.card]) == canonical([findings, card])
        whole, mine = statistics.median(full), statistics.median(part)
        print(f"  {count:4} figures seen again: full {ms(whole)}, what changed {ms(mine)}, ratio {whole / mine:.1f}")
    took = statistics.median(timed(lambda: canonical(ledger.card))[0] for _ in range(repeat))
    print(f"  canonical bytes of the scorecard: {ms(took)}")


def in_full(catalog: Catalog, assets: Sequence[Asset], state: State, now: datetime) -> tuple[Any, Any]:
    """Judging and scoring everything."""
    findings = judge(catalog, assets, state, now, DAY)
    return findings, score(catalog, findings, DAY)


def packed(state: State) -> bytes:
    """A hospital's state as a store would hand it over: rows of JSON, packed."""
    answers = [(key, seen.answer) for key, seen in state.items() if seen.answer is not None]
    rows = [[*key, a.value, a.id, a.raw_digest, stamp(a.seen_at)] for key, a in answers]
    return zlib.compress(json.dumps(rows).encode(), 1)


def unpacked(body: bytes) -> State:
    """The state behind the bytes."""
    state: State = {}
    for asset, fact, value, number, raw, at in json.loads(zlib.decompress(body)):
        seen_at = unstamp(at)
        state[asset, fact] = Seen(
            Observation(asset, fact, Outcome.ANSWERED, value, "-", raw, "true", "ssh/1", seen_at, seen_at, number)
        )
    return state


def province(catalog: Catalog, count: int) -> None:
    """Hospitals judged one after the other. They share the catalog and the 70 assets; each has a state of its own."""
    rnd = random.Random(54)  # noqa: S311  # the same hospitals every time
    assets = hospital(catalog)
    bodies = [packed(observed(catalog, assets, rnd)) for _ in range(count)]
    before = peak_mib()
    reading = judging = sealing = 0.0
    cards = set()
    begun = time.perf_counter()
    for body in bodies:
        took, state = timed(lambda body=body: unpacked(body))
        reading += took
        took, (_, card) = timed(lambda state=state: in_full(catalog, assets, state, NOW))
        judging += took
        took, sealed = timed(lambda card=card: digest(canonical(card)))
        sealing += took
        cards.add(sealed)
    wall = time.perf_counter() - begun
    assert len(cards) == count, "two hospitals of different evidence have the same scorecard"
    print(f"{count} hospitals one after the other: {wall:.1f} s, {ms(wall / count)} each")
    print(f"  of it: unpack {ms(reading / count)}, judge and score {ms(judging / count)}, seal {ms(sealing / count)}")
    print(f"  states kept packed: {sum(map(len, bodies)) / count / 1024:.1f} KiB a hospital")
    print(f"  peak memory: {peak_mib():.0f} MiB ({before:.0f} MiB with all packed states before the first was judged)")


def kept(catalog: Catalog, count: int) -> None:
    """Memory of hospitals that are kept judged, so that each costs what changed only."""
    rnd = random.Random(55)  # noqa: S311  # the same hospitals every time
    assets = hospital(catalog)
    before = mib_now()
    ledgers = [judge_all(catalog, assets, observed(catalog, assets, rnd), NOW, DAY) for _ in range(count)]
    grown = mib_now() - before
    print(f"{len(ledgers)} hospitals kept judged, their states let go: {grown / count * 1024:.0f} KiB each")


def mib_now() -> float:
    """The memory this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_mib() -> float:
    """The most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ms(seconds: float) -> str:
    """Milliseconds with three figures."""
    return f"{seconds * 1000:.3g} ms"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=41)
    parser.add_argument("--hospitals", type=int, default=1000)
    options = parser.parse_args()
    catalog = shipped()
    one_hospital(catalog, options.repeat)
    province(catalog, options.hospitals)
    kept(catalog, min(options.hospitals, 100))
    return 0


if __name__ == "__main__":
    sys.exit(main())
