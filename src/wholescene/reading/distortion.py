"""How far a lens bends: the models that calibration files name, and the largest shift they make in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wholescene.errors import unknown_name

Array = NDArray[np.float64]

_POLYNOMIAL = ("", "plumb_bob", "radtan", "rational_polynomial", "brown_conrady", "opencv")
_FISHEYE = ("equidistant", "fisheye", "kannala_brandt", "kannala_brandt4", "opencv_fisheye")


def distort(x: Array, y: Array, coefficients: Sequence[float], model: str = "plumb_bob") -> tuple[Array, Array]:
    """Where the lens draws what an ideal camera draws at (x, y).

    Args:
        x, y: ideal picture coordinates over the focal length, (u - cx) / fx and (v - cy) / fy.
        coefficients: in OpenCV's order: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 of the polynomial model (Brown 1966, with a rational radial
            part and a thin prism), or k1 k2 k3 k4 of the fisheye model (Kannala and Brandt 2006). Missing ones are zero.
        model: the name that the file gives; "" is the polynomial one.

    Returns:
        x, y as drawn, in the same units.

    Raises:
        InputError: a model that is not known here, such as one for mirrors or more than 180 degrees.
    """
    name = model.strip().lower().replace("-", "_")
    if name in _FISHEYE:
        k = [*coefficients, 0.0, 0.0, 0.0, 0.0][:4]
        r = np.hypot(x, y)
        angle = np.arctan(r)
        bent = angle * (1 + sum(k[i] * angle ** (2 * i + 2) for i in range(4)))
        scale = np.divide(bent, r, out=np.ones_like(r), where=r > 0)
        return x * scale, y * scale
    if name not in _POLYNOMIAL:
        raise unknown_name("distortion model", model, [n for n in (*_POLYNOMIAL, *_FISHEYE) if n])
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = [*coefficients, *[0.0] * 12][:12]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + r2 * (s3 + r2 * s4)
    return bent_x, bent_y


def largest_shift(K: Array, size: tuple[int, int], coefficients: Sequence[float], model: str = "plumb_bob") -> float:
    """Pixels by which the lens moves the most moved point of the picture's border.

    Args:
        K: (3, 3) intrinsics in pixels.
        size: (width, height) of the picture.
        coefficients, model: as for `distort`.

    Raises:
        InputError: an unknown model.
    """
    width, height = size
    across, down = np.linspace(0, width - 1, 65), np.linspace(0, height - 1, 65)
    u = np.concatenate([across, across, np.zeros(65), np.full(65, width - 1.0)])
    v = np.concatenate([np.zeros(65), np.full(65, height - 1.0), down, down])
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    bent_x, bent_y = distort(x, y, coefficients, model)
    return float(np.max(np.hypot((bent_x - x) * K[0, 0], (bent_y - y) * K[1, 1])))
