"""Matrix products alone: what training and encoding would take if all else cost nothing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.timing import Work
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.precision import product_dtype


class Product(NamedTuple):
    """A layer's product of inputs (rows, inner) with weights (inner, outs)."""

    rows: int
    inner: int
    outs: int
    first: bool = False
    """Its inputs are data, which need no gradient."""


def vae_products(vae: VAE, batch: int) -> tuple[list[Product], list[Product]]:
    """The products of V's encoder and decoder for a batch of frames.

    A convolution is one product of all patches with its weights.
    """
    found = dict[nn.Module, Product]()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        match layer:
            case nn.Linear():
                found[layer] = Product(batch, layer.in_features, layer.out_features)
            case nn.Conv2d():
                patch, first = layer.weight[0].numel(), layer is vae.encoder[0]
                pixels = output[0, 0].numel()
                found[layer] = Product(batch * pixels, patch, layer.out_channels, first)
            case nn.ConvTranspose2d():
                patch, pixels = layer.weight[0].numel(), inputs[0][0, 0].numel()
                found[layer] = Product(batch * pixels, layer.in_channels, patch)

    hooks = [layer.register_forward_hook(note) for layer in vae.modules()]
    with torch.inference_mode():
        features = vae.encoder(torch.zeros(1, 3, vae.size, vae.size))
        vae.decode(vae.posterior(features)[:, : vae.config.latent_size])
    for hook in hooks:
        hook.remove()
    encoder = [found[layer] for layer in (*vae.encoder, vae.posterior) if layer in found]
    decoder = [found[layer] for layer in (vae.decoder_input, *vae.decoder) if layer in found]
    return encoder, decoder


def mdnrnn_products(mdnrnn: MDNRNN, batch: int, steps: int) -> list[Product]:
    """M's products for sequences; the recurrent one is that of a step, see `training_products`."""
    hidden, rows = mdnrnn.config.hidden_size, batch * steps
    return [
        Product(rows, mdnrnn.lstm.input_size, 4 * hidden, first=True),
        Product(rows, hidden, mdnrnn.head.out_features),
        *[Product(batch, hidden, 4 * hidden)] * steps,
    ]


def forward_products(products: list[Product], units: int) -> Work:
    """The products alone, with operands of `product_dtype`."""
    operands = {product: _operands(product) for product in products}

    @torch.inference_mode()
    def work() -> float:
        for product in products:
            inputs, weights, outputs = operands[product]
            torch.mm(inputs, weights, out=outputs)
        return float(units)

    return work


def training_products(products: list[Product], units: int) -> Work:
    """Those of a training step too: the gradients of the weights and of the inputs.

    The weights of equal products are shared, as those of a recurrent layer: their gradient is one
    product of all rows.
    """
    forward, operands = forward_products(products, units), {}
    for product in set(products):
        whole = product._replace(rows=product.rows * products.count(product))
        operands[product] = _operands(product), _operands(whole)

    @torch.inference_mode()
    def work() -> float:
        forward()
        for product in products:
            (inputs, weights, outputs), _ = operands[product]
            if not product.first:
                torch.mm(outputs, weights.T, out=inputs)
        for inputs, weights, outputs in (whole for _, whole in operands.values()):
            torch.mm(inputs.T, outputs, out=weights)
        return float(units)

    return work


def _operands(product: Product) -> tuple[Tensor, Tensor, Tensor]:
    rows, inner, outs, _ = product
    shapes = (rows, inner), (inner, outs), (rows, outs)
    inputs, weights, outputs = (torch.randn(shape).to(product_dtype()) for shape in shapes)
    return inputs, weights, outputs
