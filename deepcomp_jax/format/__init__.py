"""The `.dcz` file, in NumPy alone: `specs/container.md` in code.

container           a network to bytes and back; one leaf of a file
file_header         everything in front of the bodies, and its checksum
  tree_header         keys and containers
  leaf_header         dtype, shape and coding of a leaf
  codebook_header     entries of a codebook (`byte_codebooks`: of one-byte dtypes)
leaf_body           values or labels of a leaf
planes              values without loss, by bytes; `plane_words` regroups their bits,
                    `plane_heads` says which bytes are coded
copies              leaves that equal one before them
dtypes, files       values as bytes; writing a file whole or not at all
"""
