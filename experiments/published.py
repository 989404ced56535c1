"""What the paper reports of its two LeNets.

S. Han, H. Mao and W. J. Dally, "Deep Compression", ICLR 2016, arXiv 1510.00149: Table 1
(errors and sizes), Table 2 (layers of LeNet-300-100) and Table 3 (layers of LeNet-5).
"""

from typing import NamedTuple

from deepcomp_jax.account import Row


class Published(NamedTuple):
    """A network in the tables of the paper.

    Attributes:
        dense_error: Top-1 test error before compression, in percent.
        error: The same after it.
        dense_bytes: Size before compression; printed in KB, here of 1000 bytes.
        file_bytes: The same after it. The paper counts weights, positions and
            codebooks; it writes no file.
        rows: Of the kernels of its layers, and the last of the total.
    """

    dense_error: float
    error: float
    dense_bytes: int
    file_bytes: int
    rows: tuple[Row, ...]


LENET300 = Published(
    dense_error=1.64,
    error=1.58,
    dense_bytes=1_070_000,
    file_bytes=27_000,
    rows=(
        Row("ip1", 235_000, 0.08, 6, 4.4, 5, 3.7, 0.031, 0.0232),
        Row("ip2", 30_000, 0.09, 6, 4.4, 5, 4.3, 0.038, 0.0304),
        Row("ip3", 1_000, 0.26, 6, 4.3, 5, 3.2, 0.157, 0.1270),
        Row("total", 266_000, 0.08, 6, 5.1, 5, 3.7, 0.031, 0.0249),
    ),
)

LENET5 = Published(
    dense_error=0.80,
    error=0.74,
    dense_bytes=1_720_000,
    file_bytes=44_000,
    rows=(
        Row("conv1", 500, 0.66, 8, 7.2, 5, 1.5, 0.785, 0.6745),
        Row("conv2", 25_000, 0.12, 8, 7.2, 5, 3.9, 0.060, 0.0528),
        Row("ip1", 400_000, 0.08, 5, 4.5, 5, 4.5, 0.027, 0.0245),
        Row("ip2", 5_000, 0.19, 5, 5.2, 5, 3.7, 0.069, 0.0613),
        Row("total", 431_000, 0.08, 5.3, 4.1, 5, 4.4, 0.0305, 0.0255),
    ),
)
