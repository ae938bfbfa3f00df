"""Where numbers become integers: a PT2E quantizer that annotates by aten operation, so no module class can slip through.

Besides the layers it annotates what lies between them where the values do not change: a maximum pool, a flatten or zero
padding in front of a quantized layer shares the grid of its input, which lets the layer before it write integers; of a
residual addition it annotates the shortcut, as oneDNN's fused convolution-and-add reads it.
"""

from __future__ import annotations

import torch
from torch.fx import Graph, GraphModule, Node
from torchao.quantization.pt2e import FakeQuantize, MovingAverageMinMaxObserver, PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer, SharedQuantizationSpec

from quantizers.pytorch.choice import Kinds, weight_kinds
from quantizers.pytorch.graph import DENSE, aten, layer_name, layers
from quantizers.pytorch.observers import OBSERVERS, WeightObserver
from quantizers.schema import Mode, Technique

BASELINE = "the float baseline quantizes nothing"
KEPT_BY_CHOICE = "kept float by choice"
DENSE_ONLY = "PyTorch has no int8 convolution that measures its input's range while running: only dense layers can be dynamic"
NOT_A_PARAMETER = "the weight is computed while running, so it cannot be stored as integers"

_SAME_VALUES = frozenset(
    {
        aten.max_pool2d.default,
        aten.flatten.using_ints,
        aten.view.default,
        aten.reshape.default,
        aten.permute.default,
        aten.pad.default,
        aten.constant_pad_nd.default,
    }
)
"""Operations whose output holds values of their input (or padding zeros) only."""
_ADDITIONS = frozenset({aten.add.Tensor, aten.add_.Tensor})
_ANNOTATION = "quantization_annotation"
_TRAINED = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver)
"""Rounds in training exactly as conversion does; the fused variant of torchao does not."""
_FLOAT_ACTIVATIONS = (Mode.WEIGHT_ONLY, Mode.BINARY, Mode.TERNARY)


class LayerQuantizer(Quantizer):  # type: ignore[misc]  # torchao has no types
    """Activations uint8, which is what x86 oneDNN kernels fuse, or int16 symmetric.

    Weights are left in float for `rewrite` to round, except in training, which rounds them anew at every step: there they are
    symmetric per channel, in −127…127 or −7…7.
    """

    def __init__(
        self,
        technique: Technique,
        *,
        observer: str = "histogram",
        activations: str = "affine",
        keep_float: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self._technique = technique
        self._mode = technique.mode
        self._observer = OBSERVERS[observer]
        self._symmetric = activations == "symmetric"
        self._keep_float = keep_float
        self.reasons: dict[str, str | None] = {}
        """Why a layer stays in float, or None when it is quantized, by layer name; filled by `annotate`."""
        self.kinds: Kinds = {}
        """The type that each layer's weight should have, as far as it can; filled by `annotate`."""

    def _why_not(self, layer: Node, kind: str | None) -> str | None:
        if kind is None:
            return KEPT_BY_CHOICE
        if self._mode is Mode.DYNAMIC and layer.target not in DENSE:
            return DENSE_ONLY
        weight = layer.args[1]
        return None if isinstance(weight, Node) and weight.op == "get_attr" else NOT_A_PARAMETER

    def annotate(self, model: GraphModule) -> GraphModule:
        nodes = layers(model.graph)
        wanted = weight_kinds(self._technique, [layer_name(layer) for layer in nodes], self._keep_float)
        self.reasons = {layer_name(layer): self._why_not(layer, wanted[layer_name(layer)]) for layer in nodes}
        self.kinds = {name: None if self.reasons[name] else kind for name, kind in wanted.items()}
        for layer in nodes:
            if self.kinds[layer_name(layer)] is not None:
                source, weight = layer.args[:2]
                inputs = {} if self._mode in _FLOAT_ACTIVATIONS else {source: self.activation()}
                weights = {weight: self._weight()} if self._mode is Mode.QAT else {}
                layer.meta[_ANNOTATION] = QuantizationAnnotation({**inputs, **weights}, _annotated=True)
        if self._technique.needs_calibration:
            self._annotate_additions(model.graph)
            self._annotate_same_values(model.graph)
        return model

    def validate(self, model: GraphModule) -> None:
        """Nothing to check: every annotation above is one that torchao converts."""

    def _annotate_additions(self, graph: Graph) -> None:
        """Of `convolution + shortcut` the shortcut; where both are convolutions, the later one does the adding."""
        order = {node: place for place, node in enumerate(graph.nodes)}
        for add in graph.nodes:
            sources = [source for source in add.args[:2] if isinstance(source, Node)]
            if add.target not in _ADDITIONS or len(set(sources)) != 2:
                continue
            shortcut, convolution = sorted(sources, key=order.__getitem__)
            if add.target is aten.add_.Tensor and shortcut is sources[0] and len(shortcut.users) > 1:
                continue  # the sum overwrites what others read
            if convolution.target is aten.conv2d.default and _ANNOTATION in convolution.meta and len(convolution.users) == 1:
                add.meta[_ANNOTATION] = QuantizationAnnotation({shortcut: self.activation()}, _annotated=True)

    def _annotate_same_values(self, graph: Graph) -> None:
        for node in reversed(graph.nodes):
            users = list(node.users)
            if node.target in _SAME_VALUES and users and all(self._reads_integers(user, node) for user in users):
                source = node.args[0]
                node.meta[_ANNOTATION] = QuantizationAnnotation(
                    {source: self.activation()}, SharedQuantizationSpec((source, node)), _annotated=True
                )

    def _reads_integers(self, user: Node, source: Node) -> bool:
        annotation = user.meta.get(_ANNOTATION)
        return annotation is not None and source in annotation.input_qspec_map

    def activation(self) -> QuantizationSpec:
        """How the input of a layer is rounded."""
        dynamic, trained = self._mode is Mode.DYNAMIC, self._mode is Mode.QAT
        wide = self._technique.activation_bits == 16
        # With the range of uint8 left unsaid, torchao puts a symmetric zero point at 128; said, it would be 127.
        low, high = (-32767, 32767) if wide else (None, None) if self._symmetric else (0, 255)
        return QuantizationSpec(
            dtype=torch.int16 if wide else torch.uint8,
            quant_min=low,
            quant_max=high,
            qscheme=torch.per_tensor_symmetric if wide or self._symmetric else torch.per_tensor_affine,
            is_dynamic=dynamic,
            observer_or_fake_quant_ctr=PlaceholderObserver if dynamic else _TRAINED if trained else self._observer,
        )

    def _weight(self) -> QuantizationSpec:
        highest = (1 << ((self._technique.weight_bits or 8) - 1)) - 1
        return QuantizationSpec(
            dtype=torch.int8,
            quant_min=-highest,
            quant_max=highest,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
            observer_or_fake_quant_ctr=FakeQuantize.with_args(observer=WeightObserver),
        )
