"""The files in runtimes other than ONNX Runtime: they run there and say the same, with a free and with a fixed batch.

Skipped where those are not installed: ``uv sync --group runtimes`` does it for Python; for a browser
``npm install --prefix FOLDER onnxruntime-web``, and ``ONNXRUNTIME_WEB=FOLDER`` in the environment of the tests.
"""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from tests.helpers.browsing import started_browser
from topocompress.data.loading import load_data
from topocompress.deploy.export import export_onnx
from topocompress.deploy.half import halve_onnx
from topocompress.deploy.int8 import quantize_onnx
from topocompress.deploy.metadata import metadata_of, write_metadata
from topocompress.models.loading import fingerprint, load_model

FIXED = 4
CLOSE = {"model": 1e-5, "model.fp16": 1e-3, "model.int8": 0.05}
"""Largest difference, relative to the largest number: runtimes round 16 and 8 bits at different places."""


@pytest.fixture(scope="module")
def images():
    data = load_data("digits", preprocessing=load_model("digits").preprocessing, samples=20)
    return torch.stack([data.calibration[index][0] for index in range(8)])


@pytest.fixture(scope="module")
def files(images, tmp_path_factory):
    """As a run writes them, and each with a batch of one size."""
    folder, loaded = tmp_path_factory.mktemp("runtimes"), load_model("digits")
    export_onnx(loaded.module, folder / "model.onnx", samples=images)
    halve_onnx(folder / "model.onnx", folder / "model.fp16.onnx", samples=images.numpy())
    quantize_onnx(folder / "model.onnx", folder / "model.int8.onnx", calibration=[(images,)])
    for path in sorted(folder.iterdir()):
        write_metadata(path, metadata_of(fingerprint(loaded.module), loaded.preprocessing))
        proto = onnx.load(path)
        del proto.graph.value_info[:]
        for end in (*proto.graph.input, *proto.graph.output):
            end.type.tensor_type.shape.dim[0].dim_value = FIXED
        onnx.save(onnx.shape_inference.infer_shapes(proto), path.with_suffix(".fixed.onnx"))
    return folder


def in_openvino(path, images):
    openvino = pytest.importorskip("openvino")
    # Some processors would compute in 16 bits what a file has in 32.
    return openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)[0]


def in_opencv(path, images):
    network = pytest.importorskip("cv2").dnn.readNetFromONNX(str(path))
    network.setInput(images)
    return network.forward()


IN_BROWSER = """async ([name, values, shape]) => {
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(`/${name}`, { executionProviders: ["wasm"] });
    const found = await session.run({ input: new ort.Tensor("float32", Float32Array.from(values), shape) });
    const { data, dims } = found[session.outputNames[0]];
    await session.release();
    return [Array.from(data), dims];
}"""


@pytest.fixture(scope="module")
def page(files):
    """A page of a browser without a network that has ONNX Runtime Web and the files."""
    if not (place := os.environ.get("ONNXRUNTIME_WEB")):
        pytest.skip("needs onnxruntime-web: npm install --prefix FOLDER onnxruntime-web, then ONNXRUNTIME_WEB=FOLDER")
    served = {
        path.name: path for path in (*Path(place, "node_modules/onnxruntime-web/dist").iterdir(), *files.iterdir())
    }
    html = '<!doctype html><script src="ort.wasm.min.js"></script>'
    with started_browser() as browser:
        page = browser.new_page()
        page.route("**/*", lambda route: route.fulfill(path=served[route.request.url.rpartition("/")[2]]))
        page.route("http://localhost/", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto("http://localhost/")
        yield page


@pytest.mark.parametrize("batch", [1, 3, FIXED])
@pytest.mark.parametrize("name", CLOSE)
def test_a_browser_says_what_onnx_runtime_says(files, images, page, name, batch):
    def in_browser(path, given):
        values, shape = page.evaluate(IN_BROWSER, [path.name, given.ravel().tolist(), list(given.shape)])
        return np.array(values, np.float32).reshape(shape)

    check(files, images, in_browser, name, batch)


@pytest.mark.parametrize("batch", [1, 3, FIXED])
@pytest.mark.parametrize(
    ("runtime", "name"),
    [*((in_openvino, name) for name in CLOSE), (in_opencv, "model"), (in_opencv, "model.fp16")],
)
def test_other_runtimes_say_what_onnx_runtime_says(files, images, runtime, name, batch):
    check(files, images, runtime, name, batch)


def check(files, images, runtime, name, batch):
    """With a free batch, and with a fixed one where it is this one."""
    for path in (files / f"{name}.onnx", files / f"{name}.fixed.onnx")[: 1 + (batch == FIXED)]:
        given = images[:batch].numpy()
        found = runtime(path, given)
        wanted = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": given})[0]
        assert found.shape == wanted.shape == (batch, 10)
        assert np.abs(found - wanted).max() <= CLOSE[name] * np.abs(wanted).max()
        assert np.array_equal(found.argmax(1), wanted.argmax(1))
