"""A local Ray cluster of two workers writes the same file as this process (extra `cluster`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from planner.errors import KvplanError
from planner.sweeps import workers
from planner.sweeps.axes import parse_grid
from planner.sweeps.questions import shared_of
from planner.sweeps.run import sweep

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_two_ray_workers_write_the_same_bytes(tmp_path: Path, address: str, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,'
        ' "vocab_size": 1000, "intermediate_size": 1024}'
    )
    grid = parse_grid(
        "estimate", [f"model=gpt2,nope,{tmp_path / 'config.json'} seq=1k..64k batch=1..64 gpu=l4,h100-sxm"]
    )
    shared = shared_of(grid)
    one, other = tmp_path / f"here.{suffix}", tmp_path / f"ray.{suffix}"
    sweep(grid, shared, str(one), workers.here)
    found = sweep(grid, shared, str(other), partial(workers.on_ray, address=address))
    assert (found.points, found.answered, found.complete) == (294, 196, True)
    assert other.read_bytes() == one.read_bytes()


def test_the_points_ran_on_both_nodes(address: str) -> None:
    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    try:
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        where = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(
            lambda: (__import__("time").sleep(0.5), ray.get_runtime_context().get_node_id())[1]
        )
        assert len(set(ray.get([where.remote() for _ in range(4)]))) == 2
    finally:
        ray.shutdown()


def test_workers_with_another_kvplan_are_refused(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "FORMULAS", -1)
    grid = parse_grid("estimate", ["model=gpt2 seq=1k"])
    with pytest.raises(KvplanError, match="install the same on every machine"):
        sweep(grid, shared_of(grid), str(tmp_path / "a.csv"), partial(workers.on_ray, address=address))


@pytest.mark.parametrize("where", ["127.0.0.1:1", "127.0.0.1:ray", "nowhere", "127.0.0.1:99999", ""])
def test_an_address_without_a_cluster_is_one_line(tmp_path: Path, where: str) -> None:
    grid = parse_grid("estimate", ["model=gpt2 seq=1k"])
    with pytest.raises(KvplanError, match="no cluster answers there"):
        sweep(grid, shared_of(grid), str(tmp_path / "a.csv"), partial(workers.on_ray, address=where))
    assert not (tmp_path / "a.csv").exists()
