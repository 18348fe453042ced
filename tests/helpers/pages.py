"""Numbers on the page of a report, held against ``report.json``."""

from topocompress.reporting import quantities


def at(content, path):
    """The value at a dotted path of ``report.json``; keys may hold dots."""
    for key in path.split("."):
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


SHOWN = {
    "parameters": quantities.count,
    "macs": quantities.count,
    "file_bytes": quantities.size,
    "peak_bytes": quantities.size,
    "accuracy": quantities.percent,
    "agreement": quantities.percent,
}


def check_number(content, path, exact, text):
    """That one marked number is the one in report.json, exactly and as it is shown."""
    value = at(content, path)
    assert exact == ("" if value is None else str(value)), path
    last = path.rpartition(".")[2]
    if last in SHOWN:
        assert text == SHOWN[last](value), path
    elif last in ("median_ms", "p95_ms"):
        digits = len(text.partition(".")[2])
        assert digits >= 2
        assert text == f"{value:.{digits}f}", path
    elif path.startswith("environment.seconds"):
        assert text == f"{value:.1f} s"
    else:
        assert text == str(value), path
