"""`python -m tests.compat.moto`: run moto's tests, hold them to the table, print the share that passes.

Arguments go to moto's pytest, such as `-k alias`; then tests that did not run are no difference.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compat.moto import servers, table
from tests.compat.moto.environment import Environment, environment

PLUGIN = Path(__file__).resolve().parent / "plugin"
Results = dict[str, dict[str, str]]


async def run(made: Environment, folder: Path, arguments: list[str]) -> Results:
    """What came of each test, by its name: `outcome` and `why`."""
    os.environ.update({"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"})
    with servers.moto_server(made.python) as server:
        async with servers.engines(folder, server) as engines:
            told = {
                "engines": engines,
                "server": server,
                "runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
                "results": str(folder / "results.json"),
            }
            variables = {"CLEAVE_MOTO": json.dumps(told), "PYTHONPATH": str(PLUGIN), "AWS_DEFAULT_REGION": "us-east-1"}
            command = [str(made.python), "-m", "pytest", "-p", "against_engine", "-p", "no:cacheprovider"]
            command += ["--quiet", "--tb=short", "--color=no", "tests/test_awslambda", *arguments]
            with (folder / "log").open("wb") as log:
                subprocess.run(
                    command, cwd=made.source, env={**os.environ, **variables}, stdout=log, stderr=subprocess.STDOUT
                )
            try:
                results: Results = json.loads((folder / "results.json").read_bytes())
            except FileNotFoundError:
                raise SystemExit((folder / "log").read_text(errors="replace")[-4_000:]) from None
            return results


def tell(found: table.Comparison, kinds: dict[str, str], results: Results) -> None:
    """Print the share, why the others do not pass, and each difference with what its test said."""
    print(f"moto's tests of Lambda: {found.passed} of {found.ran} pass ({found.passed / max(found.ran, 1):.1%})")
    print(f"of those that ask the engine for what AWS does: {found.passed / max(found.asked, 1):.1%} of {found.asked}")
    for kind, count in sorted(found.failed_by_kind.items(), key=lambda one: -one[1]):
        print(f"  {count:3} {kind}: {kinds.get(kind, 'listed as passing')}")
    for difference in found.differences:
        why = results.get(difference.partition(" ")[0], {}).get("why", "")
        print(f"DIFFERS: {difference}\n{why}".rstrip(), file=sys.stderr)


def main(arguments: list[str]) -> int:
    """The exit status: 1 where the run differs from the table. Without root there is no run, which fails under CI."""
    if os.geteuid() != 0:
        print("moto's tests are left out: they need root, since functions run with their limits", file=sys.stderr)
        return 1 if os.environ.get("CI", "").lower() == "true" else 0
    expected = table.read()
    try:
        made = environment()
    except subprocess.CalledProcessError as failed:
        print(
            f"moto could not be fetched: pip ended with status {failed.returncode}, as it says above", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="cleave-moto-") as folder:
        results = asyncio.run(run(made, Path(folder), arguments))
    outcomes = {name: result["outcome"] for name, result in results.items()}
    found = table.compare(expected, outcomes, all_ran=not arguments)
    tell(found, dict(expected.kinds), results)
    return 1 if found.differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
