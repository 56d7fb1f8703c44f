"""Grafana's dashboard: `python -m ops.dashboard` writes `ops/grafana/conveyor.json` from `ops/questions.py`."""

import json
from pathlib import Path
from typing import Any, Final

from ops.questions import ROWS, Panel

FILE: Final = Path(__file__).parent / "grafana/conveyor.json"

#: Of Grafana's 24 columns; three panels abreast.
WIDTH, HEIGHT = 8, 8


def panel(number: int, asked: Panel, place: dict[str, int]) -> dict[str, Any]:
    """A panel as Grafana stores it."""
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if asked.stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30}
    return {
        "id": number,
        "type": "timeseries",
        "title": asked.question,
        "description": asked.note,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": asked.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "expr": query,
                "legendFormat": name,
            }
            for n, (name, query) in enumerate(asked.lines)
        ],
    }


def dashboard() -> dict[str, Any]:
    """The whole, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, asked in ROWS.items():
        row = {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
        panels.append(row | {"gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top += 1
        for n, one in enumerate(asked):
            place = {"x": n % 3 * WIDTH, "y": top + n // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            panels.append(panel(len(panels) + 1, one, place))
        top += -(-len(asked) // 3) * HEIGHT
    return {
        "uid": "conveyor",
        "title": "Conveyor",
        "description": "Written by `make schemas` from ops/questions.py; change it there.",
        "tags": ["conveyor"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def queries() -> list[str]:
    """Every query of the dashboard."""
    return [query for asked in ROWS.values() for one in asked for _, query in one.lines]


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
