"""What others report: the paper about its two LeNets, and all about sizes and errors.

S. Han, H. Mao and W. J. Dally, "Deep Compression", ICLR 2016, arXiv 1510.00149: Table 1
(errors and sizes), Table 2 (layers of LeNet-300-100) and Table 3 (layers of LeNet-5).

The frontiers hold sizes of whole networks published up to 2026; 1 KB is 1000 bytes. Few
of them count all that a file needs: `measured` and `note` tell what is known of that.
"""

from typing import Literal, NamedTuple

from deepcomp_jax.account import Row


class Published(NamedTuple):
    """A network in the tables of the paper.

    Attributes:
        dense_error: Top-1 test error before compression, in percent.
        error: The same after it.
        dense_bytes: Size before compression; printed in KB, here of 1000 bytes.
        file_bytes: The same after it. The paper counts weights, positions and
            codebooks; it writes no file.
        rows: A row for the kernel of each layer, and the total in the last one.
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

Measured = Literal["file", "coded bytes", "computed", "no bytes"]
WRITTEN: tuple[Measured, ...] = ("file", "coded bytes")
Mark = Literal["weights only", "recalled", "derived", "second-hand"]


class Size(NamedTuple):
    """A size and an error that somebody reports.

    Attributes:
        method: The method, and which of its results if there are several.
        source: Where it is reported: arXiv number, conference or repository.
        size: Bytes of the compressed network; None if only weights were counted.
        ratio: Bytes of the dense fp32 network / `size`; None if none is reported.
        dense_error: Test error of the same network before it; None if it is not known.
        error: Test error after compression, in percent; None if it is not known.
        measured: "file": bytes of a file; "coded bytes": what an entropy coder wrote,
            in no file of its own; "computed": estimated, or counted in bits that
            nothing was written in; "no bytes": weights or units were counted.
        note: What else is to be known.
        marks: Why to be careful. "weights only": BatchNorm, biases or what a decoder
            needs besides is not in the size; where it is not said, nothing is known of
            that. "recalled": not read again at the source; "derived": computed from
            other numbers there, such as a size from a ratio; "second-hand": read where
            somebody else quotes it.
        dense_bytes: Of the dense fp32 network, if it is not that of the frontier.
    """

    method: str
    source: str
    size: int | None
    ratio: float | None
    dense_error: float | None
    error: float | None
    measured: Measured
    note: str = ""
    marks: tuple[Mark, ...] = ()
    dense_bytes: int | None = None


class Frontier(NamedTuple):
    """What is reported of a network on a data set.

    Attributes:
        key: Short name, for files.
        network: Its name, or what the names of all its variants begin with.
        dataset: Name of the data.
        dense_bytes: The size of the fp32 network that nearly all of them, and their
            ratios, begin from.
        differs: How the dense networks of others are not ours, in a sentence; empty if
            all are of the same shapes.
        sizes: All that is reported.
    """

    key: str
    network: str
    dataset: str
    dense_bytes: int
    differs: str
    sizes: tuple[Size, ...]


def _counted(
    method: str,
    source: str,
    dense_error: float | None,
    error: float | None,
    note: str,
    marks: tuple[Mark, ...] = (),
) -> Size:
    """A result of which only weights or units were counted."""
    return Size(method, source, None, None, dense_error, error, "no bytes", note, marks)


_ULLRICH = "KarenUllrich/Tutorial_BayesianCompressionForDL"
_PARAS = "TudorParas/MIRACLE-Neural-Network-Exchange-Format"
_BLOCKS = "bits of a block x blocks"
_TORCHAC = "no BatchNorm, biases, tables"

_LENET300 = (
    Size("Deep Compression", "arXiv 1510.00149", 27_000, 40, 1.64, 1.58, "computed",
         "codebooks and positions counted"),
    Size("Soft weight sharing", "arXiv 1702.04008", 16_663, 64, 1.89, 1.94, "computed",
         "in the format of Deep Compression", ("derived",)),
    Size("Sparse VD, coded", "arXiv 1701.05369", 9_380, 113, 1.6, 1.8, "computed",
         "quoted in arXiv 1705.08665 and 1906.06624", ("recalled",)),
    Size("Bayesian Compr. GNJ", "arXiv 1705.08665", 18_387, 58, 1.6, 1.8, "computed",
         "", ("recalled", "derived")),
    Size("Bayesian Compr. GHS", "arXiv 1705.08665", 18_075, 59, 1.6, 2.0, "computed",
         "", ("recalled", "derived")),
    Size("DeepCABAC", "arXiv 1905.08318", 19_409, 55, 1.9, 2.0, "coded bytes",
         "1.82 % of the dense bytes; error of about 2.0 %", ("recalled", "derived")),
    Size("EPR", "arXiv 1906.06624", 8_560, 124, 1.6, 1.9, "coded bytes"),
    _counted("Pruning only", "arXiv 1506.02626", 1.64, 1.59, "22,000 weights kept"),
    _counted("Dynamic Network Surgery", "arXiv 1608.04493", 2.28, 1.99,
             "1.8 % of weights kept; quoted in arXiv 1702.04008", ("second-hand",)),
    _counted("Sparse VD", "arXiv 1701.05369", 1.64, 1.92, "68x fewer weights"),
    _counted("LC", "arXiv 1810.02340", 1.7, 3.2, "1 % of weights kept; quoted there",
             ("second-hand",)),
    _counted("SNIP", "arXiv 1810.02340", 1.7, 1.6, "5 % of weights kept"),
    _counted("SNIP", "arXiv 1810.02340", 1.7, 2.4, "2 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", 1.34, 1.45, "8 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", 1.34, 1.53, "5 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", 1.34, 1.99, "2 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", 1.34, 2.36, "1 % of weights kept"),
    _counted("L0", "arXiv 1712.01312", None, 1.4, "219-214-100 units", ("recalled",)),
    _counted("L0", "arXiv 1712.01312", None, 1.8, "266-88-33 units", ("recalled",)),
)  # fmt: skip

_LENET5 = (
    Size("Deep Compression", "arXiv 1510.00149", 44_000, 39, 0.80, 0.74, "computed",
         "codebooks and positions counted"),
    Size("Choi 2017, Huffman codes", "arXiv 1612.01543", 33_645, 51.25, 0.75, 0.72,
         "computed", "positions counted", ("derived",)),
    Size("Choi 2018, universal", "arXiv 1802.02271", 13_817, 124.8, None, None,
         "computed", "from the abstract", ("derived",)),
    Size("Soft weight sharing", "arXiv 1702.04008", 10_644, 162, 0.88, 0.97, "computed",
         "in the format of Deep Compression", ("derived",)),
    Size("Sparse VD, fixed bits", _ULLRICH, 7_563, 228, None, 1.0, "computed",
         "estimate of arXiv 1705.08665", ("derived",)),
    Size("Sparse VD, coded", _ULLRICH, 4_724, 365, None, 1.0, "computed",
         "estimate of arXiv 1705.08665", ("recalled", "derived")),
    Size("Bayesian Compr. GNJ, fixed bits", _ULLRICH, 4_777, 361, None, 1.0, "computed",
         "arXiv 1705.08665", ("derived",)),
    Size("Bayesian Compr. GHS, fixed bits", _ULLRICH, 4_115, 419, None, 1.0, "computed",
         "arXiv 1705.08665", ("derived",)),
    Size("Bayesian Compr. GHS, coded", "arXiv 1705.08665", 2_300, 771, None, 1.0,
         "computed", "quoted in arXiv 1810.00440", ("second-hand",)),
    Size("Weightless", "arXiv 1711.04686", 4_520, 382, None, 1.0, "computed",
         "largest layers only; quoted in arXiv 1810.00440",
         ("weights only", "recalled", "second-hand")),
    Size("DeepCABAC journal, any network", "arXiv 1907.11900", 43_434, 39.7, None, None,
         "coded bytes", "", ("derived", "second-hand")),
    Size("DeepCABAC journal, trained for it", "arXiv 1907.11900", 14_994, 115, None,
         None, "coded bytes", "", ("derived", "second-hand")),
    Size("DeepCABAC", "arXiv 1905.08318", 12_415, 139, 0.9, 0.9, "coded bytes",
         "0.72 % of the dense bytes", ("recalled", "derived")),
    Size("EPR", "arXiv 1906.06624", 2_840, 606, 0.7, 1.0, "coded bytes"),
    Size("MIRACLE, lowest error", "arXiv 1810.00440", 3_030, 555, 0.7, 0.69, "computed",
         _BLOCKS),
    Size("MIRACLE, smallest", "arXiv 1810.00440", 1_520, 1110, 0.7, 0.96, "computed",
         _BLOCKS),
    Size("MIRACLE file, larger", _PARAS, 1_694, 1018, None, 0.83, "file",
         "lenet5_20_10_v1.mrcl at 04166f7; error as its README says"),
    Size("MIRACLE file, smaller", _PARAS, 1_140, 1513, None, 0.98, "file",
         "lenet5_30_10_v1.mrcl at 04166f7; error as its README says"),
    _counted("Pruning only", "arXiv 1506.02626", 0.80, 0.77, "36,000 weights kept"),
    _counted("Dynamic Network Surgery", "arXiv 1608.04493", 0.91, 0.91,
             "0.9 % of weights kept"),
    _counted("Sparse VD", "arXiv 1701.05369", 0.80, 0.75, "280x fewer weights"),
    _counted("Sparse VD, pruned only", _ULLRICH, None, 1.0,
             "63x fewer weights; estimate of arXiv 1705.08665"),
    _counted("ADMM, progressive", "arXiv 1903.09769", None, None,
             "246x fewer weights; almost no loss"),
    _counted("ADMM-NN", "arXiv 1812.11677", None, None,
             "1910x fewer bits of weights; positions not counted", ("recalled",)),
    _counted("Frequency-domain pruning", "NeurIPS 2018", None, 0.92,
             "2,800 weights kept", ("second-hand",)),
    _counted("VNQ, ternary", "ICLR 2018", 0.8, 0.83,
             "24.5 % of weights kept, 2 bits each"),
    _counted("L0", "arXiv 1712.01312", None, 0.9, "20-25-45-462 units"),
    _counted("L0, separate", "arXiv 1712.01312", None, 1.0,
             "9-18-65-25 units: about 6,200 weights", ("derived",)),
    _counted("SNIP", "arXiv 1810.02340", 0.9, 0.8, "2 % of weights kept"),
    _counted("SNIP", "arXiv 1810.02340", 0.9, 1.1, "1 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", None, 0.76, "2 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", None, 0.83, "1 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", None, 1.14,
             "0.5 % of weights kept"),
    _counted("Sparse Momentum", "arXiv 1907.04840", None, 1.40,
             "0.4 % of weights kept"),
)  # fmt: skip

# Of VGG-16 without the two large dense layers, but for one smaller network.
_VGG = (
    Size("Bayesian Compr. GNJ", "arXiv 1705.08665", 642_000, 95, None, 8.6, "computed",
         "quoted in arXiv 1810.00440", ("second-hand",)),
    Size("Bayesian Compr. GHS", "arXiv 1705.08665", 525_000, 116, None, 9.2, "computed",
         "quoted in arXiv 1810.00440; 9.0 % in the README of its authors",
         ("second-hand",)),
    Size("DeepCABAC", "arXiv 1905.08318", 960_000, 62, None, 9.0, "coded bytes",
         "quoted in arXiv 2204.02965", ("second-hand",)),
    Size("MIRACLE, lowest error", "arXiv 1810.00440", 384_000, 159, 6.5, 6.57,
         "computed", _BLOCKS + ", no BatchNorm; corrected below", ("weights only",)),
    Size("MIRACLE, lowest error, corrected", "arXiv 1810.00440", 417_000, 144, 6.5,
         6.57, "computed", _BLOCKS + ", no BatchNorm; ratio derived",
         ("weights only", "second-hand")),
    Size("MIRACLE, smallest", "arXiv 1810.00440", 135_000, 452, 6.5, 10.0,
         "computed", _BLOCKS + ", no BatchNorm; corrected below", ("weights only",)),
    Size("MIRACLE, smallest, corrected", "arXiv 1810.00440", 168_000, 357, 6.5, 10.0,
         "computed", _BLOCKS + ", no BatchNorm; ratio derived",
         ("weights only", "second-hand")),
    Size("EPR", "arXiv 1906.06624", 101_000, 590, 6.6, 10.0, "coded bytes"),
    Size("LilNetX", "arXiv 2204.02965", 129_000, 465, 6.6, 7.4, "coded bytes", _TORCHAC,
         ("weights only", "second-hand")),
    Size("LilNetX, smallest", "arXiv 2204.02965", 76_000, 800, 6.6, 10.0, "coded bytes",
         _TORCHAC, ("weights only", "second-hand")),
    Size("MPT", "arXiv 2103.09377", 161_000, None, None, 8.52, "computed",
         "entropy of the mask of a VGG-Small, 4.6 M weights",
         ("weights only", "derived", "second-hand"), dense_bytes=18_400_000),
    _counted("DeepCABAC journal, any network", "arXiv 1907.11900", None, None,
             "17.0x, of a network of unknown size", ("second-hand",)),
    _counted("DeepCABAC journal, trained for it", "arXiv 1907.11900", 8.46, 8.65,
             "52.6x, of a network of unknown size", ("second-hand",)),
    _counted("Sparse VD", "arXiv 1701.05369", None, None,
             "48x to 68x fewer weights; about as the dense network", ("second-hand",)),
)  # fmt: skip

_SMALLER = """\
Others: VGG-16 without its two large dense layers, 60 MB. Ours: VGG19 with
them, 155.9 MB, or of fewer channels. Compare bytes, not ratios."""

FRONTIERS = (
    Frontier("lenet300", "LeNet-300-100", "MNIST", 1_066_440, "", _LENET300),
    Frontier("lenet5", "LeNet-5", "MNIST", 1_724_320, "", _LENET5),
    Frontier("vgg", "VGG", "CIFAR-10", 60_000_000, _SMALLER, _VGG),
)
