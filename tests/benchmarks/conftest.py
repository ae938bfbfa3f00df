from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from quantizers.numerics import min_max_params, quantize
from quantizers.schema import Granularity, QuantizedLayer, QuantizedTensor, QuantParams, Role

MakeLayer = Callable[..., QuantizedLayer]


@pytest.fixture
def make_layer() -> MakeLayer:
    """Layers with random weights that are really quantized; `dtype` without a grid stores them as that float type."""

    def make(
        name: str = "conv1",
        shape: tuple[int, ...] = (4, 3, 3, 2),
        granularity: Granularity = Granularity.PER_CHANNEL,
        bits: int = 8,
        dtype: str | None = None,
        op: str = "CONV_2D",
        axis: int = 0,
        output: QuantParams | None = None,
        reference: NDArray[np.float32] | None = None,
    ) -> QuantizedLayer:
        if reference is None:
            reference = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
        params = None if dtype else min_max_params(reference, bits, granularity=granularity, axis=axis, group_size=3)
        codes = reference.astype(dtype) if params is None else quantize(reference, params)
        stored = dtype or f"int{bits}"
        return QuantizedLayer(
            name=name,
            native_name=f"graph/{name}",
            op=op,
            quantized=params is not None,
            why_not=None if params else "kept in float",
            weight=QuantizedTensor(f"{name}/w", name, Role.WEIGHT, stored, params, codes, reference),
            inputs=(QuantizedTensor(f"{name}/in", name, Role.INPUT, "float32"),),
            output=QuantizedTensor(f"{name}/out", name, Role.OUTPUT, output.dtype if output else "float32", output),
        )

    return make
