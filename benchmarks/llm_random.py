"""What a model costs that answers at random within the schema: simulated runs beside embedded ones.

    python benchmarks/llm_random.py --seeds 20

Every run starts from a buffer that is far too small. The model is a server
(bench/model_server/stand_in.py) that is asked over HTTP, as planner and critic. Exit code 1 if any
run is over 5 % slower than the embedded planner's. `rudder bench planners --live` compares them in
real jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys

from rudder.agents.team import make_team
from rudder.bench.model_server.scripted_server import ScriptedServer
from rudder.bench.model_server.stand_in import at_random
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.training.settings import BufferSettings
from rudder.training.steering_options import SteeringOptions

MOST = 1.05
ROLES = (("planner",), ("planner", "critic"))


def trainer(seed: int) -> SimulatedTrainer:
    return SimulatedTrainer(
        ZipfStream(num_remote=4000, draws=600, seed=seed),
        settings=BufferSettings(capacity_rows=100, lookahead_batches=4),
        costs=Costs(row_ms=0.08),
        seed=seed,
    )


async def lived(options: SteeringOptions, *, seed: int, windows: int) -> tuple[float, int]:
    """Simulated seconds, and questions that were answered usably."""
    simulated = trainer(seed)
    team = make_team(options, simulated.workload)
    run = await simulate(
        simulated,
        planner=team.planner,
        second=team.second,
        observer=team.observer,
        critic=team.critic,
        windows=windows,
    )
    if team.asker is None:
        return run.seconds, 0
    report = team.asker.report()
    await team.asker.close()
    return run.seconds, report.valid_first + report.valid_second


def measure(*, seeds: int, windows: int, wildness: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for seed in range(seeds):
        base, _ = asyncio.run(lived(SteeringOptions(), seed=seed, windows=windows))
        for roles in ROLES:
            with ScriptedServer(at_random(seed, wildness=wildness)) as server:
                options = SteeringOptions(
                    planner="llm", llm_url=server.url, llm_model="random", llm_roles=roles
                )
                seconds, answered = asyncio.run(lived(options, seed=seed, windows=windows))
            rows.append(
                {
                    "seed": seed,
                    "roles": ",".join(roles),
                    "to_embedded": seconds / base,
                    "answered": answered,
                }
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--windows", type=int, default=60, help="of 16 steps")
    parser.add_argument("--wildness", type=float, default=0.0, help="share of broken values")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(seeds=options.seeds, windows=options.windows, wildness=options.wildness)
    ratios = sorted(float(str(row["to_embedded"])) for row in rows)
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        answered = sum(int(str(row["answered"])) for row in rows)
        print(
            f"{len(rows)} runs, {answered} usable answers; time over the embedded planner's: least"
            f" {ratios[0]:.3f}, median {statistics.median(ratios):.3f}, most {ratios[-1]:.3f}"
        )
    return int(ratios[-1] > MOST)


if __name__ == "__main__":
    sys.exit(main())
