from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidings_hub.metrics import BUCKETS_S, FIELDS, Histogram, Kind, Metrics, merge_texts, render


def test_every_field_has_a_help_and_a_plain_name() -> None:
    for name, (kind, help_) in FIELDS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert len(help_) > 5
        # Only histograms and gauges have a unit; a counter counts.
        assert name.endswith("_s") or kind is not Kind.HISTOGRAM
        assert kind in (Kind.HISTOGRAM, Kind.GAUGE) or not name.endswith("_s")


def test_counted_values_are_rendered() -> None:
    metrics = Metrics()
    metrics.deliveries += 3
    metrics.sessions = 2
    metrics.count(metrics.connections_closed, "slow")
    metrics.count(metrics.connections_closed, "slow", 4)
    metrics.canary_s.observe(0.002)
    metrics.canary_s.observe(99.0)
    families = {family.name: family for family in text_string_to_metric_families(render(metrics, node="n1").decode())}
    assert set(families) == {f"tidings_{name}" for name in FIELDS}
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    node = ("node", "n1")
    assert samples["tidings_deliveries_total", node] == 3
    assert samples["tidings_sessions", node] == 2
    assert samples["tidings_connections_closed_total", ("code", "slow"), node] == 5
    assert samples["tidings_canary_s_count", node] == 2
    assert samples["tidings_canary_s_bucket", ("le", "0.0025"), node] == 1
    assert samples["tidings_canary_s_sum", node] == pytest.approx(99.002)


@pytest.mark.parametrize("bound", BUCKETS_S)
def test_bucket_includes_its_upper_bound(bound: float) -> None:
    histogram = Histogram()
    histogram.observe(bound)
    assert histogram.counts[BUCKETS_S.index(bound)] == 1


def test_misspelt_metric_is_an_error() -> None:
    with pytest.raises(AttributeError):
        Metrics().deliverys = 1  # type: ignore[attr-defined]


def test_metrics_of_several_nodes_are_merged() -> None:
    first, second = Metrics(), Metrics()
    first.deliveries, second.deliveries = 3, 4
    second.count(second.connections_closed, "slow")
    second.canary_s.observe(0.002)
    text = merge_texts([render(first, node="n-0"), render(second, node="n-1")]).decode()
    families = list(text_string_to_metric_families(text))
    assert sorted(family.name for family in families) == sorted(f"tidings_{name}" for name in FIELDS)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }
    assert samples["tidings_deliveries_total", ("node", "n-0")] == 3
    assert samples["tidings_deliveries_total", ("node", "n-1")] == 4
    assert samples["tidings_connections_closed_total", ("code", "slow"), ("node", "n-1")] == 1
    assert samples["tidings_canary_s_count", ("node", "n-1")] == 1
    assert merge_texts([render(first, node="n-0")]) == render(first, node="n-0")
