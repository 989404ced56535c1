"""Symbols to bytes and back, in NumPy alone: what codings and the format are made of.

bits          the order of bits in bytes, fields of one width, varints
gaps          positions as distances of a few bits
huffman       streams in a canonical Huffman code; `huffman_code` finds the code,
              `huffman_header` writes it
rans          streams by interleaved rANS; `rans_writing` writes them,
              `rans_models` has the models, `rans_loops` the loops
lane_index    where the lanes of a stream begin, for both kinds
counting      how often symbols occur, and their entropy
"""
