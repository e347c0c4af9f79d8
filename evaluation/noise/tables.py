"""Tables: hit rates as text, query lengths down, signal-to-noise ratios across, in per cent with their interval."""

from collections.abc import Sequence

import pandas as pd

_TITLES = {
    "song": "right recording first",
    "within_500": "and within 500 ms",
    "within_250": "and within 250 ms",
    "within_50": "and within 50 ms",
}


def text(rates: pd.DataFrame, differences: pd.DataFrame, *, facts: Sequence[str] = ()) -> str:
    """All tables as Markdown."""
    parts = ["# Identification under noise", "", *facts]
    for (system, overlap), part in rates.groupby(["system", "overlap"], dropna=False, sort=False):
        name = system if pd.isna(overlap) else f"{system}, overlap {overlap:g}"
        parts += ["", f"## {name}"]
        for measure, title in _TITLES.items():
            parts += ["", f"{title}, % [95 % interval]", "", *_table(part[part["measure"] == measure])]
    if len(differences):
        parts += ["", "## Differences, all lengths and ratios together", "", *_differences(differences)]
    return "\n".join(parts) + "\n"


def _table(part: pd.DataFrame) -> list[str]:
    ratios = sorted(part["snr"].unique())
    lines = ["| query | " + " | ".join(f"{snr:g} dB" for snr in ratios) + " |", "|" + " --- |" * (len(ratios) + 1)]
    for length, rows in part.groupby("length", sort=True):
        cells = {
            row.snr: f"{_percent(row.share)} [{_percent(row.low)}, {_percent(row.high)}]" for row in rows.itertuples()
        }
        lines.append(f"| {length:g} s | " + " | ".join(cells[snr] for snr in ratios) + " |")
    return lines


def _differences(differences: pd.DataFrame) -> list[str]:
    lines = ["| system | less | measure | points [95 % interval] |", "| --- | --- | --- | --- |"]
    for row in differences.itertuples():
        name = row.system if pd.isna(row.overlap) else f"{row.system}, overlap {row.overlap:g}"
        interval = f"{100 * row.difference:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"
        lines.append(f"| {name} | {row.baseline} | {_TITLES[row.measure]} | {interval} |")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
