from benchmarks.dense.__main__ import line


def row(**changes):
    measured = {
        "network": "net",
        "macs": [300, 150],
        "parameters": [100, 80],
        "latency_ms": [4.5, 3.0],
        "parity": 1e-6,
        "same": 0.998,
        "stability": None,
        "pruned": 7,
        "kept": {"feeds the model's output": 2},
    }
    return measured | changes


def test_a_row_says_by_how_much_each_has_shrunk():
    assert line(row()) == "| `net` | 2.00× | 1.25× | 1.50× | 99.8% | 7 | 2: feeds the model's output |"


def test_of_a_detector_it_says_how_many_boxes_torch_itself_finds_again():
    assert "| 96.0% (97.5%) |" in line(row(same=0.96, stability=0.975))


def test_what_was_refused_is_a_row_with_the_reason():
    assert line({"network": "net", "refused": "it does not run"}) == "| `net` | refused: it does not run | | | | | |"
